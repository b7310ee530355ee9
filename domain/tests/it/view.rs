//! What each view shows, of how many versions and days there may be.

use domain::change::ForecastChange;
use domain::forecast::{ForecastError, Resolution, SeriesKey, View};
use domain::provider::ProviderKey;
use jiff::civil;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run, run_of, series, some};

on_both_databases!(
    known_at_is_what_had_been_issued,
    known_at_looks_at_microseconds,
    one_run_is_what_it_gave,
    all_versions_are_found_however_many,
    versions_of_one_issue_time_are_all_found,
    a_range_goes_over_days_and_months,
    days_of_a_range_are_kept_each_for_itself,
    a_delivery_day_has_its_own_length,
    a_series_nobody_wrote_has_no_values,
    the_first_write_of_a_series_is_seen,
    resolutions_are_series_of_their_own,
    warming_up_loads_today_and_the_days_after,
    what_a_run_wrote_is_found_by_day,
    a_run_is_known_as_soon_as_it_is_there,
    many_runs_are_a_few_reads,
    values_that_cannot_be_read_say_nothing,
);

/// Reads of the database that a cache has made.
fn loads(db: &TestDb, cache: &'static str) -> u64 {
    let loads = &db.forecasts.metrics().loads;
    loads.get_or_create(&[("cache", cache)]).get()
}

async fn a_run_is_known_as_soon_as_it_is_there(db: TestDb) {
    let first = db.save(run(NOW, DAY, [1.0])).await;
    assert_eq!(db.forecasts.run(first + 1).await.unwrap(), None);
    let second = db.save(run(NOW + HOUR, DAY, [2.0])).await;
    assert_eq!(second, first + 1);
    let found = db.forecasts.run(second).await.unwrap().unwrap();
    assert_eq!((found.issued_at, found.received_at), (NOW + HOUR, NOW));
    // It never changes, whatever is saved after it.
    let before = loads(&db, "run");
    db.save(run(NOW + HOUR * 2, DAY, [3.0])).await;
    assert!(db.forecasts.run(second).await.unwrap().is_some());
    assert_eq!(loads(&db, "run"), before);
}

async fn many_runs_are_a_few_reads(db: TestDb) {
    let runs = (0..500).map(|minute| run(NOW - Duration::minutes(minute), DAY, [1.0]));
    let saved = db.try_save(runs.collect()).await.unwrap();
    db.tail().await;
    let reads = saved.run_ids.iter().map(|id| db.forecasts.run(*id));
    let found = futures_util::future::join_all(reads).await;
    for (minute, run) in (0..).zip(found) {
        let run = run.unwrap().unwrap();
        assert_eq!(run.issued_at, NOW - Duration::minutes(minute));
    }
    assert_eq!(loads(&db, "run"), 1, "all came before the first read began");
}

async fn values_that_cannot_be_read_say_nothing(db: TestDb) {
    db.save(run(NOW, DAY, [1.0, 2.0])).await;
    let other = SeriesKey {
        unit: plant(2),
        ..series()
    };
    db.save(run_of(&other, NOW, DAY, [7.0])).await;
    let broken = db.save(run(NOW + HOUR, DAY, [5.0])).await;
    // Triggers refuse it, unless somebody took them away.
    if db.is_postgres() {
        db.sql("ALTER TABLE forecast_curve DISABLE TRIGGER USER")
            .await;
    } else {
        let triggers =
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'forecast_curve'";
        for row in db.rows(triggers).await {
            let name: String = row.try_get("", "name").unwrap();
            db.sql(&format!("DROP TRIGGER {name}")).await;
        }
    }
    db.sql(&format!(
        "UPDATE forecast_curve SET \"values\" = '[\"x\"]' WHERE run_id = {broken}"
    ))
    .await;
    db.tail().await;
    let hours = db.hours(View::Latest).await;
    assert_eq!(hours[..2], [Some(1.0), Some(2.0)]);
    assert_eq!(db.hours(View::Run(broken)).await, [None; 6]);
    let curve = db.curve_of(&other, DAY, DAY + HOUR, View::Latest).await;
    assert_eq!(curve.unwrap().values().collect::<Vec<_>>(), [7.0]);
}

