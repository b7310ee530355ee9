//! Importing a file, against what the databases' own tools take for the same
//! values as rows: a row a value, in the order in which the file has them, with
//! the keys and references that a table of rows has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use migration::testing::TestDatabase;

use crate::process::Server;
use crate::report::{line, median, section};

const ROUNDS: usize = 9;

/// The mapping of the Spanish file, which the repository has.
const MAPPING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/mappings/spain_2015_2018_hourly.toml"
);

pub(crate) async fn run() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = spanish_file(folder.path());
    section("import of 70,128 hourly values, parsing included");

    // First: a PostgreSQL that was just filled cleans up for a while.
    let (mut ours, mut theirs, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let database = TestDatabase::sqlite().await;
        ours.push(import(database.url(), &file));
        theirs.push(insert_rows(&database.file().expect("a file")));
        let server = Server::smartpulse(database.url());
        ready.push(server.ready_after.as_secs_f64());
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    line(
        "SQLite",
        &format!(
            "{ours:.0} values/s, a raw prepared transaction of rows {theirs:.0}: ratio {:.2} (limit 1)",
            ours / theirs
        ),
    );
    line(
        "`serve` on that database, to ready",
        &format!("{:.0} ms (limit 1 s)", median(&mut ready) * 1e3),
    );

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let database = TestDatabase::postgres().await;
        ours.push(import(database.url(), &file));
        theirs.push(copy_rows(database.url(), folder.path()));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    line(
        "PostgreSQL",
        &format!(
            "{ours:.0} values/s, `psql \\copy` of the same rows {theirs:.0}: ratio {:.2} (limit 4)",
            ours / theirs
        ),
    );
}

/// The real file where the tests have it, else one of its shape.
fn spanish_file(folder: &Path) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench is told where real data is"
    )]
    let data = std::env::var_os("SMARTPULSE_TEST_DATA");
    if let Some(data) = data {
        return Path::new(&data).join("spain_2015_2018_hourly.csv.gz");
    }
    let path = folder.join("spain.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
    writeln!(
        file,
        "time,forecast solar day ahead,forecast wind onshore day ahead"
    )
    .expect("written");
    let first = time::macros::datetime!(2014-12-31 23:00 UTC);
    for hour in 0..35_064 {
        let at = first + time::Duration::hours(hour);
        writeln!(
            file,
            "{} {:02}:00:00+00:00,{}.0,{}.0",
            at.date(),
            at.hour(),
            hour % 4000,
            hour * 7 % 17_000
        )
        .expect("written");
    }
    path
}

/// Values a second, as `smartpulse import` reports them.
fn import(url: &str, file: &Path) -> f64 {
    let output = Command::new(env!("CARGO_BIN_EXE_smartpulse"))
        .args([
            "import",
            "--no-progress",
            "--database-url",
            url,
            "--mapping",
            MAPPING,
        ])
        .arg(file)
        .output()
        .expect("the import runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = text
        .split(", ")
        .find_map(|part| part.split_once(" values/s"))
        .unwrap_or_else(|| panic!("no rate in {text}"))
        .0;
    rate.replace(',', "").parse().expect("a number")
}

fn psql(url: &str, script: &str) -> String {
    let output = Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", url, "-c"])
        .arg("\\timing on")
        .args(script.lines().flat_map(|line| ["-c", line]))
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The values just imported, copied as rows: values a second of the copy alone.
fn copy_rows(url: &str, folder: &Path) -> f64 {
    let csv = folder.join("rows.csv").display().to_string();
    psql(
        url,
        &format!(
            "\\copy (SELECT series_id, delivery_start, issued_at, run_id, mwh FROM forecast_value ORDER BY delivery_start, series_id) TO '{csv}' CSV\n\
             CREATE TABLE forecast_row (series_id bigint NOT NULL REFERENCES series (id), delivery_start timestamptz NOT NULL, \
             issued_at timestamptz NOT NULL, run_id bigint NOT NULL REFERENCES forecast_run (id), mwh double precision NOT NULL, \
             PRIMARY KEY (series_id, delivery_start, issued_at, run_id))"
        ),
    );
    let rows = std::fs::read_to_string(&csv)
        .expect("the rows")
        .lines()
        .count();
    let told = psql(url, &format!("\\copy forecast_row FROM '{csv}' CSV"));
    let milliseconds: f64 = told
        .lines()
        .find_map(|line| line.strip_prefix("Time: ")?.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no time in {told}"));
    rows as f64 / milliseconds * 1e3
}

/// The values just imported, inserted as rows in one prepared transaction.
fn insert_rows(file: &Path) -> f64 {
    let mut db = rusqlite::Connection::open(file).expect("the database");
    db.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -32000; \
         CREATE TABLE forecast_row (series_id INTEGER NOT NULL REFERENCES series (id), delivery_start TEXT NOT NULL, \
         issued_at TEXT NOT NULL, run_id INTEGER NOT NULL REFERENCES forecast_run (id), mwh REAL NOT NULL, \
         PRIMARY KEY (series_id, delivery_start, issued_at, run_id)) STRICT, WITHOUT ROWID;",
    )
    .expect("a table of rows");
    type Row = (i64, String, String, i64, f64);
    let rows: Vec<Row> = db
        .prepare(
            "SELECT series_id, delivery_start, issued_at, run_id, mwh FROM forecast_value \
             ORDER BY delivery_start, series_id",
        )
        .expect("the view")
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })
        .expect("the rows")
        .collect::<Result<_, _>>()
        .expect("the rows");
    let began = Instant::now();
    let txn = db.transaction().expect("a transaction");
    {
        let mut insert = txn
            .prepare("INSERT INTO forecast_row VALUES (?1, ?2, ?3, ?4, ?5)")
            .expect("an insert");
        for row in &rows {
            insert
                .execute((row.0, &row.1, &row.2, row.3, row.4))
                .expect("a row");
        }
    }
    txn.commit().expect("committed");
    rows.len() as f64 / began.elapsed().as_secs_f64()
}
