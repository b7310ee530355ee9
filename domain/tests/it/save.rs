//! A save is all or nothing, and says all that is wrong.

use domain::change::{Receipt, Subject};
use domain::forecast::{ForecastError, NewRun, Resolution, RunValues, SeriesKey, View};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use crate::support::{
    DAY, HOUR, NOW, TestDb, on_both_databases, plant, ranges, run, run_of, series,
};

on_both_databases!(
    each_bad_value_is_named_by_its_path,
    at_most_a_hundred_violations_are_reported,
    an_unknown_unit_or_provider_undoes_the_whole_save,
    the_edges_of_what_is_allowed_are_allowed,
    a_thousand_hours_are_a_row_a_day_and_a_change_a_month,
    doubles_come_back_as_they_were,
    points_and_values_are_two_ways_to_say_the_same,
    a_run_without_an_issue_time_was_issued_when_it_came,
    several_runs_are_saved_in_the_order_given,
    savers_of_one_new_series_do_not_disturb_each_other,
);

fn points(points: &[(OffsetDateTime, f64)]) -> RunValues {
    RunValues::Points(points.to_vec())
}

fn from(start: OffsetDateTime, values: &[f64]) -> RunValues {
    RunValues::From {
        start,
        values: values.iter().copied().map(Some).collect(),
    }
}

fn hourly(values: RunValues) -> NewRun {
    NewRun {
        values,
        ..run(NOW, DAY, [1.0])
    }
}

/// What the save was refused for, and that it left nothing behind.
async fn refused(db: &TestDb, runs: Vec<NewRun>) -> Vec<String> {
    let before = db.counts().await;
    let error = db.try_save(runs).await.unwrap_err();
    let ForecastError::Invalid(violations) = error else {
        panic!("{error:?}");
    };
    assert_eq!(db.counts().await, before, "nothing was written");
    assert!(violations.iter().all(|v| !v.message.is_empty()));
    violations.into_iter().map(|v| v.path).collect()
}

async fn each_bad_value_is_named_by_its_path(db: TestDb) {
    let quarter = |values| NewRun {
        resolution: Resolution::QuarterHour,
        ..hourly(values)
    };
    let issued = |issued_at| NewRun {
        issued_at: Some(issued_at),
        ..run(NOW, DAY, [1.0])
    };
    let good = || run(NOW, DAY, [1.0]);
    let cases: Vec<(Vec<NewRun>, &[&str])> = vec![
        (vec![], &["runs"]),
        (vec![hourly(points(&[]))], &["runs[0].points"]),
        (vec![hourly(from(DAY, &[]))], &["runs[0].values"]),
        (
            vec![run(NOW, DAY, [None::<f64>, None])],
            &["runs[0].values"],
        ),
        (
            vec![hourly(RunValues::Unclear("give points or values"))],
            &["runs[0].points"],
        ),
        // Alignment: to the resolution, in UTC, to the nanosecond.
        (
            vec![hourly(points(&[
                (DAY, 1.0),
                (DAY + Duration::minutes(15), 1.0),
                (DAY + Duration::nanoseconds(1), 1.0),
            ]))],
            &[
                "runs[0].points[1].deliveryStart",
                "runs[0].points[2].deliveryStart",
            ],
        ),
        (
            vec![quarter(points(&[(DAY + Duration::minutes(10), 1.0)]))],
            &["runs[0].points[0].deliveryStart"],
        ),
        (
            vec![hourly(from(datetime!(2024-06-16 00:00 +5:30), &[1.0]))],
            &["runs[0].start"],
        ),
        // The same delivery period twice, however it is written.
        (
            vec![hourly(points(&[
                (DAY, 1.0),
                (datetime!(2024-06-16 02:00 +2), 2.0),
            ]))],
            &["runs[0].points[1].deliveryStart"],
        ),
        // Numbers.
        (
            vec![hourly(points(&[
                (DAY, f64::NAN),
                (DAY + HOUR, f64::INFINITY),
                (DAY + HOUR * 2, f64::NEG_INFINITY),
                (DAY + HOUR * 3, 1.1e12),
                (DAY + HOUR * 4, -1.1e12),
            ]))],
            &[
                "runs[0].points[0].mwh",
                "runs[0].points[1].mwh",
                "runs[0].points[2].mwh",
                "runs[0].points[3].mwh",
                "runs[0].points[4].mwh",
            ],
        ),
        (
            vec![hourly(from(DAY, &[1.0, f64::NAN, 3.0, f64::INFINITY]))],
            &["runs[0].values[1]", "runs[0].values[3]"],
        ),
        (
            vec![hourly(points(&[(DAY + Duration::SECOND, f64::NAN)]))],
            &["runs[0].points[0].deliveryStart", "runs[0].points[0].mwh"],
        ),
        // Times out of reach.
        (
            vec![hourly(points(&[
                (datetime!(1969-12-31 23:00 UTC), 1.0),
                (datetime!(2200-01-01 00:00 UTC), 1.0),
            ]))],
            &[
                "runs[0].points[0].deliveryStart",
                "runs[0].points[1].deliveryStart",
            ],
        ),
        (
            vec![hourly(from(datetime!(2199-12-31 23:00 UTC), &[1.0, 1.0]))],
            &["runs[0].values"],
        ),
        (
            vec![
                issued(NOW + Duration::DAY + Duration::MICROSECOND),
                issued(datetime!(1969-12-31 23:59:59 UTC)),
            ],
            &["runs[0].issuedAt", "runs[1].issuedAt"],
        ),
        // Each run is looked at, and good ones do not save bad ones.
        (
            vec![
                good(),
                hourly(from(DAY, &[f64::NAN])),
                good(),
                hourly(points(&[])),
            ],
            &["runs[1].values[0]", "runs[3].points"],
        ),
    ];
    for (runs, paths) in cases {
        let given = format!("{runs:?}");
        assert_eq!(refused(&db, runs).await, paths, "{given}");
    }
}

