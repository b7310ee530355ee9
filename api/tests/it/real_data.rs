//! Published forecasts, imported by the real binary while a server runs: what
//! the file says is what is read, and what was imported is what was seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::server::{Kind, Process, connect, on_both, smartpulse};
use crate::wait::{eventually, soon};

on_both!(
    spain_is_read_as_it_was_published,
    energinet_is_known_as_it_was_issued,
    a_file_with_too_many_bad_rows_leaves_no_trace,
);

const SPAIN: &str = "spain_2015_2018_hourly.csv.gz";
const SPAIN_MAPPING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/mappings/spain_2015_2018_hourly.toml"
);
const SOLAR: &str = "group:34001";
const WIND: &str = "group:34002";
const ENERGINET: &str = "energinet_dk2_onshore_wind_2024-03_versions.csv";
const ENERGINET_MAPPING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/mappings/energinet_dk2_onshore_wind_2024-03_versions.toml"
);
const DK2: &str = "group:45002";

/// The files: the published ones where the variable says, else files of the
/// same shape made here. The published ones are not in the repository, since
/// the licence of some is not known; what is tested does not depend on their
/// numbers, only on their form, length and clock changes.
struct Data {
    folder: PathBuf,
    _made: Option<TempDir>,
}

impl Data {
    fn find() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told where the published data is by the environment"
        )]
        if let Ok(folder) = std::env::var("SMARTPULSE_TEST_DATA") {
            return Self {
                folder: folder.into(),
                _made: None,
            };
        }
        let made = TempDir::new().unwrap();
        // The reader knows a compressed file by its first bytes, not by its name.
        std::fs::write(made.path().join(SPAIN), synthetic_spain()).unwrap();
        std::fs::write(made.path().join(ENERGINET), synthetic_energinet()).unwrap();
        Self {
            folder: made.path().to_owned(),
            _made: Some(made),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name)).unwrap();
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return String::from_utf8(bytes).unwrap();
        }
        let output = std::process::Command::new("gzip")
            .args(["-dc"])
            .arg(self.path(name))
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Hours of the four years, with what two power plants might give.
fn synthetic_spain() -> String {
    let zone = TimeZone::get("Europe/Madrid").unwrap();
    let mut text = String::from(
        "time,generation solar,forecast solar day ahead,forecast wind onshore day ahead\n",
    );
    let mut at: Timestamp = "2014-12-31T23:00:00Z".parse().unwrap();
    let end: Timestamp = "2018-12-31T23:00:00Z".parse().unwrap();
    let mut n: u32 = 0;
    while at < end {
        let local = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z");
        let (solar, wind) = (n * 7919 % 5000, n * 104_729 % 16_000);
        text.push_str(&format!("{local},,{solar}.0,{wind}.5\n"));
        at += SignedDuration::from_hours(1);
        n += 1;
    }
    text
}

/// Five versions of each of 480 hours, two of which are missing now and then.
fn synthetic_energinet() -> String {
    let zone = TimeZone::get("Europe/Copenhagen").unwrap();
    let mut text = String::from(
        "HourUTC;HourDK;PriceArea;ForecastType;ForecastDayAhead;ForecastIntraday;Forecast5Hour;Forecast1Hour;ForecastCurrent;TimestampUTC;TimestampDK\n",
    );
    let mut at: Timestamp = "2024-02-29T23:00:00Z".parse().unwrap();
    for n in 0..480u32 {
        let utc = at.strftime("%Y-%m-%d %H:%M");
        let local = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M");
        let value = |version: u32| match version {
            3 | 4 if n % 37 == 5 => String::new(),
            _ => format!("{},{:06}", n * 31 % 500, version * 100_003),
        };
        text.push_str(&format!(
            "{utc};{local};DK2;Onshore Wind;{};{};{};{};{};{utc};{local}\n",
            value(1),
            value(2),
            value(3),
            value(4),
            value(5)
        ));
        at += SignedDuration::from_hours(1);
    }
    text
}

/// One value of a file, when it was issued, and in which column it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Issued {
    at: Timestamp,
    column: usize,
    mwh: f64,
}

/// By delivery start, every value that the file has for it.
type Versions = BTreeMap<Timestamp, Vec<Issued>>;

