//! The same save twice is one save.

use domain::forecast::{self, ForecastError, SaveRequest, Saved};
use time::{Duration, OffsetDateTime};

use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run};

on_both_databases!(
    a_key_is_answered_again_and_nothing_is_written,
    a_key_stands_for_one_request,
    a_key_is_the_viewers_own,
    a_key_is_kept_for_a_day,
    a_refused_save_leaves_its_key_free,
    concurrent_twins_are_one_save,
    old_keys_are_forgotten,
    a_key_has_a_length,
);

fn request(key: &str, mwh: f64) -> SaveRequest {
    SaveRequest {
        runs: vec![run(NOW, DAY, [mwh]), run(NOW + HOUR, DAY, [mwh + 1.0])],
        idempotency_key: Some(key.to_owned()),
    }
}

async fn save(
    db: &TestDb,
    viewer: &str,
    request: &SaveRequest,
    now: OffsetDateTime,
) -> Result<Saved, ForecastError> {
    forecast::save(&db.db, viewer, request, now).await
}

async fn a_key_is_answered_again_and_nothing_is_written(db: TestDb) {
    let first = save(&db, "anna", &request("k", 1.0), NOW).await.unwrap();
    db.tail().await;
    let before = db.counts().await;
    let again = save(&db, "anna", &request("k", 1.0), NOW + HOUR)
        .await
        .unwrap();
    assert_eq!(again.run_ids, first.run_ids);
    assert_eq!(again.values, first.values);
    assert_eq!(db.counts().await, before);
    assert_eq!(db.tail().await, []);
    // An issue time that is left to the server does not make it another request.
    let mut unissued = request("l", 1.0);
    unissued.runs[0].issued_at = None;
    let first = save(&db, "anna", &unissued, NOW).await.unwrap();
    let again = save(&db, "anna", &unissued, NOW + HOUR).await.unwrap();
    assert_eq!(again.run_ids, first.run_ids);
}

async fn a_key_stands_for_one_request(db: TestDb) {
    save(&db, "anna", &request("k", 1.0), NOW).await.unwrap();
    let before = db.counts().await;
    let mut others = vec![request("k", 2.0), request("k", -1.0)];
    others.extend((0..5).map(|i| {
        let mut other = request("k", 1.0);
        match i {
            0 => other.runs.truncate(1),
            1 => other.runs.reverse(),
            2 => other.runs[0].unit = plant(2),
            3 => other.runs[0].issued_at = None,
            _ => other.runs[0] = run(NOW, DAY + HOUR, [1.0]),
        }
        other
    }));
    for other in others {
        let error = save(&db, "anna", &other, NOW).await.unwrap_err();
        assert!(
            matches!(error, ForecastError::IdempotencyConflict),
            "{other:?}: {error:?}"
        );
    }
    assert_eq!(db.counts().await, before);
}

async fn a_key_is_the_viewers_own(db: TestDb) {
    let anna = save(&db, "anna", &request("k", 1.0), NOW).await.unwrap();
    let bert = save(&db, "bert", &request("k", 1.0), NOW).await.unwrap();
    assert_ne!(anna.run_ids, bert.run_ids);
    save(&db, "carl", &request("k", 2.0), NOW).await.unwrap();
    assert_eq!(db.count("forecast_run").await, 6);
}

async fn a_key_is_kept_for_a_day(db: TestDb) {
    let first = save(&db, "anna", &request("k", 1.0), NOW).await.unwrap();
    let almost = NOW + Duration::DAY - Duration::MICROSECOND;
    let again = save(&db, "anna", &request("k", 1.0), almost).await.unwrap();
    assert_eq!(again.run_ids, first.run_ids);
    let later = save(&db, "anna", &request("k", 1.0), NOW + Duration::DAY)
        .await
        .unwrap();
    assert_ne!(later.run_ids, first.run_ids);
    // It counts from then on.
    let again = save(&db, "anna", &request("k", 1.0), NOW + Duration::hours(47))
        .await
        .unwrap();
    assert_eq!(again.run_ids, later.run_ids);
    // An expired key may stand for something else.
    save(&db, "anna", &request("k", 9.0), NOW + Duration::hours(48))
        .await
        .unwrap();
}

async fn a_refused_save_leaves_its_key_free(db: TestDb) {
    let invalid = save(&db, "anna", &request("k", f64::NAN), NOW).await;
    assert!(matches!(invalid, Err(ForecastError::Invalid(_))));
    let mut unknown = request("k", 1.0);
    unknown.runs[1].unit = plant(99);
    let unknown = save(&db, "anna", &unknown, NOW).await;
    assert!(matches!(unknown, Err(ForecastError::UnknownUnit { .. })));
    assert_eq!(db.count("idempotency_key").await, 0);
    save(&db, "anna", &request("k", 2.0), NOW).await.unwrap();
}

async fn concurrent_twins_are_one_save(db: TestDb) {
    for round in 0..10 {
        let request = request(&format!("k{round}"), 1.0);
        let runs = db.count("forecast_run").await;
        let (a, b, c) = tokio::join!(
            save(&db, "anna", &request, NOW),
            save(&db, "anna", &request, NOW),
            save(&db, "anna", &request, NOW),
        );
        let a = a.unwrap().run_ids;
        assert_eq!(a, b.unwrap().run_ids);
        assert_eq!(a, c.unwrap().run_ids);
        assert_eq!(db.count("forecast_run").await, runs + 2);
    }
}

async fn old_keys_are_forgotten(db: TestDb) {
    save(&db, "anna", &request("old", 1.0), NOW).await.unwrap();
    let later = NOW + Duration::DAY;
    save(&db, "anna", &request("new", 1.0), later)
        .await
        .unwrap();
    let gone = domain::idempotency::forget(&db.db, later).await;
    assert_eq!(gone.unwrap(), 1);
    assert_eq!(db.count("idempotency_key WHERE key = 'new'").await, 1);
}

async fn a_key_has_a_length(db: TestDb) {
    let before = db.counts().await;
    for key in [String::new(), "k".repeat(201)] {
        let error = save(&db, "anna", &request(&key, 1.0), NOW).await;
        match error {
            Err(ForecastError::Invalid(violations)) => {
                assert_eq!(violations[0].path, "idempotencyKey");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(db.counts().await, before);
    // Characters, not bytes.
    let long = "ş".repeat(200);
    save(&db, "anna", &request(&long, 1.0), NOW).await.unwrap();
}
