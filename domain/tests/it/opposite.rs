//! Two callers that write the same rows in opposite orders: each waits for the
//! other, or does not, but never both for each other.

use domain::Patch;
use domain::forecast::{self, NewRun, SaveRequest};
use domain::notification::{self, Channel, GroupUpsert, Preference, SettingsUpdate, UserUpsert};
use domain::provider::{self, ProviderUpsert};
use domain::unit::{self, UnitKey, UnitType, UnitUpsert};

use crate::notification::{people, send, to_users};
use crate::support::{DAY, NOW, TestDb, on_both_databases, plant, run_of, series, unit_upsert};

on_both_databases!(
    units,
    providers_and_series,
    users_and_groups,
    what_a_user_wants_and_has_read,
);

/// Without an order of locks a handful of rounds meets a deadlock.
const ROUNDS: i64 = 50;

/// Two writes at once, of both items in either order.
async fn both_ways<T: Clone, E: std::fmt::Debug>(
    items: [T; 2],
    write: impl AsyncFn(Vec<T>) -> Result<(), E>,
) {
    let [first, second] = items;
    let (one, other) = tokio::join!(
        write(vec![first.clone(), second.clone()]),
        write(vec![second, first])
    );
    one.unwrap();
    other.unwrap();
}

async fn units(db: TestDb) {
    let write = async |units: Vec<UnitUpsert>| unit::upsert(&db.db, &units).await.map(|_| ());
    let groups = [7, 8].map(|number| UnitKey::new(UnitType::Group, number).unwrap());
    write(groups.map(unit_upsert).to_vec()).await.unwrap();
    for round in 0..ROUNDS {
        // Known ones, all of each, and units that are new.
        for numbers in [[1, 2], [100 + 2 * round, 101 + 2 * round]] {
            let all = numbers.map(|number| UnitUpsert {
                name: Patch::Set(format!("{number} in {round}")),
                parent: Patch::Set(groups[usize::from(round % 2 == 0)]),
                capacity_mw: Patch::Set(round as f64),
                ..unit_upsert(plant(number))
            });
            both_ways(all, &write).await;
        }
        // One only places what the other only names.
        let place = |number| UnitUpsert {
            parent: Patch::Set(groups[usize::from(round % 2 == 1)]),
            ..unit_upsert(plant(number))
        };
        let name = |number| UnitUpsert {
            name: Patch::Set(format!("again in {round}")),
            capacity_mw: Patch::Set(1.0 + round as f64),
            ..unit_upsert(plant(number))
        };
        let (one, other) = tokio::join!(
            write(vec![place(1), name(2)]),
            write(vec![place(2), name(1)])
        );
        one.unwrap();
        other.unwrap();
    }
}

async fn providers_and_series(db: TestDb) {
    for round in 0..ROUNDS {
        let providers = ["provider-a", "provider-b"].map(|key| ProviderUpsert {
            key: key.parse().unwrap(),
            name: Some(format!("{key} in {round}")),
        });
        let write =
            async |all: Vec<ProviderUpsert>| provider::upsert(&db.db, &all).await.map(|_| ());
        both_ways(providers, write).await;
        let numbers = [100 + 2 * round, 101 + 2 * round];
        let units = numbers.map(|number| unit_upsert(plant(number)));
        unit::upsert(&db.db, &units).await.unwrap();
        let runs = numbers.map(|number| {
            let new = forecast::SeriesKey {
                unit: plant(number),
                ..series()
            };
            run_of(&new, NOW, DAY, [1.0])
        });
        let save = async |runs: Vec<NewRun>| {
            let request = SaveRequest {
                runs,
                idempotency_key: None,
            };
            let saved = forecast::save(&db.db, "viewer", &request, NOW).await;
            saved.map(|_| ())
        };
        both_ways(runs, save).await;
    }
}

async fn users_and_groups(db: TestDb) {
    people(&db).await;
    for round in 0..ROUNDS {
        for keys in [
            ["a".to_owned(), "b".to_owned()],
            [format!("new {round}"), format!("newer {round}")],
        ] {
            let users = keys.clone().map(|key| UserUpsert {
                name: Some(format!("{key} in {round}")),
                email: Patch::Set(format!("{round}@example.org")),
                key,
                locale: Patch::Keep,
                time_zone: None,
            });
            let write =
                async |all: Vec<UserUpsert>| notification::upsert_users(&db.db, &all, NOW).await;
            both_ways(users, write).await;
            let groups = keys.map(|key| GroupUpsert {
                key,
                name: Some(format!("in {round}")),
                members: Some(vec!["a".into(), "b".into()]),
            });
            let write =
                async |all: Vec<GroupUpsert>| notification::upsert_groups(&db.db, &all).await;
            both_ways(groups, write).await;
        }
    }
}

async fn what_a_user_wants_and_has_read(db: TestDb) {
    let [a, ..] = people(&db).await;
    for round in 0..ROUNDS {
        let preferences = ["one", "two"].map(|category| Preference {
            category: Some(category.into()),
            channel: Some(Channel::Email),
            enabled: Some(round % 2 == 0),
        });
        let set = async |preferences: Vec<Preference>| {
            let update = SettingsUpdate {
                preferences,
                ..SettingsUpdate::default()
            };
            notification::update_settings(&db.db, a, &update, NOW).await
        };
        both_ways(preferences, set).await;
        let topics = ["one", "two"].map(|topic| format!("{topic} {round}"));
        let subscribe = async |subscribe: Vec<String>| {
            let update = SettingsUpdate {
                subscribe,
                ..SettingsUpdate::default()
            };
            notification::update_settings(&db.db, a, &update, NOW).await
        };
        both_ways(topics, subscribe).await;
        let mut sent = [0; 2];
        for id in &mut sent {
            *id = send(&db, &to_users(&["a"])).await;
        }
        let read = async |ids: Vec<i64>| {
            let marked = notification::mark_read(&db.db, a, &ids, NOW).await;
            marked.map(|_| ())
        };
        both_ways(sent, read).await;
    }
    assert_eq!(
        notification::unread_count(db.db.reader(), a).await.unwrap(),
        0
    );
}