/// The rows of a table without quotes, and where its columns stand.
fn table(text: &str, delimiter: char) -> (Vec<&str>, impl Iterator<Item = Vec<&str>>) {
    let mut lines = text.lines();
    let header = lines.next().unwrap().split(delimiter).collect();
    (
        header,
        lines.map(move |line| line.split(delimiter).collect()),
    )
}

fn column(header: &[&str], name: &str) -> usize {
    header.iter().position(|other| *other == name).unwrap()
}

fn local(date: Date, hour: i8, zone: &str) -> Timestamp {
    let zone = TimeZone::get(zone).unwrap();
    date.at(hour, 0, 0, 0).to_zoned(zone).unwrap().timestamp()
}

fn local_date(at: Timestamp, zone: &str) -> Date {
    at.to_zoned(TimeZone::get(zone).unwrap()).date()
}

/// A forecast of Spain by its column.
fn spain(text: &str, name: &str) -> Versions {
    let (header, rows) = table(text, ',');
    let (time, value) = (column(&header, "time"), column(&header, name));
    rows.filter(|row| !row[value].is_empty())
        .map(|row| {
            let at: Timestamp = row[time].replace(' ', "T").parse().unwrap();
            let day = local_date(at, "Europe/Madrid");
            let issued = Issued {
                at: local(day.yesterday().unwrap(), 18, "Europe/Madrid"),
                column: 0,
                mwh: row[value].parse().unwrap(),
            };
            (at, vec![issued])
        })
        .collect()
}

fn energinet(text: &str) -> Versions {
    let (header, rows) = table(text, ';');
    let time = column(&header, "HourUTC");
    let columns = [
        "ForecastDayAhead",
        "ForecastIntraday",
        "Forecast5Hour",
        "Forecast1Hour",
        "ForecastCurrent",
    ]
    .map(|name| column(&header, name));
    rows.map(|row| {
        let at: Timestamp = format!("{}:00Z", row[time].replace(' ', "T"))
            .parse()
            .unwrap();
        let zone = "Europe/Copenhagen";
        let day = local_date(at, zone);
        let issue_times = [
            local(day.yesterday().unwrap(), 18, zone),
            local(day, 6, zone),
            at - SignedDuration::from_hours(5),
            at - SignedDuration::from_hours(1),
            at,
        ];
        let versions = columns
            .into_iter()
            .enumerate()
            .filter(|(_, place)| !row[*place].is_empty())
            .map(|(i, place)| Issued {
                at: issue_times[i],
                column: i,
                mwh: row[place].replace(',', ".").parse().unwrap(),
            })
            .collect();
        (at, versions)
    })
    .collect()
}

/// What counts of the versions of an hour: the one issued last, the later
/// column of two that were issued at once.
fn newest(versions: &[Issued], admits: impl Fn(&Issued) -> bool) -> Option<Issued> {
    versions
        .iter()
        .filter(|issued| admits(issued))
        .max_by_key(|issued| (issued.at, issued.column))
        .copied()
}

/// The values of the hours from `from` to `to`, as the file has them.
fn of_hours(
    versions: &Versions,
    from: Timestamp,
    to: Timestamp,
    admits: impl Fn(&Issued) -> bool,
) -> Value {
    let hours = (to.as_second() - from.as_second()) / 3600;
    let values = (0..hours).map(|hour| {
        let at = from + SignedDuration::from_hours(hour);
        let newest = newest(versions.get(&at)?, &admits)?;
        Some(newest.mwh)
    });
    json!(values.collect::<Vec<_>>())
}

const FORECASTS: &str = "query($selections: [ForecastSelection!]!) {
    forecasts(selections: $selections) { values points { run { id issuedAt } } } }";

fn selection(unit: &str, provider: &str, from: Timestamp, to: Timestamp, view: Value) -> Value {
    json!({ "unit": unit, "provider": provider, "resolution": "PT1H",
            "from": from.to_string(), "to": to.to_string(), "view": view })
}

async fn forecasts(client: &Client, selections: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for some in selections.chunks(1000) {
        let mut data = client.data(FORECASTS, json!({ "selections": some })).await;
        let Value::Array(forecasts) = data["forecasts"].take() else {
            panic!("{data}");
        };
        all.extend(forecasts);
    }
    all
}

fn import(url: &str, file: &Path, mapping: &str, more: &[&str]) -> Output {
    let file = file.display().to_string();
    let arguments = ["import", &file, "--mapping", mapping, "--database-url", url];
    smartpulse(&[&arguments, more].concat())
}