async fn known_at_is_what_had_been_issued(db: TestDb) {
    for hour in 0..3 {
        let at = NOW + HOUR * hour;
        db.save(run(at, DAY, [f64::from(hour)])).await;
    }
    let instant = Duration::MICROSECOND;
    for (at, expect) in [
        (NOW - Duration::DAY, None),
        (NOW - instant, None),
        (NOW, Some(0.0)),
        (NOW + HOUR - instant, Some(0.0)),
        (NOW + HOUR, Some(1.0)),
        (NOW + HOUR + instant, Some(1.0)),
        (NOW + HOUR * 2 - instant, Some(1.0)),
        (NOW + HOUR * 2, Some(2.0)),
        (datetime!(9999-12-31 23:59:59 UTC), Some(2.0)),
    ] {
        assert_eq!(db.hours(View::KnownAt(at)).await[0], expect, "{at}");
    }
}

/// SQLite keeps instants as text: whole seconds, halves and microseconds must
/// sort among each other.
async fn known_at_looks_at_microseconds(db: TestDb) {
    let issues = [
        datetime!(2024-06-15 08:59:59.999999 UTC),
        datetime!(2024-06-15 09:00:00 UTC),
        datetime!(2024-06-15 09:00:00.000001 UTC),
        datetime!(2024-06-15 09:00:00.1 UTC),
        datetime!(2024-06-15 09:00:00.123456 UTC),
        datetime!(2024-06-15 09:00:00.5 UTC),
        datetime!(2024-06-15 11:00:01 +2),
    ];
    // In an order that is not theirs.
    for i in [3, 0, 6, 2, 5, 1, 4] {
        db.save(run(issues[i], DAY, [f64::from(i as i32)])).await;
    }
    assert_eq!(db.hours(View::Latest).await[0], Some(6.0));
    for (i, issued_at) in issues.iter().enumerate() {
        let known = |at| View::KnownAt(at);
        let value = Some(f64::from(i as i32));
        assert_eq!(db.hours(known(*issued_at)).await[0], value);
        let just_before = *issued_at - Duration::MICROSECOND;
        let found = db.hours(known(just_before)).await[0];
        assert!(found < value, "{just_before}: {found:?}");
    }
    // Finer than a microsecond nothing is kept: it counts from the one it began in.
    db.save(run(
        datetime!(2024-06-15 09:00:02.000001999 UTC),
        DAY,
        [100.0],
    ))
    .await;
    let at = View::KnownAt(datetime!(2024-06-15 09:00:02.000001 UTC));
    assert_eq!(db.hours(at).await[0], Some(100.0));
}

async fn one_run_is_what_it_gave(db: TestDb) {
    let first = db.save(run(NOW, DAY + HOUR * 22, [1.0, 2.0, 3.0])).await;
    let second = db.save(run(NOW + HOUR, DAY + HOUR * 23, [20.0])).await;
    let other = SeriesKey {
        unit: plant(2),
        ..series()
    };
    let elsewhere = db.save(run_of(&other, NOW, DAY, [9.0])).await;
    let values = async |run| {
        let to = DAY + HOUR * 25;
        let curve = db.curve(DAY + HOUR * 22, to, View::Run(run)).await;
        curve.values().map(some).collect::<Vec<_>>()
    };
    assert_eq!(values(first).await, [Some(1.0), Some(2.0), Some(3.0)]);
    assert_eq!(values(second).await, [None, Some(20.0), None]);
    // It exists, and gave nothing here.
    assert_eq!(values(elsewhere).await, [None, None, None]);
    for unknown in [elsewhere + 1, 0, -1, i64::MAX] {
        let series = series();
        let curve = db.curve_of(&series, DAY, DAY + HOUR, View::Run(unknown));
        match curve.await {
            Err(ForecastError::UnknownRun(id)) => assert_eq!(id, unknown),
            other => panic!("{other:?}"),
        }
    }
}

