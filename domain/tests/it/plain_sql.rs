//! What another program writes by plain SQL is seen like our own, or refused.

use domain::change::{Change, Operation, Subject};
use domain::forecast::View;
use time::Duration;
use time::macros::datetime;

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, ranges, run};

on_both_databases!(
    a_version_by_plain_sql_is_seen,
    a_malformed_version_is_refused,
    any_number_that_a_double_holds_is_welcome,
    an_update_is_a_change_of_both_places,
    a_delete_is_a_change_of_its_range,
    rewriting_a_run_voids_everything,
    a_rekeyed_unit_or_provider_voids_everything,
);

fn operations(changes: &[Change]) -> Vec<Operation> {
    changes.iter().map(|change| change.operation).collect()
}

fn is_resync(changes: &[Change]) -> bool {
    !changes.is_empty()
        && (changes.iter()).all(|change| {
            change.operation == Operation::Resync && change.subject == Subject::Everything
        })
}

/// A run of provider-a and its series, as another program would make them.
async fn prepare(db: &TestDb) -> i64 {
    db.sql(
        "INSERT INTO series (unit_id, provider_id, resolution) SELECT u.id, p.id, 'PT1H' FROM unit u, provider p \
         WHERE u.unit_number = 1 AND p.key = 'provider-a' ON CONFLICT DO NOTHING",
    )
    .await;
    add_run(db).await
}

async fn add_run(db: &TestDb) -> i64 {
    db.sql(
        "INSERT INTO forecast_run (provider_id, issued_at) SELECT id, '2024-06-15T10:00:00.000000Z' FROM provider WHERE key = 'provider-a'",
    )
    .await;
    let rows = db.rows("SELECT max(id) AS id FROM forecast_run").await;
    rows[0].try_get("", "id").unwrap()
}

fn insert(run: i64, rows: &[(&str, i64, &str)]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|(day, first, values)| {
            format!(
                "((SELECT min(id) FROM series), '{day}', '2024-06-15T10:00:00.000000Z', {run}, {first}, '{values}')"
            )
        })
        .collect();
    format!(
        "INSERT INTO forecast_curve (series_id, day, issued_at, run_id, first_period, \"values\") VALUES {}",
        rows.join(", ")
    )
}

async fn a_version_by_plain_sql_is_seen(db: TestDb) {
    // An answer that is in memory must not stay there.
    assert_eq!(db.hours(View::Latest).await, [None; 6]);
    let run = prepare(&db).await;
    assert_eq!(db.tail().await, [], "a run or series alone says nothing");
    let rows = [
        ("2024-06-16", 1, "[1, 2.5, null, 4e0]"),
        ("2024-06-17", 0, "[7]"),
        ("2024-07-01", 23, " [ 8 ] "),
    ];
    db.sql(&insert(run, &rows)).await;
    let changes = db.tail().await;
    assert_eq!(operations(&changes), [Operation::Insert; 2]);
    assert_eq!(
        ranges(&changes),
        [
            (DAY + HOUR, DAY + HOUR * 25),
            (
                datetime!(2024-07-01 23:00 UTC),
                datetime!(2024-07-02 00:00 UTC)
            ),
        ]
    );
    let expect = [None, Some(1.0), Some(2.5), None, Some(4.0), None];
    assert_eq!(db.hours(View::Latest).await, expect);
    assert_eq!(db.hours(View::Run(run)).await, expect);
    // Several runs in one statement are a change each.
    let (a, b) = (add_run(&db).await, add_run(&db).await);
    let both = insert(a, &[("2024-06-16", 0, "[1]")]) + ", ";
    let both = both
        + insert(b, &[("2024-06-16", 0, "[2]")])
            .split_once("VALUES ")
            .unwrap()
            .1;
    db.sql(&both).await;
    let changes = db.tail().await;
    assert_eq!(ranges(&changes), [(DAY, DAY + HOUR); 2]);
    assert_eq!(db.hours(View::Latest).await[0], Some(2.0));
}

