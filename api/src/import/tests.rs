//! Whole imports, on both databases.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::database::{Database, DatabaseSettings};
use migration::testing::TestDatabase;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2024-06-01 12:00 UTC);

/// A value as the view `forecast_value` has it.
#[derive(Debug, PartialEq)]
struct Stored {
    unit: i64,
    provider: String,
    resolution: String,
    issued_at: OffsetDateTime,
    delivery_start: OffsetDateTime,
    mwh: f64,
}

struct Bench {
    db: Database,
    dir: TempDir,
    _test: TestDatabase,
}

impl Bench {
    async fn each() -> [Self; 2] {
        [
            Self::on(TestDatabase::sqlite().await).await,
            Self::on(TestDatabase::postgres().await).await,
        ]
    }

    async fn on(test: TestDatabase) -> Self {
        let settings = DatabaseSettings {
            url: test.url().to_owned(),
            max_connections: 2,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(20),
            create_if_missing: false,
        };
        Self {
            db: Database::connect(&settings).await.unwrap(),
            dir: TempDir::new().unwrap(),
            _test: test,
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    async fn long(&self, text: &str, max_rejects: u64) -> Result<Summary, ImportError> {
        let args = ImportArgs {
            max_rejects,
            create: true,
            ..args(self.file("long.csv", text))
        };
        run(&self.db, &args, NOW).await
    }

    async fn wide(&self, text: &str, mapping: &str) -> Result<Summary, ImportError> {
        let args = ImportArgs {
            mapping: Some(self.file("mapping.toml", mapping)),
            max_rejects: 100,
            create: true,
            ..args(self.file("wide.csv", text))
        };
        run(&self.db, &args, NOW).await
    }

    async fn stored(&self, condition: &str) -> Vec<Stored> {
        let sql = format!(
            "SELECT unit_number, provider_key, resolution, issued_at, delivery_start, mwh FROM forecast_value \
             WHERE {condition} ORDER BY unit_number, resolution, delivery_start, issued_at, run_id"
        );
        self.db
            .reader()
            .query_all_raw(Statement::from_string(self.db.backend(), sql))
            .await
            .unwrap()
            .iter()
            .map(|row| Stored {
                unit: row.try_get("", "unit_number").unwrap(),
                provider: row.try_get("", "provider_key").unwrap(),
                resolution: row.try_get("", "resolution").unwrap(),
                issued_at: row.try_get("", "issued_at").unwrap(),
                delivery_start: row.try_get("", "delivery_start").unwrap(),
                mwh: row.try_get("", "mwh").unwrap(),
            })
            .collect()
    }

    /// Each value's start, issue time and MWh, as text.
    async fn brief(&self) -> Vec<String> {
        let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
        self.stored("true")
            .await
            .iter()
            .map(|v| format!("{} {} {}", text(v.delivery_start), text(v.issued_at), v.mwh))
            .collect()
    }

    async fn count(&self, table: &str) -> i64 {
        self.db
            .reader()
            .query_one_raw(Statement::from_string(
                self.db.backend(),
                format!("SELECT count(*) AS n FROM {table}"),
            ))
            .await
            .unwrap()
            .unwrap()
            .try_get("", "n")
            .unwrap()
    }
}

fn args(file: PathBuf) -> ImportArgs {
    ImportArgs {
        file,
        mapping: None,
        max_rejects: 0,
        create: false,
        no_progress: true,
    }
}

#[tokio::test]
async fn long_rows_come_back_exactly() {
    for bench in Bench::each().await {
        let summary = bench
            .long(
                "mwh,unit,provider,resolution,issued_at,delivery_start\r\n\
                 0.1,plant:1,a,PT1H,2024-05-01T00:00:00+02:00,2024-05-01T10:00:00+02:00\r\n\
                 -2.5,plant:1,a,PT1H,2024-04-30T22:00:00Z,2024-05-01T09:00:00Z\r\n\
                 0.30000000000000004,plant:2,a,PT15M,,2024-05-01T00:15:00Z\r\n\
                 17.25,plant:1,a,PT1H,2024-05-01T06:00:00.123456Z,2024-05-01T09:00:00Z\r\n",
                0,
            )
            .await
            .unwrap();
        assert_eq!((summary.runs, summary.values), (3, 4));
        assert!(
            summary
                .to_string()
                .starts_with("4 values in 3 runs, 0 rows rejected; read in 0."),
            "{summary}"
        );
        let stored = |unit, resolution: &str, issued_at, delivery_start, mwh| Stored {
            unit,
            provider: "a".into(),
            resolution: resolution.into(),
            issued_at,
            delivery_start,
            mwh,
        };
        let midnight = datetime!(2024-04-30 22:00 UTC);
        let nine = datetime!(2024-05-01 09:00 UTC);
        assert_eq!(
            bench.stored("true").await,
            [
                stored(1, "PT1H", midnight, datetime!(2024-05-01 08:00 UTC), 0.1),
                stored(1, "PT1H", midnight, nine, -2.5),
                stored(
                    1,
                    "PT1H",
                    datetime!(2024-05-01 06:00:00.123456 UTC),
                    nine,
                    17.25
                ),
                stored(
                    2,
                    "PT15M",
                    NOW,
                    datetime!(2024-05-01 00:15 UTC),
                    0.300_000_000_000_000_04
                ),
            ]
        );
    }
}

const BAD: &str = "\
unit,provider,resolution,delivery_start,mwh,issued_at
plant:1,a,PT1H,2024-05-01T10:00:00Z,1,2024-05-01T00:00:00Z
plant:1,a,PT1H,2024-05-01T10:30:00Z,1,2024-05-01T00:00:00Z
plant:1,a,PT1H,2024-05-01 11:00,1,2024-05-01T00:00:00Z

plant:1,a,PT1H,2024-05-01T10:00:00Z,2,2024-05-01T02:00:00+02:00
plant:x,a,PT1H,2024-05-01T12:00:00Z,1,
plant:1,A,PT1H,2024-05-01T12:00:00Z,1,
plant:1,a,PT2H,2024-05-01T12:00:00Z,1,
plant:1,a,PT1H,2024-05-01T12:00:00Z,,
plant:1,a,PT1H,2024-05-01T12:00:00Z,1,2034-01-01T00:00:00Z
plant:1,a,PT1H,2024-05-01T12:00:00Z,1
plant:1,a,PT1H,2024-05-01T12:00:00Z,3,2024-05-01T00:00:00Z
";

#[tokio::test]
async fn nothing_is_written_above_the_accepted_rejects() {
    for bench in Bench::each().await {
        let error = bench.long(BAD, 8).await.unwrap_err();
        let ImportError::TooManyRejects {
            accepted: 8,
            rejects,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(rejects.count(), 9);
        let message = error.to_string();
        for part in [
            "9 rows are bad and 8 are accepted, so nothing was written",
            "\n  line 3, column `delivery_start`: a delivery period of PT1H begins on a multiple of its length, in UTC; this is 2024-05-01T10:30:00Z",
            "\n  line 4, column `delivery_start`: `2024-05-01 11:00` is not an RFC 3339 time",
            "\n  line 6, column `delivery_start`: this delivery period is in its run already",
            "\n  line 7, column `unit`: `plant:x`: expected `type:number`, for example plant:12345",
            "\n  line 8, column `provider`: `A`: a provider key has",
            "\n  line 9, column `resolution`: `PT2H`: a resolution is",
            "\n  line 10, column `mwh`: `` is not a number",
            "\n  line 11, column `issued_at`: an issue time lies",
            "\n  line 12: it has 5 fields, the header has 6",
        ] {
            assert!(message.contains(part), "{part}\n{message}");
        }
        for table in [
            "unit",
            "provider",
            "series",
            "forecast_run",
            "forecast_curve",
            "change",
        ] {
            assert_eq!(bench.count(table).await, 0, "{table}");
        }

        let summary = bench.long(BAD, 9).await.unwrap();
        assert_eq!((summary.runs, summary.values), (1, 2));
        assert_eq!(summary.rejects.count(), 9);
        assert_eq!(
            bench.brief().await,
            [
                "2024-05-01T10:00:00Z 2024-05-01T00:00:00Z 1",
                "2024-05-01T12:00:00Z 2024-05-01T00:00:00Z 3",
            ]
        );
    }
}

#[tokio::test]
async fn only_the_first_rejects_are_shown_and_all_counted() {
    let bench = Bench::on(TestDatabase::sqlite().await).await;
    let row = "plant:1,a,PT1H,never,1\n";
    let text = format!(
        "unit,provider,resolution,delivery_start,mwh\n{}",
        row.repeat(1000)
    );
    let message = bench.long(&text, 999).await.unwrap_err().to_string();
    assert!(message.contains("line 21, "), "{message}");
    assert!(!message.contains("line 22, "), "{message}");
    assert!(message.ends_with("\n  and 980 more"), "{message}");
    let error = bench.long(&text, 1000).await.unwrap_err();
    assert!(matches!(error, ImportError::NoValues { .. }), "{error}");
}

#[tokio::test]
async fn unknown_units_and_providers_are_created_when_asked_only() {
    for bench in Bench::each().await {
        let file = bench.file(
            "long.csv",
            "unit,provider,resolution,delivery_start,mwh\nplant:1,a,PT1H,2024-05-01T10:00:00Z,1\n",
        );
        let error = run(&bench.db, &args(file), NOW).await.unwrap_err();
        assert!(matches!(error, ImportError::UnknownUnit(_)), "{error}");
        assert!(error.to_string().contains("--create"), "{error}");
        assert_eq!(bench.count("forecast_run").await, 0);
    }
}

#[tokio::test]
async fn what_a_refused_import_declares_is_not_there() {
    for bench in Bench::each().await {
        let declared = format!(
            "{}[[unit]]\nkey = \"plant:1\"\nname = \"New\"\ntime_zone = \"UTC\"\n",
            mapping("Start", "")
        );
        let args = ImportArgs {
            mapping: Some(bench.file("mapping.toml", &declared)),
            ..args(bench.file("wide.csv", "Start,A\n2024-05-01 10:00,1\n"))
        };
        let error = run(&bench.db, &args, NOW).await.unwrap_err();
        assert!(matches!(error, ImportError::UnknownProvider(_)), "{error}");
        for table in ["unit", "series", "change"] {
            assert_eq!(bench.count(table).await, 0, "{table}");
        }
    }
}

#[tokio::test]
async fn a_file_in_another_form_is_refused() {
    let bench = Bench::on(TestDatabase::sqlite().await).await;
    for (header, expect) in [
        (
            "unit;provider",
            "no column `unit`; the header has `unit;provider`",
        ),
        (
            "unit,provider,resolution,delivery_start,mwh,issuedAt",
            "no column `issuedAt`, only",
        ),
        (
            "unit,unit,provider,resolution,delivery_start,mwh",
            "`unit` is there twice",
        ),
    ] {
        let message = bench.long(header, 0).await.unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    }
    let mapping = mapping("Start", "");
    let error = bench
        .wide("Begin;A\n", &mapping)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no column `Start`; the header has `Begin;A`"),
        "{error}"
    );
    let error = bench
        .wide("", &mapping.replace("MW", "GW"))
        .await
        .unwrap_err();
    assert!(matches!(error, ImportError::Mapping { .. }), "{error}");
}

/// Of local times in Madrid, and one column of MW.
fn mapping(time: &str, more: &str) -> String {
    format!(
        r#"
        {more}
        resolution = "PT1H"
        quantity = "MW"
        [time]
        column = "{time}"
        format = "%Y-%m-%d %H:%M"
        zone = "Europe/Madrid"
        [[column]]
        name = "A"
        unit = "plant:1"
        provider = "a"
        issued = "day before at 18:00 Europe/Madrid"
        "#
    )
}

/// The hours of a local date, as clocks show them.
fn local_hours(date: &str, hours: impl IntoIterator<Item = u8>) -> String {
    hours
        .into_iter()
        .map(|hour| format!("{date} {hour:02}:00,{hour}\n"))
        .collect()
}

#[tokio::test]
async fn clock_changes_are_never_guessed() {
    for bench in Bench::each().await {
        let spring = format!("time,A\n{}", local_hours("2018-03-25", 0..24));
        let summary = bench.wide(&spring, &mapping("time", "")).await.unwrap();
        // 23 hours: 02:00 does not exist.
        assert_eq!(summary.values, 23);
        let rejects = summary.rejects.to_string();
        assert!(
            rejects.contains(
                "line 4, column `time`: 2018-03-25T02:00:00 does not exist in Europe/Madrid"
            ),
            "{rejects}"
        );
        let brief = bench.brief().await;
        assert_eq!(brief[0], "2018-03-24T23:00:00Z 2018-03-24T17:00:00Z 0");
        assert_eq!(brief[1], "2018-03-25T00:00:00Z 2018-03-24T17:00:00Z 1");
        assert_eq!(brief[2], "2018-03-25T01:00:00Z 2018-03-24T17:00:00Z 3");
        assert_eq!(brief[22], "2018-03-25T21:00:00Z 2018-03-24T17:00:00Z 23");

        let autumn = format!("time,A\n{}", local_hours("2018-10-28", [0, 1, 2, 2, 3, 4]));
        let summary = bench.wide(&autumn, &mapping("time", "")).await.unwrap();
        assert_eq!(summary.values, 4);
        assert_eq!(summary.rejects.count(), 2);
        let rejects = summary.rejects.to_string();
        assert!(
            rejects.contains(
                "line 5, column `time`: 2018-10-28T02:00:00 comes twice in Europe/Madrid"
            ),
            "{rejects}"
        );

        // With their offsets all 25 hours are clear.
        let hours = (0..25).map(|hour| match hour {
            0..3 => format!("2018-10-28T{hour:02}:00:00+02:00,{hour}\n"),
            _ => format!("2018-10-28T{:02}:00:00+01:00,{hour}\n", hour - 1),
        });
        let text: String = std::iter::once("time,A\n".to_owned())
            .chain(hours)
            .collect();
        let with_offset = mapping("time", "")
            .replace("format = \"%Y-%m-%d %H:%M\"", "")
            .replacen("zone = \"Europe/Madrid\"", "", 1)
            .replace("plant:1", "plant:2");
        let summary = bench.wide(&text, &with_offset).await.unwrap();
        assert_eq!((summary.runs, summary.values), (1, 25));
        let stored = bench.stored("unit_number = 2").await;
        assert!(
            stored
                .iter()
                .all(|v| v.issued_at == datetime!(2018-10-27 16:00 UTC))
        );
        let starts: Vec<i64> = stored
            .iter()
            .map(|v| v.delivery_start.unix_timestamp())
            .collect();
        let first = datetime!(2018-10-27 22:00 UTC).unix_timestamp();
        assert_eq!(
            starts,
            (0..25).map(|hour| first + hour * 3600).collect::<Vec<_>>()
        );
        assert_eq!(
            stored.iter().map(|v| v.mwh).collect::<Vec<_>>(),
            (0..25).map(f64::from).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_mapping_says_what_the_fields_are() {
    let mapping = r#"
        delimiter = ";"
        decimal = ","
        missing = ["-50,0", "n/a"]
        resolution = "PT15M"
        quantity = "MW"
        [time]
        column = ""
        format = "%d.%m.%Y %H:%M"
        zone = "UTC"
        [filter]
        Area = "X"
        [[unit]]
        key = "plant:7"
        name = "Seven"
        time_zone = "Europe/Brussels"
        capacity_mw = 12.5
        [[provider]]
        key = "p"
        name = "P"
        [[column]]
        name = "early"
        unit = "plant:7"
        provider = "p"
        issued = "1 h before delivery"
        [[column]]
        name = "late"
        unit = "plant:7"
        provider = "p"
        issued = "column made"
    "#;
    let text = "\u{feff};Area;early;late;made\n\
        01.05.2024 00:00;X;10,0;1,1;01.05.2024 00:10\n\
        01.05.2024 00:00;Y;what;ever;\n\
        01.05.2024 00:15;X;-50,0;2;01.05.2024 00:10\n\
        01.05.2024 00:30;X;;n/a;\n\
        01.05.2024 00:45;X;4;5;soon\n\
        01.05.2024 01:00;X;1.000,5;5;\n\
        01.05.2024 00:15;X;8;9;01.05.2024 00:10\n";
    for bench in Bench::each().await {
        let summary = bench.wide(text, mapping).await.unwrap();
        assert_eq!((summary.runs, summary.values), (2, 3));
        assert_eq!(
            summary.rejects.to_string(),
            "\n  line 6, column `made`: `soon` is not a time of the form %d.%m.%Y %H:%M\
             \n  line 7, column `early`: `1.000,5` is not a number\
             \n  line 8, column ``: this delivery period is in its run already"
        );
        assert_eq!(
            bench.brief().await,
            [
                "2024-05-01T00:00:00Z 2024-04-30T23:00:00Z 2.5",
                "2024-05-01T00:00:00Z 2024-05-01T00:10:00Z 0.275",
                "2024-05-01T00:15:00Z 2024-05-01T00:10:00Z 0.5",
            ]
        );
        let units = unit::by_keys(bench.db.reader(), &["plant:7".parse().unwrap()])
            .await
            .unwrap();
        assert_eq!(units[0].name, "Seven");
        assert_eq!(units[0].time_zone, "Europe/Brussels");
        assert_eq!(units[0].capacity_mw_at(NOW), Some(12.5));
    }
}

#[tokio::test]
async fn of_two_columns_with_one_issue_time_the_later_wins() {
    let mapping = mapping("time", "")
        .replace("Europe/Madrid", "UTC")
        .replace("\"day before at 18:00 UTC\"", "\"same day at 06:00 UTC\"")
        + "[[column]]\nname = \"B\"\nunit = \"plant:1\"\nprovider = \"a\"\nissued = \"5 h before delivery\"";
    let hours = (9..14).map(|hour| format!("2024-05-01 {hour:02}:00,1,2\n"));
    let text: String = std::iter::once("time,A,B\n".to_owned())
        .chain(hours)
        .collect();
    for bench in Bench::each().await {
        bench.wide(&text, &mapping).await.unwrap();
        let stored = bench.stored("mwh > 0").await;
        let eleven: Vec<(OffsetDateTime, f64)> = stored
            .iter()
            .filter(|v| v.delivery_start == datetime!(2024-05-01 11:00 UTC))
            .map(|v| (v.issued_at, v.mwh))
            .collect();
        let six = datetime!(2024-05-01 06:00 UTC);
        // The higher run, which wins, is the last.
        assert_eq!(eleven, [(six, 1.0), (six, 2.0)]);
    }
}

/// Where the public data sets lie that the mappings are for; not everybody has them.
fn test_data() -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are told where their data lies by the environment"
    )]
    std::env::var_os("SMARTPULSE_TEST_DATA").map(PathBuf::from)
}

async fn import_data(bench: &Bench, file: PathBuf, mapping: &str) -> Summary {
    let mappings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mappings");
    let args = ImportArgs {
        mapping: Some(mappings.join(mapping)),
        ..args(file)
    };
    let summary = run(&bench.db, &args, NOW).await.unwrap();
    println!("{:?}: {summary}", bench.db.backend());
    summary
}

#[tokio::test]
async fn the_spanish_data_set_comes_back_exactly() {
    let Some(data) = test_data() else { return };
    for bench in Bench::each().await {
        let file = data.join("spain_2015_2018_hourly.csv.gz");
        let summary = import_data(&bench, file, "spain_2015_2018_hourly.toml").await;
        // 1,461 days of each of the two units.
        assert_eq!((summary.runs, summary.values), (2922, 2 * 35_064));
        assert_eq!(summary.rejects.count(), 0);
        let first = match bench.db.backend() {
            DbBackend::Sqlite => "delivery_start = '2014-12-31T23:00:00.000000Z'",
            _ => "delivery_start = '2014-12-31T23:00:00Z'",
        };
        let first: Vec<_> = bench
            .stored(first)
            .await
            .into_iter()
            .map(|v| (v.unit, v.issued_at, v.mwh))
            .collect();
        let issued_at = datetime!(2014-12-31 17:00 UTC);
        assert_eq!(
            first,
            [(34_001, issued_at, 17.0), (34_002, issued_at, 6436.0)]
        );
        let last = bench.stored("unit_number = 34002").await;
        let last = last.last().unwrap();
        assert_eq!(last.delivery_start, datetime!(2018-12-31 22:00 UTC));
        assert_eq!(
            (last.issued_at, last.mwh),
            (datetime!(2018-12-30 17:00 UTC), 3117.0)
        );

        // Line by line, by another way of reading.
        let mut stored = bench.stored("true").await.into_iter();
        for (column, unit) in [
            ("forecast solar day ahead", 34_001),
            ("forecast wind onshore day ahead", 34_002),
        ] {
            let file = std::fs::File::open(data.join("spain_2015_2018_hourly.csv.gz")).unwrap();
            let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
            let place = reader
                .headers()
                .unwrap()
                .iter()
                .position(|name| name == column)
                .unwrap();
            for record in reader.records() {
                let record = record.unwrap();
                let stored = stored.next().unwrap();
                let start = OffsetDateTime::parse(&record[0].replace(' ', "T"), &Rfc3339).unwrap();
                assert_eq!((stored.unit, stored.delivery_start), (unit, start));
                assert_eq!(stored.mwh, record[place].parse::<f64>().unwrap());
                let lead = stored.delivery_start - stored.issued_at;
                assert!((6..31).contains(&lead.whole_hours()), "{stored:?}");
            }
        }
        assert!(stored.next().is_none());
    }
}

#[tokio::test]
async fn the_danish_versions_come_back_exactly() {
    let Some(data) = test_data() else { return };
    for bench in Bench::each().await {
        let file = data.join("energinet_dk2_onshore_wind_2024-03_versions.csv");
        let mapping = "energinet_dk2_onshore_wind_2024-03_versions.toml";
        let summary = import_data(&bench, file.clone(), mapping).await;
        assert_eq!(summary.values, 480 * 5 - 26);
        assert_eq!(summary.rejects.count(), 0);

        let stored = bench.stored("true").await;
        let text = std::fs::read_to_string(file).unwrap();
        let mut compared = 0;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(';').collect();
            let utc = |text: &str| {
                OffsetDateTime::parse(&format!("{}:00Z", text.replace(' ', "T")), &Rfc3339).unwrap()
            };
            let start = utc(fields[0]);
            // All of the file is winter time.
            let day = (start + time::Duration::hours(1))
                .date()
                .midnight()
                .assume_utc()
                - time::Duration::hours(1);
            let hours = time::Duration::hours;
            let expect: Vec<(OffsetDateTime, f64)> = [
                day - hours(6),
                day + hours(6),
                start - hours(5),
                start - hours(1),
                start,
            ]
            .into_iter()
            .zip(&fields[4..9])
            .filter(|(_, text)| !text.is_empty())
            .map(|(issued_at, text)| (issued_at, text.replace(',', ".").parse().unwrap()))
            .collect();
            let of_hour: Vec<_> = stored
                .iter()
                .filter(|v| v.delivery_start == start)
                .map(|v| (v.issued_at, v.mwh))
                .collect();
            assert_eq!(of_hour.len(), expect.len(), "{line}");
            for version in &expect {
                assert!(of_hour.contains(version), "{line}: {version:?}");
            }
            // What was known at each of these moments: of equal issue times the later column.
            for (at, _) in &expect {
                let known = |versions: &[(OffsetDateTime, f64)]| {
                    let known = versions.iter().filter(|(issued_at, _)| issued_at <= at);
                    known
                        .max_by_key(|(issued_at, _)| *issued_at)
                        .map(|(_, mwh)| *mwh)
                };
                assert_eq!(known(&of_hour), known(&expect), "{line}");
                compared += 1;
            }
        }
        assert_eq!(compared, summary.values);
    }
}