/// The newest versions cover a part of the day only, so that the reading in
/// pages must go on, to the oldest of all for one period.
async fn all_versions_are_found_however_many(db: TestDb) {
    for (place, count) in [2i32, 20, 200].into_iter().enumerate() {
        let day = DAY + Duration::days(place as i64);
        let mut runs = vec![run(NOW - Duration::days(9), day, (0..24).map(f64::from))];
        for version in 1..count {
            let hour = version * 7 % 23;
            let issued_at = NOW - Duration::days(8) + Duration::minutes(version.into());
            runs.push(run(issued_at, day + HOUR * hour, [f64::from(version)]));
        }
        db.try_save(runs).await.unwrap();
        db.tail().await;
        let mut expect: Vec<f64> = (0..24).map(f64::from).collect();
        for version in 1..count {
            expect[(version * 7 % 23) as usize] = f64::from(version);
        }
        let to = day + Duration::DAY;
        for view in [View::Latest, View::KnownAt(NOW), View::Latest] {
            let values: Vec<_> = db.curve(day, to, view).await.values().collect();
            assert_eq!(values, expect, "{count} versions, {view:?}");
        }
    }
    // The three days at once: each is read on for as long as it needs.
    let curve = db.curve(DAY, DAY + Duration::days(3), View::Latest).await;
    assert_eq!(curve.points().count(), 72);
}

async fn versions_of_one_issue_time_are_all_found(db: TestDb) {
    let mut runs = vec![run(NOW, DAY, [0.5; 24])];
    runs.extend((0..50).map(|i| run(NOW, DAY + HOUR * (i % 5), [f64::from(i)])));
    db.try_save(runs).await.unwrap();
    db.tail().await;
    assert_eq!(
        db.hours(View::Latest).await,
        [45.0, 46.0, 47.0, 48.0, 49.0, 0.5].map(Some)
    );
}

async fn a_range_goes_over_days_and_months(db: TestDb) {
    let start = datetime!(2024-02-27 22:00 UTC);
    let values: Vec<Option<f64>> = (0..100)
        .map(|i| (i % 7 != 3).then_some(f64::from(i)))
        .collect();
    db.save(run(NOW, start, values.clone())).await;
    for view in [View::Latest, View::KnownAt(NOW)] {
        // A leap day and the end of a month lie within; some hours around, too.
        let curve = db.curve(start - HOUR * 30, start + HOUR * 130, view).await;
        let found: Vec<_> = curve.values().map(some).collect();
        let mut expect = vec![None; 30];
        expect.extend(values.clone());
        expect.extend(vec![None; 30]);
        assert_eq!(found, expect);
        let points: Vec<_> = curve.points().map(|p| (p.delivery_start, p.mwh)).collect();
        let expect: Vec<_> = (values.iter().zip(0i32..))
            .filter_map(|(mwh, i)| Some(((start + HOUR * i).unix_timestamp(), (*mwh)?)))
            .collect();
        assert_eq!(points, expect);
        // From the middle of a day to the middle of another.
        let curve = db.curve(start + HOUR * 5, start + HOUR * 53, view).await;
        assert_eq!(curve.range().days().count(), 3);
        assert_eq!(curve.values().map(some).collect::<Vec<_>>(), values[5..53]);
    }
}

