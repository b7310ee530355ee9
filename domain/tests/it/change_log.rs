//! Reading and pruning the log.

use domain::change::{self, Operation, Receipt, Subject};
use time::macros::datetime;

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run};

on_both_databases!(
    positions_are_contiguous_and_in_order,
    a_receipt_names_its_changes,
    a_page_is_bounded,
    only_what_is_old_is_pruned,
    what_has_no_position_is_not_pruned,
    pruning_goes_by_the_page,
);

async fn positions_are_contiguous_and_in_order(db: TestDb) {
    let begin = change::read_head(db.db.reader()).await.unwrap().number;
    for hour in 0..10 {
        db.try_save(vec![run(NOW + HOUR * hour, DAY, [1.0])])
            .await
            .unwrap();
    }
    db.sql("UPDATE unit SET name = 'Another'").await;
    let changes = db.tail().await;
    let numbers: Vec<_> = changes.iter().map(|c| c.position.number).collect();
    assert_eq!(numbers, (begin + 1..=begin + 12).collect::<Vec<_>>());
    let head = change::read_head(db.db.reader()).await.unwrap();
    assert_eq!(head, changes[11].position);
    let mut units: Vec<_> = changes[10..].iter().map(|c| c.subject.clone()).collect();
    units.sort_by_key(|subject| match subject {
        Subject::Unit(key) => Some(*key),
        _ => None,
    });
    assert_eq!(units, [Subject::Unit(plant(1)), Subject::Unit(plant(2))]);
    // Read on from anywhere.
    let page = change::read_after(db.db.reader(), begin + 7, change::PAGE)
        .await
        .unwrap();
    assert_eq!(page.head, head);
    let rest: Vec<_> = page.changes.into_iter().map(|(change, _)| change).collect();
    assert_eq!(rest, changes[7..]);
    let page = change::read_after(db.db.reader(), head.number, change::PAGE).await;
    let page = page.unwrap();
    assert_eq!((page.head, page.changes.len()), (head, 0));
    let page = change::read_after(db.db.reader(), u64::MAX, change::PAGE)
        .await
        .unwrap();
    assert_eq!((page.head, page.changes.len()), (head, 0));
}

async fn a_receipt_names_its_changes(db: TestDb) {
    let saved = db.try_save(vec![run(NOW, DAY, [1.0; 40])]).await.unwrap();
    let applied = db.forecasts.clock().applied().number;
    db.sql(if db.is_postgres() {
        "SELECT * FROM change_log_tick('wait')"
    } else {
        "SELECT 1"
    })
    .await;
    let page = change::read_after(db.db.reader(), applied, change::PAGE)
        .await
        .unwrap();
    let (last, xid) = page.changes.last().unwrap();
    match saved.receipt {
        Receipt::Numbered(position) => assert_eq!(position, last.position),
        Receipt::Transaction(number) => assert_eq!(Some(number), *xid),
        Receipt::Nothing => panic!("it wrote"),
    }
    // What changes nothing has nothing to wait for.
    let txn = db.db.begin().await.unwrap();
    assert_eq!(change::commit(txn).await.unwrap(), Receipt::Nothing);
}

async fn a_page_is_bounded(db: TestDb) {
    let runs: Vec<_> = (0..1500)
        .map(|minute| {
            let issued_at = NOW - time::Duration::minutes(minute);
            run(issued_at, DAY, [1.0])
        })
        .collect();
    db.try_save(runs).await.unwrap();
    assert_eq!(db.tail().await.len(), 1500);
    let begin = change::read_head(db.db.reader()).await.unwrap().number - 1500;
    let page = change::read_after(db.db.reader(), begin, change::PAGE)
        .await
        .unwrap();
    assert_eq!(page.changes.len() as u64, change::PAGE);
    assert_eq!(page.head.number, begin + 1500);
}

