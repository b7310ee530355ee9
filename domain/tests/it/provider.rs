//! Providers are written all or none, and listed by pages.

use domain::change::{Operation, Receipt, Subject};
use domain::provider::{self, ProviderError, ProviderKey, ProviderUpsert};

use crate::support::{TestDb, on_both_databases};

on_both_databases!(
    an_absent_name_is_left_as_it_is,
    what_is_already_so_is_no_change,
    all_or_none_are_written,
    they_are_paged_in_both_directions,
);

fn key(key: &str) -> ProviderKey {
    key.parse().unwrap()
}

fn named(provider: &str, name: Option<&str>) -> ProviderUpsert {
    ProviderUpsert {
        key: key(provider),
        name: name.map(Into::into),
    }
}

async fn name(db: &TestDb, provider: &str) -> Option<String> {
    let found = db.forecasts.provider(&key(provider)).await.unwrap();
    found.map(|provider| provider.name.clone())
}

async fn an_absent_name_is_left_as_it_is(db: TestDb) {
    assert_eq!(name(&db, "new").await, None);
    provider::upsert(&db.db, &[named("new", None)])
        .await
        .unwrap();
    db.tail().await;
    assert_eq!(name(&db, "new").await.unwrap(), "new");
    for (given, expect) in [
        (Some("Sun & Co"), "Sun & Co"),
        (None, "Sun & Co"),
        (Some("Güneş"), "Güneş"),
    ] {
        provider::upsert(&db.db, &[named("new", given)])
            .await
            .unwrap();
        db.tail().await;
        assert_eq!(name(&db, "new").await.unwrap(), expect);
    }
}

async fn what_is_already_so_is_no_change(db: TestDb) {
    let both = [named("new", Some("New")), named("provider-a", None)];
    provider::upsert(&db.db, &both).await.unwrap();
    let changes = db.tail().await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].operation, Operation::Insert);
    assert_eq!(changes[0].subject, Subject::Provider(key("new")));
    provider::upsert(&db.db, &both).await.unwrap();
    assert_eq!(db.tail().await, []);
    provider::upsert(&db.db, &[named("new", Some("Newer"))])
        .await
        .unwrap();
    assert_eq!(db.tail().await[0].operation, Operation::Update);
    assert_eq!(
        provider::upsert(&db.db, &[]).await.unwrap(),
        Receipt::Nothing
    );
}

async fn all_or_none_are_written(db: TestDb) {
    let long = "n".repeat(201);
    let given = [
        named("good", None),
        named("empty", Some("")),
        named("long", Some(&long)),
        named("good", None),
    ];
    match provider::upsert(&db.db, &given).await {
        Err(ProviderError::Invalid(violations)) => {
            let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
            assert_eq!(
                paths,
                ["providers[1].name", "providers[2].name", "providers[3].key"]
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(db.count("provider").await, 2);
    assert_eq!(db.tail().await, []);
}

async fn they_are_paged_in_both_directions(db: TestDb) {
    let all: Vec<String> = ["0", "a", "b.c", "b-d", "b_e", "m", "z9"]
        .iter()
        .map(ToString::to_string)
        .collect();
    let given: Vec<_> = all.iter().map(|key| named(key, None)).collect();
    provider::upsert(&db.db, &given).await.unwrap();
    let page = async |after: Option<&ProviderKey>, before: Option<&ProviderKey>, from_end| {
        let page = provider::page(db.db.reader(), after, before, 4, from_end);
        let page = page.await.unwrap();
        page.into_iter().map(|p| p.key).collect::<Vec<_>>()
    };
    let mut forward: Vec<ProviderKey> = Vec::new();
    loop {
        let next = page(forward.last(), None, false).await;
        if next.is_empty() {
            break;
        }
        forward.extend(next);
    }
    assert_eq!(forward.len(), 9);
    let mut backward: Vec<ProviderKey> = Vec::new();
    loop {
        let mut next = page(None, backward.first(), true).await;
        if next.is_empty() {
            break;
        }
        next.extend(backward);
        backward = next;
    }
    assert_eq!(backward, forward);
    let between = page(Some(&forward[2]), Some(&forward[5]), false).await;
    assert_eq!(between, forward[3..5]);
}