async fn days_of_a_range_are_kept_each_for_itself(db: TestDb) {
    db.save(run(NOW, DAY, [1.0; 72])).await;
    let range = (DAY, DAY + HOUR * 72);
    let misses = || {
        let metrics = db.forecasts.metrics();
        metrics.misses.get_or_create(&[("cache", "latest")]).get()
    };
    let curve = async || {
        let curve = db.curve(range.0, range.1, View::Latest).await;
        curve.values().collect::<Vec<_>>()
    };
    curve().await;
    assert_eq!(misses(), 3);
    curve().await;
    assert_eq!(misses(), 3);
    let changed = db.save(run(NOW + HOUR, DAY + HOUR * 30, [2.0])).await;
    let mut expect = vec![1.0; 72];
    expect[30] = 2.0;
    assert_eq!(curve().await, expect);
    assert_eq!(misses(), 4, "only the day that run {changed} touched");
    // Another series' write touches none of these.
    let other = SeriesKey {
        unit: plant(2),
        ..series()
    };
    db.save(run_of(&other, NOW, DAY, [1.0; 72])).await;
    curve().await;
    assert_eq!(misses(), 4);
}

/// The UTC range of a date in Madrid.
fn delivery_day(date: civil::Date) -> (OffsetDateTime, OffsetDateTime) {
    let start = |date: civil::Date| {
        let zoned = date.in_tz("Europe/Madrid").unwrap();
        OffsetDateTime::from_unix_timestamp(zoned.timestamp().as_second()).unwrap()
    };
    (start(date), start(date.tomorrow().unwrap()))
}

async fn a_delivery_day_has_its_own_length(db: TestDb) {
    for (date, hours) in [
        (civil::date(2024, 3, 30), 24),
        (civil::date(2024, 3, 31), 23),
        (civil::date(2024, 4, 1), 24),
        (civil::date(2024, 10, 26), 24),
        (civil::date(2024, 10, 27), 25),
        (civil::date(2024, 10, 28), 24),
    ] {
        let (from, to) = delivery_day(date);
        for resolution in Resolution::ALL {
            let series = SeriesKey {
                resolution,
                ..series()
            };
            let count = hours * 3600 / i32::try_from(resolution.seconds()).unwrap();
            let values: Vec<f64> = (0..count).map(|i| f64::from(i) + 0.25).collect();
            db.save(run_of(&series, NOW, from, values.clone())).await;
            for view in [View::Latest, View::KnownAt(NOW)] {
                let curve = db.curve_of(&series, from, to, view).await.unwrap();
                assert_eq!(curve.values().collect::<Vec<_>>(), values, "{date}");
                let points: Vec<_> = curve.points().collect();
                assert_eq!(points[0].delivery_start, from.unix_timestamp());
                for (one, next) in points.iter().zip(&points[1..]) {
                    let length = next.delivery_start - one.delivery_start;
                    assert_eq!(length, resolution.seconds(), "{date}");
                }
            }
        }
    }
}

async fn a_series_nobody_wrote_has_no_values(db: TestDb) {
    for view in [View::Latest, View::KnownAt(NOW), View::Run(1)] {
        let curve = db.curve(DAY, DAY + HOUR * 30, view).await;
        assert_eq!(curve.points().count(), 0);
        let values: Vec<_> = curve.values().collect();
        assert_eq!(values.len(), 30);
        assert!(values.iter().all(|mwh| mwh.is_nan()));
        assert_eq!(curve.position(), db.forecasts.clock().applied());
    }
    let unknown = SeriesKey {
        unit: plant(99),
        ..series()
    };
    match db.curve_of(&unknown, DAY, DAY + HOUR, View::Latest).await {
        Err(ForecastError::UnknownUnit { key, path: None }) => assert_eq!(key, plant(99)),
        other => panic!("{other:?}"),
    }
    let nobody: ProviderKey = "nobody".parse().unwrap();
    let unknown = SeriesKey {
        provider: nobody.clone(),
        ..series()
    };
    match db.curve_of(&unknown, DAY, DAY + HOUR, View::Latest).await {
        Err(ForecastError::UnknownProvider { key, path: None }) => assert_eq!(key, nobody),
        other => panic!("{other:?}"),
    }
}