/// Gives the changes up to a position another age.
async fn age(db: &TestDb, condition: &str, changed_at: &str) {
    db.sql(&format!(
        "UPDATE change SET changed_at = '{changed_at}' WHERE {condition}"
    ))
    .await;
}

const OLD: &str = "2024-06-01T00:00:00.000000Z";
const NEW: &str = "2024-06-14T00:00:00.000000Z";

async fn positions(db: &TestDb) -> Vec<i64> {
    let rows = db
        .rows("SELECT position FROM change WHERE position IS NOT NULL ORDER BY position")
        .await;
    rows.iter()
        .map(|row| row.try_get("", "position").unwrap())
        .collect()
}

async fn only_what_is_old_is_pruned(db: TestDb) {
    for hour in 0..6 {
        db.save(run(NOW + HOUR * hour, DAY, [1.0])).await;
    }
    let all = positions(&db).await;
    assert_eq!(all, (1..=10).collect::<Vec<_>>());
    let before = datetime!(2024-06-08 00:00 UTC);
    let head = change::read_head(db.db.reader()).await.unwrap();
    age(&db, "true", NEW).await;
    assert_eq!(change::prune(db.db.writer(), before).await.unwrap(), 0);
    // A clock that was set back leaves an old time among newer ones: the log
    // must not get a hole.
    age(&db, "position <= 4 OR position = 8", OLD).await;
    assert_eq!(change::prune(db.db.writer(), before).await.unwrap(), 4);
    assert_eq!(positions(&db).await, (5..=10).collect::<Vec<_>>());
    assert_eq!(change::prune(db.db.writer(), before).await.unwrap(), 0);
    // The edge itself is not old.
    let edge = "2024-06-08T00:00:00.000000Z";
    age(&db, "position = 5", edge).await;
    assert_eq!(change::prune(db.db.writer(), before).await.unwrap(), 0);
    // All of it may go: the head stays, and what follows goes on from there.
    age(&db, "true", OLD).await;
    assert_eq!(change::prune(db.db.writer(), before).await.unwrap(), 6);
    assert_eq!(change::read_head(db.db.reader()).await.unwrap(), head);
    assert_eq!(db.tail().await, [], "pruning is no change");
    db.try_save(vec![run(NOW + HOUR * 9, DAY, [1.0])])
        .await
        .unwrap();
    let changes = db.tail().await;
    assert_eq!(changes[0].position.number, head.number + 1);
    assert_eq!(changes[0].operation, Operation::Insert);
}

async fn what_has_no_position_is_not_pruned(db: TestDb) {
    db.sql("INSERT INTO provider (key, name) VALUES ('somebody', 'Somebody')")
        .await;
    age(&db, "true", OLD).await;
    let gone = change::prune(db.db.writer(), NOW).await.unwrap();
    assert_eq!(gone, 4);
    let changes = db.tail().await;
    let somebody = Subject::Provider("somebody".parse().unwrap());
    assert_eq!(changes[0].subject, somebody);
}

async fn pruning_goes_by_the_page(db: TestDb) {
    let runs: Vec<_> = (0..1500)
        .map(|minute| {
            let issued_at = NOW - time::Duration::minutes(minute);
            run(issued_at, DAY, [1.0])
        })
        .collect();
    db.try_save(runs).await.unwrap();
    db.tail().await;
    age(&db, "true", OLD).await;
    // On PostgreSQL each tick left a row, of which the newest is the head.
    db.sql(&format!("UPDATE tick SET ticked_at = '{OLD}'"))
        .await;
    let head = change::read_head(db.db.reader()).await.unwrap();
    let mut gone = Vec::new();
    for _ in 0..3 {
        gone.push(change::prune(db.db.writer(), NOW).await.unwrap());
    }
    assert_eq!(gone, [1000, 504, 0]);
    assert_eq!(db.count("tick").await, 1, "the others are of no use");
    assert_eq!(change::read_head(db.db.reader()).await.unwrap(), head);
}
