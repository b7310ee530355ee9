//! What becomes of connections whose transactions could not be begun or ended.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use domain::Patch;
use domain::change::{self, Receipt, TickMode};
use domain::database::{Database, Fault};
use domain::notification::{self, SendRequest};
use domain::unit::{self, UnitUpsert};
use sea_orm::ConnectionTrait;

use crate::notification::{people, to_users};
use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run, unit_upsert};

on_both_databases!(a_begin_that_is_cut_off_leaves_no_transaction_behind);

/// Polls a future so many times, then drops it.
async fn cut_after(polls: usize, work: impl Future) {
    let mut work = pin!(work);
    for _ in 0..polls {
        let done = poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_ready())).await;
        if done {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn a_begin_that_is_cut_off_leaves_no_transaction_behind(db: TestDb) {
    let elsewhere = db.connect_again().await;
    let db = db.db.clone();
    for polls in 0..60 {
        cut_after(polls, db.begin()).await;
        cut_after(polls, db.snapshot()).await;
        // A statement of its own is committed by itself, whatever connection it gets.
        let key = format!("cut-{polls}");
        let insert = format!("INSERT INTO provider (key, name) VALUES ('{key}', '{key}')");
        for connection in 0..5 {
            let update = format!("UPDATE provider SET name = '{connection}' WHERE key = '{key}'");
            let statement = if connection == 0 { &insert } else { &update };
            db.writer().execute_unprepared(statement).await.unwrap();
            let row = elsewhere
                .query_one_raw(sea_orm::Statement::from_string(
                    elsewhere.get_database_backend(),
                    format!("SELECT name FROM provider WHERE key = '{key}'"),
                ))
                .await
                .unwrap();
            let name = row.map(|row| row.try_get::<String>("", "name").unwrap());
            let expect = if connection == 0 {
                key.clone()
            } else {
                connection.to_string()
            };
            assert_eq!(name, Some(expect), "after {polls} polls");
        }
    }
}

/// Limits the file of the writing connection to so many pages more than it has,
/// as a full disk would.
async fn leave_room(db: &Database, pages: i64) {
    let row = db
        .writer()
        .query_one_raw(sea_orm::Statement::from_string(
            db.backend(),
            "PRAGMA page_count",
        ))
        .await
        .unwrap()
        .unwrap();
    let count: i64 = row.try_get_by_index(0).unwrap();
    let limit = format!("PRAGMA max_page_count = {}", count + pages);
    db.writer().execute_unprepared(&limit).await.unwrap();
}

async fn make_room(db: &Database) {
    let limit = "PRAGMA max_page_count = 1073741823";
    db.writer().execute_unprepared(limit).await.unwrap();
}

/// What is tried on a full disk, and which rows come of it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Save,
    Upsert,
    Send,
    /// Numbers what another program wrote.
    Tick,
    /// The same, where curves that it touched are folded to changes.
    Fold,
}

impl Step {
    fn count(self) -> &'static str {
        match self {
            Self::Save => "SELECT count(*) FROM forecast_run",
            Self::Upsert => "SELECT count(*) FROM unit",
            Self::Send => "SELECT count(*) FROM notification",
            Self::Tick | Self::Fold => "SELECT count(*) FROM change WHERE position IS NOT NULL",
        }
    }

    async fn take(self, db: &TestDb, number: usize) -> Result<(), Fault> {
        let number = i64::try_from(number).unwrap();
        let receipt = match self {
            Self::Save => {
                let values = (0..2000).map(|i| Some(f64::from(i) / 7.0));
                let start = DAY + HOUR * i32::try_from(number % 100).unwrap();
                let saved = db.try_save(vec![run(NOW, start, values)]).await;
                saved.map_err(|error| Fault::behind(&error))?.receipt
            }
            Self::Upsert => {
                let named = |i| UnitUpsert {
                    name: Patch::Set("n".repeat(200)),
                    ..unit_upsert(plant(1000 + number * 200 + i))
                };
                let units: Vec<UnitUpsert> = (0..200).map(named).collect();
                let upserted = unit::upsert(&db.db, &units).await;
                upserted.map_err(|error| Fault::behind(&error))?
            }
            Self::Send => {
                let request = SendRequest {
                    body: "b".repeat(8000),
                    ..to_users(&["a"])
                };
                let sent = notification::send(&db.db, "sender", &request, NOW).await;
                sent.map_err(|error| Fault::behind(&error))?.receipt
            }
            Self::Tick | Self::Fold => {
                let ticked = change::tick(&db.db, TickMode::Wait).await;
                return ticked.map(drop).map_err(|error| Fault::of(&error));
            }
        };
        assert!(matches!(receipt, Receipt::Numbered(_)), "{receipt:?}");
        Ok(())
    }

    /// What another program writes before it, and leaves the numbering to us.
    fn left_by_others(self, round: i64) -> Option<String> {
        match self {
            Self::Save | Self::Upsert | Self::Send => None,
            Self::Tick => {
                let rows: Vec<String> = (0..200)
                    .map(|i| format!("('tick-{round}-{i}', '{}')", "n".repeat(100)))
                    .collect();
                let rows = rows.join(",");
                Some(format!("INSERT INTO provider (key, name) VALUES {rows}"))
            }
            Self::Fold => Some("UPDATE forecast_curve SET first_period = first_period".to_owned()),
        }
    }
}