/// That there is no such series may be remembered, until there is.
async fn the_first_write_of_a_series_is_seen(db: TestDb) {
    assert_eq!(db.hours(View::Latest).await, [None; 6]);
    db.save(run(NOW, DAY, [1.0])).await;
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
    // A day without a version is remembered likewise.
    let next = DAY + Duration::DAY;
    let first = async || {
        let curve = db.curve(next, next + HOUR, View::Latest).await;
        curve.values().map(some).next().unwrap()
    };
    assert_eq!(first().await, None);
    db.save(run(NOW, next, [2.0])).await;
    assert_eq!(first().await, Some(2.0));
    // The series' id is looked up once: writes do not change it.
    let metrics = db.forecasts.metrics();
    let lookups = metrics.misses.get_or_create(&[("cache", "series")]).get();
    assert_eq!(lookups, 2);
}

async fn resolutions_are_series_of_their_own(db: TestDb) {
    db.save(run(NOW, DAY, [1.0])).await;
    let quarters = SeriesKey {
        resolution: Resolution::QuarterHour,
        ..series()
    };
    let curve = db.curve_of(&quarters, DAY, DAY + HOUR, View::Latest).await;
    assert_eq!(curve.unwrap().points().count(), 0);
    db.save(run_of(&quarters, NOW, DAY, [0.1, 0.2, 0.3, 0.4]))
        .await;
    let curve = db.curve_of(&quarters, DAY, DAY + HOUR, View::Latest).await;
    let values: Vec<_> = curve.unwrap().values().collect();
    assert_eq!(values, [0.1, 0.2, 0.3, 0.4]);
    assert_eq!(db.hours(View::Latest).await[0], Some(1.0));
}

async fn warming_up_loads_today_and_the_days_after(db: TestDb) {
    let today = datetime!(2024-06-15 00:00 UTC);
    db.save(run(NOW, today - Duration::days(2), [1.0; 24 * 7]))
        .await;
    let other = SeriesKey {
        unit: plant(2),
        resolution: Resolution::HalfHour,
        ..series()
    };
    db.save(run_of(&other, NOW, today, [1.0; 48])).await;
    assert_eq!(db.forecasts.warm_up(NOW).await.unwrap(), 4);
    let misses = || {
        let metrics = db.forecasts.metrics();
        metrics.misses.get_or_create(&[("cache", "latest")]).get()
    };
    let loaded = misses();
    let to = today + Duration::days(3);
    let curve = db.curve(today, to, View::Latest).await;
    assert_eq!(curve.points().count(), 72);
    assert_eq!(misses(), loaded);
}

async fn what_a_run_wrote_is_found_by_day(db: TestDb) {
    let values = [Some(1.0), None, Some(3.0), Some(4.0)];
    let id = db.save(run(NOW, DAY + HOUR * 22, values)).await;
    db.save(run(NOW + HOUR, DAY + HOUR * 22, [9.0; 4])).await;
    let series_id: i64 = db.rows("SELECT id FROM series").await[0]
        .try_get("", "id")
        .unwrap();
    let touching = |from: i64, to: i64| ForecastChange {
        series: series(),
        series_id,
        run_id: id,
        from: DAY + Duration::days(from),
        to: DAY + Duration::days(to),
    };
    let changes = [
        touching(-1, 6),
        touching(0, 2),
        touching(1, 2),
        touching(2, 10),
        ForecastChange {
            run_id: id + 1,
            ..touching(0, 1)
        },
    ];
    let changes: Vec<&ForecastChange> = changes.iter().collect();
    let written = domain::forecast::written(db.db.reader(), &changes)
        .await
        .unwrap();
    let written: Vec<Vec<_>> = written
        .iter()
        .map(|days| {
            days.iter()
                .flat_map(|day| day.points(Resolution::Hour))
                .map(|point| (point.delivery_start, point.mwh))
                .collect()
        })
        .collect();
    let at = |hour: i32| (DAY + HOUR * hour).unix_timestamp();
    let both = [(at(22), 1.0), (at(24), 3.0), (at(25), 4.0)];
    let of_another = [(at(22), 9.0), (at(23), 9.0)];
    let expect: [&[_]; 5] = [&both, &both, &both[1..], &[], &of_another];
    assert_eq!(written, expect);
}