const CHANGED: &str = "subscription($after: Position) { forecastChanged(after: $after) {
    position unit { key } run { id } points { deliveryStart mwh issuedAt } } }";

/// A change as a subscriber saw it.
struct Seen {
    position: String,
    run: String,
    unit: String,
    points: Vec<(Timestamp, Issued)>,
}

fn seen(mut change: Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let instant = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let points = change["points"].take();
    Seen {
        position: text(&change["position"]),
        run: text(&change["run"]["id"]),
        unit: text(&change["unit"]["key"]),
        points: points
            .as_array()
            .unwrap()
            .iter()
            .map(|point| {
                let issued = Issued {
                    at: instant(&point["issuedAt"]),
                    column: 0,
                    mwh: point["mwh"].as_f64().unwrap(),
                };
                (instant(&point["deliveryStart"]), issued)
            })
            .collect(),
    }
}

/// What a subscriber sees until so many changes, or until a position.
async fn follow(client: &Client, after: &str, most: usize, end: Option<&str>) -> Vec<Seen> {
    let mut socket = client.subscribe(CHANGED, json!({ "after": after })).await;
    let mut changes: Vec<Seen> = Vec::new();
    while changes.len() < most
        && end.is_none_or(|end| changes.last().is_none_or(|last| last.position != end))
    {
        let mut data = soon("a change", socket.data()).await;
        changes.push(seen(data["forecastChanged"].take()));
    }
    changes
}

/// Imports a file while a server runs, and two subscribers follow: one that
/// was there all the time, and one that broke off and came back. Returns the
/// server, once they have seen what stands in the log.
async fn import_watched(
    url: &str,
    file: PathBuf,
    mapping: &'static str,
    by_unit: &[(&str, &Versions)],
) -> Process {
    let of_process = url.to_owned();
    let server = tokio::task::spawn_blocking(move || Process::start(&of_process))
        .await
        .unwrap();
    let (_, report) = server.client.get_json("/health/ready").await;
    let start = report["tail"]["applied"].as_str().unwrap().to_owned();
    let mut before = server.client.subscribe(CHANGED, Value::Null).await;
    eventually("the subscriber has joined", async || {
        (server.client.metric("smartpulse_live_operations").await == 1.0).then_some(())
    })
    .await;
    // A run is a change at least.
    let runs: usize = by_unit
        .iter()
        .map(|(_, versions)| {
            let issue_times = versions.values().flatten().map(|issued| issued.at);
            issue_times.collect::<std::collections::BTreeSet<_>>().len()
        })
        .sum();
    let half = runs / 2;
    let (client, after) = (server.client.clone(), start.clone());
    let mut second = JoinSet::new();
    second.spawn(async move {
        // It reads half of the changes and is gone.
        follow(&client, &after, half, None).await
    });

    let of_import = url.to_owned();
    let imported = tokio::task::spawn_blocking(move || import(&of_import, &file, mapping, &[]));
    let imported = imported.await.unwrap();
    let said = String::from_utf8(imported.stdout).unwrap();
    let complained = String::from_utf8(imported.stderr).unwrap();
    assert!(imported.status.success(), "{complained}");
    assert!(said.contains(" 0 rows rejected"), "{said}");
    let end = said
        .lines()
        .find_map(|line| line.strip_prefix("change log position: "))
        .unwrap();

    let mut all: Vec<Seen> = Vec::new();
    while all.last().is_none_or(|last| last.position != end) {
        let mut data = soon("a change", before.data()).await;
        all.push(seen(data["forecastChanged"].take()));
    }
    let mut resumed = second.join_next().await.unwrap().unwrap();
    let last = resumed.last().unwrap().position.clone();
    resumed.extend(follow(&server.client, &last, usize::MAX, Some(end)).await);

    let truth = logged(url, &start).await;
    assert!(truth.len() > 100, "{}", truth.len());
    for changes in [&all, &resumed] {
        let positions: Vec<(String, String)> = changes
            .iter()
            .map(|change| (change.position.clone(), change.run.clone()))
            .collect();
        assert!(
            positions == truth,
            "a subscriber saw something else than the log"
        );
    }
    // Each value of the file came, once, as it stands there.
    for (unit, versions) in by_unit {
        let mut came: Versions = BTreeMap::new();
        for change in all.iter().filter(|change| change.unit == *unit) {
            for (at, issued) in &change.points {
                came.entry(*at).or_default().push(*issued);
            }
        }
        // Of two with one issue time, that of the later column came later.
        let mut expect: Versions = BTreeMap::new();
        for (at, versions) in *versions {
            let of_any = |issued: &Issued| Issued {
                column: 0,
                ..*issued
            };
            let mut versions: Vec<Issued> = versions.iter().map(of_any).collect();
            versions.sort_by_key(|issued| issued.at);
            expect.insert(*at, versions);
        }
        for versions in came.values_mut() {
            versions.sort_by_key(|issued| issued.at);
        }
        assert!(came == expect, "{unit}: what came is not what the file has");
    }
    server
}