#[tokio::test]
async fn what_is_acknowledged_on_a_disk_that_was_full_is_there() {
    for step in [Step::Save, Step::Upsert, Step::Send, Step::Tick, Step::Fold] {
        let db = TestDb::sqlite().await;
        people(&db).await;
        let elsewhere = db.connect_again().await;
        if matches!(step, Step::Fold) {
            for run in 0..60 {
                Step::Save.take(&db, run).await.unwrap();
            }
        }
        let (mut number, mut refused) = (0, 0);
        // More and more room, so that it runs out at one statement after another.
        for pages in 0..24 {
            if let Some(sql) = step.left_by_others(pages) {
                elsewhere.execute_unprepared(&sql).await.unwrap();
            }
            leave_room(&db.db, pages).await;
            for has_room in [false, false, false, true] {
                if has_room {
                    make_room(&db.db).await;
                }
                let before = count(&elsewhere, step.count()).await;
                let outcome = step.take(&db, number).await;
                number += 1;
                let after = count(&elsewhere, step.count()).await;
                match outcome {
                    // A tick that was done before has nothing to do.
                    Ok(()) if matches!(step, Step::Tick | Step::Fold) => assert!(after >= before),
                    Ok(()) => assert!(after > before, "{step:?} was acknowledged and is not there"),
                    Err(fault) => {
                        refused += 1;
                        assert!(!has_room, "{step:?}, with room again: {fault:?}");
                        assert_eq!(fault, Fault::Unavailable, "{step:?}");
                        assert_eq!(after, before, "{step:?} was refused and is there");
                    }
                }
            }
            let unnumbered = "SELECT count(*) FROM change WHERE position IS NULL";
            assert_eq!(count(&elsewhere, unnumbered).await, 0, "{step:?}");
        }
        assert!(refused >= 3, "{step:?} met no full disk: {refused}");
    }
}

async fn count(db: &sea_orm::DatabaseConnection, sql: &str) -> i64 {
    let statement = sea_orm::Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn a_server_that_has_become_a_standby_is_left_for_its_successor() {
    let db = TestDb::postgres().await;
    let admin = db.connect_again().await;
    let name = name_of(&admin).await;
    let set = |to: &str| format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}");
    // Connections that are made now lead to a standby for as long as they live.
    admin.execute_unprepared(&set("on")).await.unwrap();
    admin.execute_unprepared(TERMINATE_OTHERS).await.unwrap();
    let insert = "INSERT INTO provider (key, name) VALUES ('p', 'p') ON CONFLICT (key) DO NOTHING";
    let mut refused = None;
    for _ in 0..20 {
        refused = db.db.writer().execute_unprepared(insert).await.err();
        if (refused.as_ref()).is_some_and(|error| Fault::of(error) == Fault::ReadOnly) {
            break;
        }
    }
    assert_eq!(
        refused.as_ref().map(Fault::of),
        Some(Fault::ReadOnly),
        "{refused:?}"
    );
    admin.execute_unprepared(&set("off")).await.unwrap();
    // The pace at which connections are replaced may have let one through.
    let mut tries = 0;
    while let Err(error) = db.db.writer().execute_unprepared(insert).await {
        assert_eq!(Fault::of(&error), Fault::ReadOnly, "{error}");
        tries += 1;
        assert!(tries < 5000, "the pool does not heal");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let txn = db.db.begin().await.unwrap();
    txn.execute_unprepared(insert).await.unwrap();
    txn.commit().await.unwrap();
}

const TERMINATE_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn name_of(db: &sea_orm::DatabaseConnection) -> String {
    let statement = sea_orm::Statement::from_string(
        db.get_database_backend(),
        "SELECT current_database()::text AS name",
    );
    let row = db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get("", "name").unwrap()
}

#[tokio::test]
async fn a_deadlock_with_another_program_is_tried_again() {
    let db = TestDb::postgres().await;
    let other = db.connect_again().await;
    // It waits longer than we do before it looks for a deadlock: we are its victim.
    other
        .execute_unprepared("SET deadlock_timeout = '60s'; BEGIN; SELECT * FROM unit WHERE unit_number = 2 FOR UPDATE")
        .await
        .unwrap();
    let units = [plant(1), plant(2)].map(|key| UnitUpsert {
        name: Patch::Set("ours".to_owned()),
        ..unit_upsert(key)
    });
    let theirs = async {
        // Once ours has the first and waits for the second.
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()";
        let waits = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waiting);
        while other.query_one_raw(waits.clone()).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        other
            .execute_unprepared("UPDATE unit SET name = 'theirs' WHERE unit_number = 1; COMMIT")
            .await
            .unwrap();
    };
    let (ours, ()) = tokio::join!(unit::upsert(&db.db, &units), theirs);
    assert!(matches!(ours, Ok(Receipt::Transaction(_))), "{ours:?}");
    let unit = unit::by_keys(db.db.reader(), &[plant(1)]).await.unwrap();
    assert_eq!(unit[0].name.as_str(), "ours");
}