async fn a_malformed_version_is_refused(db: TestDb) {
    let run = prepare(&db).await;
    let before = db.counts().await;
    let too_many = format!("[{}1]", "1,".repeat(96));
    let too_long = format!("[{}]", "1".repeat(400));
    let cases = [
        (0, "1"),
        (0, "{}"),
        (0, "\"1\""),
        (0, "null"),
        (0, "[]"),
        (0, "[1, 2"),
        (0, "[NaN]"),
        (0, "[Infinity]"),
        (0, "[\"1\"]"),
        (0, "[1, \"2\"]"),
        (0, "[true]"),
        (0, "[1, false, 2]"),
        (0, "[[1], 2]"),
        (0, "[1, [2]]"),
        (0, "[{\"a\": 1}]"),
        (0, "[1e999]"),
        (0, "[1, -1E+999]"),
        (0, "[1e0999]"),
        (0, "[[1]]"),
        (0, "[[], 1]"),
        (0, &too_long),
        (0, &too_many),
        // Beyond the day's end.
        (23, "[1, 2]"),
        (24, "[1]"),
        (-1, "[1]"),
    ];
    for (first, values) in cases {
        let alone = insert(run, &[("2024-06-16", first, values)]);
        let done = db.try_sql(&alone).await;
        assert!(done.is_err(), "from {first}: {values}");
        // One bad row among good ones.
        let rows = [("2024-06-16", 0, "[1]"), ("2024-06-17", first, values)];
        let done = db.try_sql(&insert(run, &rows)).await;
        assert!(done.is_err(), "from {first}: {values}");
    }
    for (what, sql) in [
        (
            "another issue time than its run's",
            insert(run, &[("2024-06-16", 0, "[1]")])
                .replace("10:00:00.000000Z", "10:00:00.000001Z"),
        ),
        ("no such run", insert(run + 1, &[("2024-06-16", 0, "[1]")])),
        (
            "no such series",
            insert(run, &[("2024-06-16", 0, "[1]")]).replace("min(id)", "min(id) + 1"),
        ),
        ("no day", insert(run, &[("someday", 0, "[1]")])),
        ("no such day", insert(run, &[("2024-02-30", 0, "[1]")])),
    ] {
        assert!(db.try_sql(&sql).await.is_err(), "{what}");
    }
    assert_eq!(db.counts().await, before);
    // Nor may a good one be made bad.
    db.sql(&insert(run, &[("2024-06-16", 0, "[1]")])).await;
    for set in [
        "\"values\" = '[\"1\"]'",
        "\"values\" = '[1, [2]]'",
        "first_period = 24",
        "issued_at = '2024-06-15T10:00:00.000001Z'",
    ] {
        let update = format!("UPDATE forecast_curve SET {set}");
        assert!(db.try_sql(&update).await.is_err(), "{set}");
    }
    db.tail().await;
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
}

async fn any_number_that_a_double_holds_is_welcome(db: TestDb) {
    let run = prepare(&db).await;
    let values = "[1e12, -2.5E-7, 0, 1e-300, 1.7976931348623157e+30, -0.0]";
    db.sql(&insert(run, &[("2024-06-16", 0, values)])).await;
    db.tail().await;
    assert_eq!(
        db.hours(View::Latest).await,
        [1e12, -2.5e-7, 0.0, 1e-300, 1.797_693_134_862_315_7e30, -0.0].map(Some)
    );
}

async fn an_update_is_a_change_of_both_places(db: TestDb) {
    db.save(run(NOW, DAY, [1.0, 2.0])).await;
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
    db.sql("UPDATE forecast_curve SET \"values\" = '[5, 6, 7]', first_period = 3")
        .await;
    let changes = db.tail().await;
    assert_eq!(operations(&changes), [Operation::Update]);
    assert_eq!(ranges(&changes), [(DAY, DAY + HOUR * 6)]);
    assert_eq!(
        db.hours(View::Latest).await,
        [None, None, None, Some(5.0), Some(6.0), Some(7.0)]
    );
    // To another month: one change in each.
    db.sql("UPDATE forecast_curve SET day = '2024-07-02'").await;
    let changes = db.tail().await;
    assert_eq!(operations(&changes), [Operation::Update; 2]);
    let moved = datetime!(2024-07-02 00:00 UTC);
    let mut found = ranges(&changes);
    found.sort();
    assert_eq!(
        found,
        [
            (DAY + HOUR * 3, DAY + HOUR * 6),
            (moved + HOUR * 3, moved + HOUR * 6)
        ]
    );
    assert_eq!(db.hours(View::Latest).await, [None; 6]);
    let curve = db.curve(moved, moved + HOUR * 4, View::Latest).await;
    assert_eq!(curve.points().map(|p| p.mwh).collect::<Vec<_>>(), [5.0]);
}