async fn at_most_a_hundred_violations_are_reported(db: TestDb) {
    let bad = || hourly(from(DAY, &[f64::NAN; 60]));
    let paths = refused(&db, vec![bad(), bad(), hourly(points(&[]))]).await;
    assert_eq!(paths.len(), 100);
    assert_eq!(paths[0], "runs[0].values[0]");
    assert_eq!(paths[99], "runs[1].values[39]");
}

async fn an_unknown_unit_or_provider_undoes_the_whole_save(db: TestDb) {
    let before = db.counts().await;
    let mut unknown = run(NOW, DAY, [1.0]);
    unknown.unit = plant(99);
    let error = db.try_save(vec![run(NOW, DAY, [1.0]), unknown]).await;
    match error {
        Err(ForecastError::UnknownUnit { key, path }) => {
            assert_eq!((key, path.as_deref()), (plant(99), Some("runs[1].unit")));
        }
        other => panic!("{other:?}"),
    }
    let mut unknown = run(NOW, DAY, [1.0]);
    unknown.provider = "nobody".parse().unwrap();
    match db.try_save(vec![unknown, run(NOW, DAY, [1.0])]).await {
        Err(ForecastError::UnknownProvider { key, path }) => {
            assert_eq!(key.as_str(), "nobody");
            assert_eq!(path.as_deref(), Some("runs[0].provider"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.counts().await, before, "nothing was written");
    // The connection that it rolled back on serves the next.
    db.save(run(NOW, DAY, [1.0])).await;
}

async fn the_edges_of_what_is_allowed_are_allowed(db: TestDb) {
    let first = datetime!(1970-01-01 00:00 UTC);
    let last = datetime!(2199-12-31 23:00 UTC);
    for start in [first, last] {
        let mut at = run(NOW + Duration::DAY, start, [1e12]);
        db.save(at.clone()).await;
        at.issued_at = Some(datetime!(1970-01-01 00:00 UTC));
        db.save(at).await;
        let curve = db.curve(start, start + HOUR, View::Latest).await;
        assert_eq!(curve.values().collect::<Vec<_>>(), [1e12]);
    }
}

async fn a_thousand_hours_are_a_row_a_day_and_a_change_a_month(db: TestDb) {
    let start = datetime!(2024-01-30 05:00 UTC);
    let saved = db
        .try_save(vec![run(NOW, start, (0..1000).map(f64::from))])
        .await
        .unwrap();
    assert_eq!(saved.values, 1000);
    assert_eq!(db.count("forecast_curve").await, 42);
    let changes = db.tail().await;
    assert_eq!(
        ranges(&changes),
        [
            (start, datetime!(2024-02-01 00:00 UTC)),
            (
                datetime!(2024-02-01 00:00 UTC),
                datetime!(2024-03-01 00:00 UTC)
            ),
            (datetime!(2024-03-01 00:00 UTC), start + HOUR * 1000),
        ]
    );
    for change in &changes {
        let Subject::Forecast(forecast) = &change.subject else {
            panic!("{change:?}");
        };
        assert_eq!(forecast.series, series());
        assert_eq!(forecast.run_id, saved.run_ids[0]);
    }
    if let Receipt::Numbered(position) = saved.receipt {
        assert_eq!(changes.last().unwrap().position, position);
    }
    let curve = db.curve(start, start + HOUR * 1000, View::Latest).await;
    let values: Vec<_> = curve.values().collect();
    assert_eq!(values, (0..1000).map(f64::from).collect::<Vec<_>>());
    assert!(curve.position().number >= changes.last().unwrap().position.number);
}

async fn doubles_come_back_as_they_were(db: TestDb) {
    let given = [
        0.0,
        -0.0,
        0.1 + 0.2,
        1.0 / 3.0,
        -12.345,
        1e12,
        -1e12,
        1e-12,
        5e-324,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        123_456_789.123_456_79,
        0.000_000_1,
        999_999_999_999.999_9,
    ];
    db.save(run(NOW, DAY, given)).await;
    for view in [View::Latest, View::KnownAt(NOW)] {
        let curve = db.curve(DAY, DAY + HOUR * 14, view).await;
        let bits: Vec<_> = curve.values().map(f64::to_bits).collect();
        assert_eq!(bits, given.map(f64::to_bits));
    }
}

async fn points_and_values_are_two_ways_to_say_the_same(db: TestDb) {
    // Out of order, with a hole, over midnight; offsets do not matter.
    let given = points(&[
        (DAY + HOUR * 25, 4.0),
        (DAY + HOUR * 22, 1.0),
        (datetime!(2024-06-17 02:00 +2), 3.0),
    ]);
    let saved = db.try_save(vec![hourly(given)]).await.unwrap();
    assert_eq!(saved.values, 3);
    db.tail().await;
    let curve = db
        .curve(DAY + HOUR * 21, DAY + HOUR * 26, View::Latest)
        .await;
    let found: Vec<_> = curve.points().map(|p| (p.delivery_start, p.mwh)).collect();
    let at = |hours: i32| (DAY + HOUR * hours).unix_timestamp();
    assert_eq!(found, [(at(22), 1.0), (at(24), 3.0), (at(25), 4.0)]);
    let rows = db
        .rows("SELECT first_period FROM forecast_curve ORDER BY day")
        .await;
    let firsts: Vec<i16> = rows
        .iter()
        .map(|row| row.try_get("", "first_period").unwrap())
        .collect();
    assert_eq!(firsts, [22, 0], "a version begins with its first value");
    // The same as values, with nulls at both ends and one in the middle.
    let again = run(
        NOW + HOUR,
        DAY + HOUR * 20,
        [None, None, Some(10.0), None, Some(30.0), Some(40.0), None],
    );
    assert_eq!(db.try_save(vec![again]).await.unwrap().values, 3);
    db.tail().await;
    let curve = db
        .curve(DAY + HOUR * 21, DAY + HOUR * 26, View::Latest)
        .await;
    let found: Vec<_> = curve.points().map(|p| (p.delivery_start, p.mwh)).collect();
    assert_eq!(found, [(at(22), 10.0), (at(24), 30.0), (at(25), 40.0)]);
}

async fn a_run_without_an_issue_time_was_issued_when_it_came(db: TestDb) {
    let mut run = run(NOW, DAY, [1.0]);
    run.issued_at = None;
    db.save(run).await;
    let curve = db.curve(DAY, DAY + HOUR, View::Latest).await;
    assert_eq!(curve.points().next().unwrap().source.issued_at, NOW);
}

async fn several_runs_are_saved_in_the_order_given(db: TestDb) {
    let other = SeriesKey {
        unit: plant(2),
        provider: "provider-b".parse().unwrap(),
        resolution: Resolution::QuarterHour,
    };
    let saved = db
        .try_save(vec![
            run_of(&other, NOW, DAY, [4.0]),
            run(NOW + HOUR, DAY, [2.0]),
            run(NOW, DAY, [1.0]),
        ])
        .await
        .unwrap();
    let mut sorted = saved.run_ids.clone();
    sorted.sort_unstable();
    assert_eq!(saved.run_ids, sorted, "drawn in the order of the runs");
    assert_eq!(db.tail().await.len(), 3);
    for (id, (series, mwh)) in
        saved
            .run_ids
            .iter()
            .zip([(other, 4.0), (series(), 2.0), (series(), 1.0)])
    {
        let curve = db.curve_of(&series, DAY, DAY + HOUR, View::Run(*id)).await;
        assert_eq!(curve.unwrap().values().next(), Some(mwh));
    }
}

async fn savers_of_one_new_series_do_not_disturb_each_other(db: TestDb) {
    let mut savers = JoinSet::new();
    for i in 0..8 {
        let database = db.db.clone();
        savers.spawn(async move {
            let other = SeriesKey {
                unit: plant(2),
                ..series()
            };
            let mut runs = vec![
                run(NOW, DAY, [f64::from(i)]),
                run_of(&other, NOW, DAY, [f64::from(i)]),
            ];
            if i % 2 == 0 {
                runs.reverse();
            }
            let request = domain::forecast::SaveRequest {
                runs,
                idempotency_key: None,
            };
            let saved = domain::forecast::save(&database, "viewer", &request, NOW).await;
            saved.unwrap().run_ids
        });
    }
    let mut ids: Vec<i64> = savers.join_all().await.into_iter().flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16);
    assert_eq!(db.count("series").await, 2);
    assert_eq!(db.tail().await.len(), 16);
    let curve = db.curve(DAY, DAY + HOUR, View::Latest).await;
    let latest = curve.points().next().unwrap().source.run_id;
    let highest = db
        .rows("SELECT max(run_id) AS id FROM forecast_curve WHERE series_id = (SELECT id FROM series WHERE unit_id = (SELECT id FROM unit WHERE unit_number = 1))")
        .await[0]
        .try_get::<i64>("", "id")
        .unwrap();
    assert_eq!(latest, highest);
}
