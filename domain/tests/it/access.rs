//! Keys are found by their secret's hash, and taken back for good.

use domain::access::{self, AccessError, ApiKey, NewApiKey, Role, Roles, Secret};
use time::Duration;

use crate::support::{NOW, TestDb, on_both_databases};

on_both_databases!(
    a_key_is_found_by_its_secret_alone,
    what_cannot_be_meant_is_refused,
    a_revoked_key_stays_so,
    keys_are_paged_in_both_directions,
);

fn new(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.to_owned(),
        user: String::from("feed"),
        roles: [Role::Provider, Role::Sender].into_iter().collect(),
        companies: vec!["company:1".parse().unwrap(), "company:22".parse().unwrap()],
        expires_at: None,
    }
}

async fn created(db: &TestDb, number: u8) -> ApiKey {
    let secret = Secret::of_random([number; 32]);
    access::create(&db.db, &new("A feed"), &secret, NOW)
        .await
        .unwrap()
}

async fn a_key_is_found_by_its_secret_alone(db: TestDb) {
    let secret = Secret::of_random([1; 32]);
    let given = NewApiKey {
        expires_at: Some(NOW + Duration::days(90)),
        ..new("Güneş")
    };
    let key = access::create(&db.db, &given, &secret, NOW).await.unwrap();
    assert_eq!(
        (
            key.name.as_str(),
            key.user.as_str(),
            key.roles,
            &key.companies
        ),
        ("Güneş", "feed", given.roles, &given.companies)
    );
    assert_eq!((key.created_at, key.expires_at), (NOW, given.expires_at));
    assert_eq!((key.revoked_at, key.last_used_at), (None, None));
    assert!(secret.reveal().starts_with(&key.prefix) && key.prefix.len() < 12);
    let found = access::by_hash(db.db.reader(), &secret.hash())
        .await
        .unwrap();
    assert_eq!(found, Some(key.clone()));
    let other = Secret::of_random([2; 32]).hash();
    assert_eq!(access::by_hash(db.db.reader(), &other).await.unwrap(), None);
    // The later use counts, whoever tells it last.
    for minutes in [5, 3] {
        let at = NOW + Duration::minutes(minutes);
        access::note_use(&db.db, key.id, at).await.unwrap();
    }
    let found = access::by_hash(db.db.reader(), &secret.hash())
        .await
        .unwrap();
    let used = found.unwrap().last_used_at;
    assert_eq!(used, Some(NOW + Duration::minutes(5)));
    // It is no change of the log, which has only what is forecast.
    assert_eq!(db.tail().await, []);
}

async fn what_cannot_be_meant_is_refused(db: TestDb) {
    let given = NewApiKey {
        name: String::new(),
        user: String::from("a\nb"),
        roles: Roles::default(),
        companies: vec!["plant:1".parse().unwrap()],
        expires_at: Some(NOW),
    };
    match access::create(&db.db, &given, &Secret::of_random([1; 32]), NOW).await {
        Err(AccessError::Invalid(violations)) => {
            let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
            assert_eq!(paths, ["name", "user", "companies", "expiresAt"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.count("api_key").await, 0);
}

async fn a_revoked_key_stays_so(db: TestDb) {
    let (first, second) = (created(&db, 1).await, created(&db, 2).await);
    let revoked = access::revoke(&db.db, first.id, NOW).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW));
    let again = access::revoke(&db.db, first.id, NOW + Duration::HOUR).await;
    assert_eq!(again.unwrap().revoked_at, Some(NOW));
    let ids = [first.id, second.id, 77];
    let left = access::unrevoked(db.db.reader(), &ids).await.unwrap();
    assert_eq!(left, [second.id]);
    let unknown = access::revoke(&db.db, 77, NOW).await;
    assert!(matches!(unknown, Err(AccessError::UnknownKey(77))));
}

async fn keys_are_paged_in_both_directions(db: TestDb) {
    let mut ids = Vec::new();
    for number in 1..=5 {
        ids.push(created(&db, number).await.id);
    }
    let page = async |after, before, from_end| {
        let page = access::page(db.db.reader(), after, before, 3, from_end).await;
        page.unwrap().iter().map(|key| key.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None, false).await, ids[..3]);
    assert_eq!(page(Some(ids[2]), None, false).await, ids[3..]);
    assert_eq!(page(None, None, true).await, ids[2..]);
    assert_eq!(page(None, Some(ids[2]), true).await, ids[..2]);
    assert_eq!(page(Some(ids[0]), Some(ids[3]), false).await, ids[1..3]);
}
