//! The view for people who use SQL says what the API says.

use domain::forecast::{Resolution, SeriesKey, View};
use time::{Duration, OffsetDateTime};

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run, run_of, series};

on_both_databases!(
    it_is_what_each_run_gave,
    its_latest_rows_are_the_latest_curve
);

async fn save_some(db: &TestDb) -> Vec<(SeriesKey, i64)> {
    let quarters = SeriesKey {
        unit: plant(2),
        provider: "provider-b".parse().unwrap(),
        resolution: Resolution::QuarterHour,
    };
    let half = |i: i32| (i % 5 != 2).then_some(f64::from(i) / 3.0);
    vec![
        (
            series(),
            db.save(run(NOW, DAY + HOUR * 20, (0..40).map(half))).await,
        ),
        (
            series(),
            db.save(run(NOW + HOUR, DAY + HOUR * 30, (0..9).map(half)))
                .await,
        ),
        (
            quarters.clone(),
            db.save(run_of(&quarters, NOW, DAY, (0..120).map(half)))
                .await,
        ),
    ]
}

async fn values(db: &TestDb, condition: &str) -> Vec<(i64, i64, f64)> {
    let rows = db
        .rows(&format!(
            "SELECT delivery_start, delivery_end, mwh FROM forecast_value WHERE {condition} ORDER BY delivery_start"
        ))
        .await;
    rows.iter()
        .map(|row| {
            let at = |column| -> i64 {
                let at: OffsetDateTime = row.try_get("", column).unwrap();
                at.unix_timestamp()
            };
            (
                at("delivery_start"),
                at("delivery_end"),
                row.try_get("", "mwh").unwrap(),
            )
        })
        .collect()
}

async fn it_is_what_each_run_gave(db: TestDb) {
    for (series, id) in save_some(&db).await {
        let to = DAY + Duration::days(4);
        let curve = db.curve_of(&series, DAY, to, View::Run(id)).await.unwrap();
        let length = series.resolution.seconds();
        let expect: Vec<_> = curve
            .points()
            .map(|p| (p.delivery_start, p.delivery_start + length, p.mwh))
            .collect();
        assert!(!expect.is_empty());
        let condition = format!(
            "run_id = {id} AND unit_type = 'PLANT' AND unit_number = {} AND provider_key = '{}' AND resolution = '{}' AND level = 'EXPECTED'",
            series.unit.number(),
            series.provider,
            series.resolution
        );
        assert_eq!(values(&db, &condition).await, expect);
    }
}

async fn its_latest_rows_are_the_latest_curve(db: TestDb) {
    save_some(&db).await;
    let curve = db.curve(DAY, DAY + Duration::days(4), View::Latest).await;
    let expect: Vec<_> = curve
        .points()
        .map(|p| (p.delivery_start, p.delivery_start + 3600, p.mwh))
        .collect();
    let latest = "unit_number = 1 AND NOT EXISTS (SELECT 1 FROM forecast_value newer \
         WHERE newer.series_id = forecast_value.series_id AND newer.delivery_start = forecast_value.delivery_start \
           AND (newer.issued_at, newer.run_id) > (forecast_value.issued_at, forecast_value.run_id))";
    assert_eq!(values(&db, latest).await, expect);
}