async fn a_delete_is_a_change_of_its_range(db: TestDb) {
    db.save(run(NOW, DAY, [1.0; 50])).await;
    let newer = db.save(run(NOW + HOUR, DAY + HOUR, [2.0; 2])).await;
    assert_eq!(db.hours(View::Latest).await[1], Some(2.0));
    db.sql(&format!(
        "DELETE FROM forecast_curve WHERE run_id = {newer}"
    ))
    .await;
    let changes = db.tail().await;
    assert_eq!(operations(&changes), [Operation::Delete]);
    assert_eq!(ranges(&changes), [(DAY + HOUR, DAY + HOUR * 3)]);
    assert_eq!(db.hours(View::Latest).await, [Some(1.0); 6]);
    assert_eq!(db.hours(View::KnownAt(NOW + HOUR)).await, [Some(1.0); 6]);
    db.sql("DELETE FROM forecast_curve").await;
    assert_eq!(ranges(&db.tail().await), [(DAY, DAY + HOUR * 50)]);
    assert_eq!(db.hours(View::Latest).await, [None; 6]);
}

async fn rewriting_a_run_voids_everything(db: TestDb) {
    db.save(run(NOW, DAY, [1.0])).await;
    db.hours(View::Latest).await;
    db.sql("UPDATE forecast_run SET received_at = '2024-06-15T12:00:00.000000Z'")
        .await;
    let changes = db.tail().await;
    assert!(is_resync(&changes), "{changes:?}");
    let metrics = db.forecasts.metrics();
    let misses = || metrics.misses.get_or_create(&[("cache", "latest")]).get();
    let before = misses();
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
    assert_eq!(misses(), before + 1);
}

async fn a_rekeyed_unit_or_provider_voids_everything(db: TestDb) {
    db.save(run(NOW, DAY, [1.0])).await;
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
    db.sql("UPDATE unit SET unit_number = 7 WHERE unit_number = 1")
        .await;
    assert!(is_resync(&db.tail().await));
    let series = crate::support::series();
    let curve = db.curve_of(&series, DAY, DAY + HOUR, View::Latest).await;
    assert!(curve.is_err(), "there is no plant:1 any more");
    db.sql("UPDATE provider SET key = 'provider-z' WHERE key = 'provider-a'")
        .await;
    assert!(is_resync(&db.tail().await));
    let series = domain::forecast::SeriesKey {
        unit: crate::support::plant(7),
        provider: "provider-z".parse().unwrap(),
        ..series
    };
    let curve = db.curve_of(&series, DAY, DAY + HOUR, View::Latest).await;
    assert_eq!(curve.unwrap().values().next(), Some(1.0));
}

/// SQLite has no TRUNCATE.
#[tokio::test]
async fn a_truncate_voids_everything() {
    let db = TestDb::postgres().await;
    for table in ["forecast_curve", "forecast_run, forecast_curve"] {
        db.save(run(NOW, DAY, [1.0])).await;
        assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
        db.sql(&format!("TRUNCATE {table}")).await;
        let changes = db.tail().await;
        assert!(is_resync(&changes), "{changes:?}");
        assert_eq!(db.hours(View::Latest).await, [None; 6]);
        assert_eq!(db.hours(View::KnownAt(NOW)).await, [None; 6]);
    }
    // Whatever hangs on it goes with it, and is looked up anew.
    db.save(run(NOW, DAY, [1.0])).await;
    db.hours(View::Latest).await;
    db.sql("TRUNCATE unit CASCADE").await;
    assert!(is_resync(&db.tail().await));
    let series = crate::support::series();
    let curve = db.curve_of(&series, DAY, DAY + HOUR, View::Latest).await;
    assert!(curve.is_err());
    let unknown = db.try_save(vec![run(NOW + Duration::HOUR, DAY, [1.0])]);
    assert!(unknown.await.is_err());
}