/// Position and run of each forecast change after `start`, as the log has them.
async fn logged(url: &str, start: &str) -> Vec<(String, String)> {
    let (epoch, number) = start.split_once('.').unwrap();
    let db = connect(url).await;
    let rows = db
        .reader()
        .query_all_raw(Statement::from_string(
            db.backend(),
            format!(
                "SELECT position, run_id FROM change WHERE entity = 'FORECAST' AND position > {number} ORDER BY position"
            ),
        ))
        .await
        .unwrap();
    db.close().await.unwrap();
    rows.iter()
        .map(|row| {
            let position: i64 = row.try_get("", "position").unwrap();
            let run: i64 = row.try_get("", "run_id").unwrap();
            (format!("{epoch}.{position}"), format!("run:{run}"))
        })
        .collect()
}

async fn spain_is_read_as_it_was_published(kind: Kind) {
    let data = Data::find();
    let text = data.read(SPAIN);
    let solar = spain(&text, "forecast solar day ahead");
    let wind = spain(&text, "forecast wind onshore day ahead");
    assert_eq!(solar.len(), 35_064);
    let database = kind.database().await;
    let by_unit = [(SOLAR, &solar), (WIND, &wind)];
    let server = import_watched(database.url(), data.path(SPAIN), SPAIN_MAPPING, &by_unit).await;

    // The first day, the last, both clock changes of a year, and a whole month.
    let mut selections = Vec::new();
    let mut expected = Vec::new();
    for (from, days, hours) in [
        ("2015-01-01", 1, 24),
        ("2018-12-31", 1, 24),
        ("2017-03-25", 1, 24),
        ("2017-03-26", 1, 23),
        ("2017-10-29", 1, 25),
        ("2017-10-28", 3, 73),
        ("2016-02-01", 29, 29 * 24),
    ] {
        let date: Date = from.parse().unwrap();
        let mut end = date;
        for _ in 0..days {
            end = end.tomorrow().unwrap();
        }
        let from = local(date, 0, "Europe/Madrid");
        let to = local(end, 0, "Europe/Madrid");
        for (unit, versions) in by_unit {
            selections.push(selection(unit, "entsoe", from, to, Value::Null));
            let values = of_hours(versions, from, to, |_| true);
            assert_eq!(values.as_array().unwrap().len(), hours, "{date}");
            assert!(
                values.as_array().unwrap().iter().all(Value::is_number),
                "{date}"
            );
            expected.push(values);
            // Nobody knew it a moment before it was issued.
            let issued = local(date.yesterday().unwrap(), 18, "Europe/Madrid");
            let known_at = |at: Timestamp| {
                selection(
                    unit,
                    "entsoe",
                    from,
                    to,
                    json!({ "knownAt": at.to_string() }),
                )
            };
            let before = issued - SignedDuration::from_micros(1);
            selections.push(known_at(before));
            expected.push(of_hours(versions, from, to, |version| version.at <= before));
            selections.push(known_at(issued));
            expected.push(of_hours(versions, from, to, |version| version.at <= issued));
        }
    }
    let answers = forecasts(&server.client, &selections).await;
    for ((selection, answer), expect) in selections.iter().zip(&answers).zip(&expected) {
        assert_eq!(&answer["values"], expect, "{selection}");
    }
    tokio::task::block_in_place(|| server.kill());
}

