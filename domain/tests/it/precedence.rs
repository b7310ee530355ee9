//! Which run's value counts.

use domain::forecast::View;

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, run};

on_both_databases!(
    a_later_issue_wins_its_periods,
    a_late_arrival_enters_history_only,
    of_equal_issue_the_higher_run_wins,
    a_null_lets_the_older_value_show,
    a_value_says_which_run_it_came_from,
);

const NONE: Option<f64> = None;

async fn a_later_issue_wins_its_periods(db: TestDb) {
    db.save(run(NOW, DAY, [1.0, 2.0, 3.0, 4.0])).await;
    assert_eq!(
        db.hours(View::Latest).await,
        [Some(1.0), Some(2.0), Some(3.0), Some(4.0), NONE, NONE]
    );
    // It is in memory now, and must not stay there.
    db.save(run(NOW + HOUR, DAY + HOUR, [20.0, 30.0])).await;
    assert_eq!(
        db.hours(View::Latest).await,
        [Some(1.0), Some(20.0), Some(30.0), Some(4.0), NONE, NONE]
    );
    db.save(run(NOW + HOUR * 2, DAY + HOUR * 3, [400.0, 500.0]))
        .await;
    assert_eq!(
        db.hours(View::Latest).await,
        [
            Some(1.0),
            Some(20.0),
            Some(30.0),
            Some(400.0),
            Some(500.0),
            NONE
        ]
    );
}

async fn a_late_arrival_enters_history_only(db: TestDb) {
    db.save(run(NOW, DAY, [1.0, 2.0])).await;
    let late = db.save(run(NOW - HOUR, DAY, [9.0, 9.0, 9.0])).await;
    assert_eq!(
        db.hours(View::Latest).await,
        [Some(1.0), Some(2.0), Some(9.0), NONE, NONE, NONE]
    );
    let before = View::KnownAt(NOW - HOUR / 2);
    let nines = [Some(9.0), Some(9.0), Some(9.0), NONE, NONE, NONE];
    assert_eq!(db.hours(before).await, nines);
    assert_eq!(db.hours(View::Run(late)).await, nines);
}

async fn of_equal_issue_the_higher_run_wins(db: TestDb) {
    let first = db.save(run(NOW, DAY, [1.0, 2.0])).await;
    let second = db.save(run(NOW, DAY, [10.0])).await;
    assert!(second > first);
    let expect = [Some(10.0), Some(2.0), NONE, NONE, NONE, NONE];
    assert_eq!(db.hours(View::Latest).await, expect);
    assert_eq!(db.hours(View::KnownAt(NOW)).await, expect);
    // Two runs of one save, too: the later given has the higher number.
    let runs = vec![run(NOW, DAY, [100.0]), run(NOW, DAY, [200.0])];
    db.try_save(runs).await.unwrap();
    db.tail().await;
    assert_eq!(db.hours(View::Latest).await[0], Some(200.0));
}

async fn a_null_lets_the_older_value_show(db: TestDb) {
    db.save(run(NOW, DAY, [1.0, 2.0, 3.0])).await;
    let with_nulls = [Some(10.0), None, Some(30.0), None];
    let newer = db.save(run(NOW + HOUR, DAY, with_nulls)).await;
    let expect = [Some(10.0), Some(2.0), Some(30.0), NONE, NONE, NONE];
    assert_eq!(db.hours(View::Latest).await, expect);
    assert_eq!(
        db.hours(View::Run(newer)).await,
        [Some(10.0), NONE, Some(30.0), NONE, NONE, NONE]
    );
}

async fn a_value_says_which_run_it_came_from(db: TestDb) {
    let first = db.save(run(NOW, DAY, [1.0, 2.0])).await;
    let second = db.save(run(NOW + HOUR, DAY, [10.0])).await;
    let curve = db.curve(DAY, DAY + HOUR * 6, View::Latest).await;
    let sources: Vec<_> = curve
        .points()
        .map(|point| (point.source.run_id, point.source.issued_at))
        .collect();
    assert_eq!(sources, [(second, NOW + HOUR), (first, NOW)]);
    let found = db.forecasts.run(second).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.issued_at, found.received_at), (NOW + HOUR, NOW));
}
