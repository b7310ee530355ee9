//! An answer from memory costs the same, however many points it has.

use std::hint::black_box;

use domain::forecast::{DeliveryRange, Resolution, SeriesKey, View};
use futures_util::FutureExt;
use time::Duration;

use crate::support::{DAY, NOW, TestDb, run_of, series};

#[tokio::test]
async fn a_warm_answer_allocates_nothing_per_point() {
    let db = TestDb::sqlite().await;
    let mut counts = Vec::new();
    for (resolution, days) in [
        (Resolution::Hour, 1),
        (Resolution::QuarterHour, 1),
        (Resolution::Hour, 7),
        (Resolution::QuarterHour, 7),
    ] {
        let series = SeriesKey {
            resolution,
            ..series()
        };
        let to = DAY + Duration::days(days);
        let range = DeliveryRange::covering(resolution, DAY, to, 1000).unwrap();
        db.save(run_of(&series, NOW, DAY, vec![1.5; range.periods()]))
            .await;
        let curve = db.forecasts.curve(&series, range, View::Latest).await;
        assert_eq!(curve.unwrap().points().count(), range.periods());
        let warm = || {
            let answer = db.forecasts.curve(&series, range, View::Latest);
            let curve = answer.now_or_never().unwrap().unwrap();
            for point in curve.points() {
                black_box(point);
            }
            black_box(curve.values().sum::<f64>());
        };
        // The cache keeps its books on the way of some calls: the least is the answer's own.
        let least = (0..100)
            .map(|_| allocation_counter::measure(warm).count_total)
            .min();
        counts.push(least.unwrap());
    }
    assert_eq!(counts, [1, 1, 1, 1], "the list of its days");
}