async fn energinet_is_known_as_it_was_issued(kind: Kind) {
    let data = Data::find();
    let versions = energinet(&data.read(ENERGINET));
    assert_eq!(versions.len(), 480);
    let database = kind.database().await;
    let server = import_watched(
        database.url(),
        data.path(ENERGINET),
        ENERGINET_MAPPING,
        &[(DK2, &versions)],
    )
    .await;
    let first = *versions.keys().next().unwrap();
    let end = *versions.keys().next_back().unwrap() + SignedDuration::from_hours(1);

    // The latest of all of it, at once.
    let all = selection(DK2, "energinet", first, end, Value::Null);
    let latest = forecasts(&server.client, &[all]).await;
    assert_eq!(
        latest[0]["values"],
        of_hours(&versions, first, end, |_| true)
    );

    // Each hour just before and just when each of its versions was issued.
    let mut selections = Vec::new();
    let mut expected = Vec::new();
    for (at, of_hour) in &versions {
        let to = *at + SignedDuration::from_hours(1);
        for issued in of_hour {
            let before = issued.at - SignedDuration::from_micros(1);
            for known_at in [before, issued.at] {
                let view = json!({ "knownAt": known_at.to_string() });
                selections.push(selection(DK2, "energinet", *at, to, view));
                expected.push(newest(of_hour, |version| version.at <= known_at));
            }
        }
    }
    let answers = forecasts(&server.client, &selections).await;
    assert!(expected.iter().any(Option::is_none) && selections.len() > 4000);
    // A run is what one column has with one issue time.
    let mut runs: BTreeMap<String, (Timestamp, usize)> = BTreeMap::new();
    for ((selection, answer), expect) in selections.iter().zip(&answers).zip(&expected) {
        let mwh = expect.map(|issued| issued.mwh);
        assert_eq!(answer["values"], json!([mwh]), "{selection}");
        let Some(issued) = expect else { continue };
        let run = &answer["points"][0]["run"];
        let issued_at: Timestamp = run["issuedAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(issued_at, issued.at, "{selection}");
        let id = run["id"].as_str().unwrap().to_owned();
        let known = runs.insert(id, (issued.at, issued.column));
        assert!(known.is_none_or(|known| known == (issued.at, issued.column)));
    }

    // Each run, over everything: what it gave, and nothing else.
    let mut all: Vec<(&String, (Timestamp, usize))> =
        runs.iter().map(|(id, of)| (id, *of)).collect();
    all.sort_by_key(|(_, of)| *of);
    // A tenth of them is enough: each is asked for all 480 hours.
    for some in all.chunks(500) {
        let some: Vec<_> = some.iter().step_by(10).collect();
        let selections: Vec<Value> = some
            .iter()
            .map(|(id, _)| selection(DK2, "energinet", first, end, json!({ "runId": id })))
            .collect();
        let answers = forecasts(&server.client, &selections).await;
        for (answer, (id, (at, column))) in answers.iter().zip(some) {
            let of_run = |issued: &Issued| (issued.at, issued.column) == (*at, *column);
            let expect = of_hours(&versions, first, end, of_run);
            assert_eq!(answer["values"], expect, "{id} of {at}");
        }
    }
    tokio::task::block_in_place(|| server.kill());
}

async fn a_file_with_too_many_bad_rows_leaves_no_trace(kind: Kind) {
    let data = Data::find();
    let text = data.read(ENERGINET);
    let mut lines: Vec<String> = text.lines().take(101).map(str::to_owned).collect();
    for bad in [10, 50, 90] {
        lines[bad] = lines[bad].replacen("2024-", "24-", 1);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.csv");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let database = kind.database().await;
    let rows = async |table: &str| {
        let db = connect(database.url()).await;
        let count = Statement::from_string(db.backend(), format!("SELECT count(*) FROM {table}"));
        let row = db.reader().query_one_raw(count).await.unwrap().unwrap();
        db.close().await.unwrap();
        row.try_get_by_index::<i64>(0).unwrap()
    };
    for more in [&[][..], &["--max-rejects", "2"]] {
        let output = import(database.url(), &file, ENERGINET_MAPPING, more);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        for part in [
            "3 rows are bad",
            "nothing was written",
            "--max-rejects",
            "line 11",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        for table in [
            "unit",
            "provider",
            "series",
            "forecast_run",
            "forecast_curve",
            "change",
        ] {
            assert_eq!(rows(table).await, 0, "{table}");
        }
    }
    let output = import(
        database.url(),
        &file,
        ENERGINET_MAPPING,
        &["--max-rejects", "3"],
    );
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("3 rows rejected"), "{said}");
    assert!(rows("forecast_run").await > 0);
}
