//! What is old goes, by the database's clock.

use domain::database;
use domain::notification::{self, InboxFilter};
use domain::retention::{Retention, sweep};
use time::Duration;

use crate::notification::{people, to_users};
use crate::support::{TestDb, on_both_databases};

on_both_databases!(what_is_old_goes_by_the_databases_clock);

async fn what_is_old_goes_by_the_databases_clock(db: TestDb) {
    let [a, ..] = people(&db).await;
    let now = database::now(db.db.reader()).await.unwrap();
    for age in [Duration::HOUR * 3, Duration::HOUR] {
        let sent = notification::send(&db.db, "sender", &to_users(&["a"]), now - age).await;
        sent.unwrap();
    }
    db.tail().await;
    let changes = db.count("change").await;
    let keep = async |changes, notifications| {
        let retention = Retention {
            changes,
            notifications,
        };
        while sweep(&db.db, retention).await.unwrap() {}
    };
    let left = async || {
        let everything = InboxFilter::default();
        let list = notification::list(db.db.reader(), a, &everything, None, None, 9, false).await;
        (db.count("change").await, list.unwrap().len())
    };
    // Longer than any calendar.
    let forever = Duration::hours(i64::from(u32::MAX));
    keep(forever, forever).await;
    keep(Duration::MAX, Duration::MAX).await;
    assert_eq!(left().await, (changes, 2));
    keep(Duration::HOUR, Duration::HOUR * 2).await;
    assert_eq!(left().await, (changes, 1), "the changes were made just now");
    keep(-Duration::HOUR, Duration::HOUR * 2).await;
    assert_eq!(left().await, (0, 1));
}
