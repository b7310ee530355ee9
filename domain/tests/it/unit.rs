//! Units are written all or none, and listed by pages.

use domain::Patch;
use domain::change::{Operation, Receipt, Subject};
use domain::unit::{self, Unit, UnitError, UnitFilter, UnitKey, UnitSort, UnitType, UnitUpsert};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::support::{TestDb, on_both_databases, plant, unit_upsert};

on_both_databases!(
    a_field_is_kept_cleared_or_set,
    capacity_has_a_history,
    what_is_already_so_is_no_change,
    each_changed_unit_is_in_the_log,
    a_parent_may_be_made_by_the_same_call,
    nobody_is_above_himself,
    two_callers_make_no_cycle_together,
    each_bad_value_is_named_by_its_path,
    all_or_none_are_written,
    they_are_paged_in_both_directions_and_orders,
    they_are_filtered,
    a_deleted_parent_leaves_its_children,
);

fn group(number: i64) -> UnitKey {
    UnitKey::new(UnitType::Group, number).unwrap()
}

fn company(number: i64) -> UnitKey {
    UnitKey::new(UnitType::Company, number).unwrap()
}

fn named(key: UnitKey, name: &str) -> UnitUpsert {
    UnitUpsert {
        name: Patch::Set(name.into()),
        ..unit_upsert(key)
    }
}

fn under(key: UnitKey, parent: UnitKey) -> UnitUpsert {
    UnitUpsert {
        parent: Patch::Set(parent),
        ..unit_upsert(key)
    }
}

async fn write(db: &TestDb, units: &[UnitUpsert]) {
    unit::upsert(&db.db, units).await.unwrap();
    db.tail().await;
}

/// As the replica shows it, through memory.
async fn read(db: &TestDb, key: UnitKey) -> Unit {
    let unit = db.forecasts.unit(key).await.unwrap().unwrap();
    Unit::clone(&unit)
}

async fn refused(db: &TestDb, units: &[UnitUpsert]) -> Vec<String> {
    match unit::upsert(&db.db, units).await {
        Err(UnitError::Invalid(violations)) => violations.into_iter().map(|v| v.path).collect(),
        other => panic!("{other:?}"),
    }
}

async fn a_field_is_kept_cleared_or_set(db: TestDb) {
    let key = plant(10);
    assert!(db.forecasts.unit(key).await.unwrap().is_none());
    write(&db, &[unit_upsert(key)]).await;
    let new = read(&db, key).await;
    assert_eq!(
        (new.name.as_str(), new.time_zone.as_str()),
        ("plant:10", "UTC")
    );
    assert_eq!((new.parent, new.capacity.len()), (None, 0));

    let set = UnitUpsert {
        key,
        name: Patch::Set("Çanakkale RES".into()),
        time_zone: Patch::Set("Europe/Istanbul".into()),
        parent: Patch::Set(plant(1)),
        capacity_mw: Patch::Set(49.5),
        capacity_valid_from: None,
    };
    write(&db, &[set]).await;
    let full = read(&db, key).await;
    assert_eq!(full.name, "Çanakkale RES");
    assert_eq!(full.time_zone, "Europe/Istanbul");
    assert_eq!(full.parent, Some(plant(1)));
    assert_eq!(full.capacity_mw_at(OffsetDateTime::UNIX_EPOCH), Some(49.5));

    write(&db, &[unit_upsert(key)]).await;
    assert_eq!(read(&db, key).await, full, "all is left as it is");
    write(&db, &[named(key, "Other")]).await;
    assert_eq!(read(&db, key).await.time_zone, "Europe/Istanbul");

    let cleared = UnitUpsert {
        parent: Patch::Clear,
        capacity_mw: Patch::Clear,
        ..unit_upsert(key)
    };
    write(&db, &[cleared]).await;
    let unit = read(&db, key).await;
    assert_eq!((unit.parent, unit.capacity.len()), (None, 0));
    assert_eq!(unit.name, "Other");
}

async fn capacity_has_a_history(db: TestDb) {
    let key = plant(1);
    let since = |mw, from| UnitUpsert {
        capacity_mw: Patch::Set(mw),
        capacity_valid_from: Some(from),
        ..unit_upsert(key)
    };
    let first = datetime!(2020-01-01 00:00 UTC);
    let repowered = datetime!(2024-05-01 02:00 +2);
    write(&db, &[since(30.0, repowered)]).await;
    write(&db, &[since(10.0, first)]).await;
    let unit = read(&db, key).await;
    let before = datetime!(2024-04-30 23:59:59.999999 UTC);
    for (at, expect) in [
        (datetime!(2019-12-31 23:59 UTC), None),
        (first, Some(10.0)),
        (before, Some(10.0)),
        (repowered, Some(30.0)),
        (datetime!(2050-01-01 00:00 UTC), Some(30.0)),
    ] {
        assert_eq!(unit.capacity_mw_at(at), expect, "{at}");
    }
    // The same start again corrects it.
    write(&db, &[since(31.0, repowered)]).await;
    let unit = read(&db, key).await;
    assert_eq!(unit.capacity.len(), 2);
    assert_eq!(unit.capacity_mw_at(repowered), Some(31.0));
}

async fn what_is_already_so_is_no_change(db: TestDb) {
    let full = UnitUpsert {
        name: Patch::Set("One".into()),
        time_zone: Patch::Set("Europe/Madrid".into()),
        parent: Patch::Set(plant(2)),
        capacity_mw: Patch::Set(5.0),
        capacity_valid_from: Some(datetime!(2020-01-01 00:00:00.5 UTC)),
        ..unit_upsert(plant(1))
    };
    unit::upsert(&db.db, std::slice::from_ref(&full))
        .await
        .unwrap();
    let changes = db.tail().await;
    assert!(!changes.is_empty());
    for change in changes {
        assert_eq!(change.operation, Operation::Update);
        assert_eq!(change.subject, Subject::Unit(plant(1)));
    }
    for again in [full, unit_upsert(plant(1)), under(plant(1), plant(2))] {
        unit::upsert(&db.db, &[again]).await.unwrap();
        assert_eq!(db.tail().await, []);
    }
    let cleared = UnitUpsert {
        parent: Patch::Clear,
        capacity_mw: Patch::Clear,
        ..unit_upsert(plant(2))
    };
    unit::upsert(&db.db, &[cleared]).await.unwrap();
    assert_eq!(db.tail().await, [], "there was nothing to clear");
    assert_eq!(unit::upsert(&db.db, &[]).await.unwrap(), Receipt::Nothing);
}

async fn each_changed_unit_is_in_the_log(db: TestDb) {
    unit::upsert(
        &db.db,
        &[
            named(plant(3), "Three"),
            named(plant(1), "One"),
            unit_upsert(plant(2)),
        ],
    )
    .await
    .unwrap();
    let mut changes: Vec<_> = db
        .tail()
        .await
        .into_iter()
        .map(|change| match change.subject {
            Subject::Unit(key) => (key, change.operation == Operation::Insert),
            other => panic!("{other:?}"),
        })
        .collect();
    changes.sort_unstable();
    assert_eq!(changes, [(plant(1), false), (plant(3), true)]);
}

async fn a_parent_may_be_made_by_the_same_call(db: TestDb) {
    // Children before their parents, and the other way round.
    write(
        &db,
        &[
            under(plant(10), group(1)),
            under(group(1), company(1)),
            unit_upsert(company(1)),
            under(plant(11), group(1)),
        ],
    )
    .await;
    assert_eq!(read(&db, plant(10)).await.parent, Some(group(1)));
    assert_eq!(read(&db, plant(11)).await.parent, Some(group(1)));
    assert_eq!(read(&db, group(1)).await.parent, Some(company(1)));
    let paths = refused(&db, &[under(plant(12), group(9))]).await;
    assert_eq!(paths, ["units[0].parent"]);
    assert!(db.forecasts.unit(plant(12)).await.unwrap().is_none());
}

async fn nobody_is_above_himself(db: TestDb) {
    assert_eq!(
        refused(&db, &[under(plant(1), plant(1))]).await,
        ["units[0].parent"]
    );
    // Two and three of one call.
    let two = [under(plant(1), plant(2)), under(plant(2), plant(1))];
    assert_eq!(
        refused(&db, &two).await,
        ["units[0].parent", "units[1].parent"]
    );
    let three = [
        under(group(1), group(2)),
        under(group(2), group(3)),
        under(group(3), group(1)),
    ];
    assert_eq!(refused(&db, &three).await.len(), 3);
    // With what is there already.
    write(
        &db,
        &[
            under(plant(1), group(1)),
            under(group(1), company(1)),
            unit_upsert(company(1)),
        ],
    )
    .await;
    assert_eq!(
        refused(&db, &[named(plant(2), "Two"), under(company(1), plant(1))]).await,
        ["units[1].parent"]
    );
    assert_eq!(read(&db, company(1)).await.parent, None);
    assert_eq!(read(&db, plant(2)).await.name, "plant:2");
    // To turn the tree over is fine.
    write(
        &db,
        &[
            UnitUpsert {
                parent: Patch::Clear,
                ..unit_upsert(plant(1))
            },
            under(company(1), plant(1)),
        ],
    )
    .await;
    assert_eq!(read(&db, company(1)).await.parent, Some(plant(1)));
}

async fn two_callers_make_no_cycle_together(db: TestDb) {
    for round in 0..10 {
        let (a, b) = (group(round * 2 + 1), group(round * 2 + 2));
        write(&db, &[unit_upsert(a), unit_upsert(b)]).await;
        let (one, other) = ([under(a, b)], [under(b, a)]);
        let (one, other) = tokio::join!(unit::upsert(&db.db, &one), unit::upsert(&db.db, &other));
        assert_eq!(
            usize::from(one.is_ok()) + usize::from(other.is_ok()),
            1,
            "{one:?}, {other:?}"
        );
    }
}

async fn each_bad_value_is_named_by_its_path(db: TestDb) {
    let key = plant(10);
    let with_zone = |zone: Patch<String>| UnitUpsert {
        time_zone: zone,
        ..unit_upsert(key)
    };
    let with_name = |name: Patch<String>| UnitUpsert {
        name,
        ..unit_upsert(key)
    };
    let with_capacity = |mw: Patch<f64>| UnitUpsert {
        capacity_mw: mw,
        ..unit_upsert(key)
    };
    for (input, field) in [
        (with_name(Patch::Clear), "name"),
        (with_name(Patch::Set(String::new())), "name"),
        (with_name(Patch::Set("n".repeat(201))), "name"),
        (with_zone(Patch::Clear), "timeZone"),
        (with_zone(Patch::Set("Mars/Olympus".into())), "timeZone"),
        (with_zone(Patch::Set(String::new())), "timeZone"),
        (with_capacity(Patch::Set(-1.0)), "capacityMw"),
        (with_capacity(Patch::Set(f64::NAN)), "capacityMw"),
        (with_capacity(Patch::Set(f64::INFINITY)), "capacityMw"),
        (
            UnitUpsert {
                capacity_valid_from: Some(datetime!(2024-01-01 00:00 UTC)),
                ..unit_upsert(key)
            },
            "capacityValidFrom",
        ),
        (under(key, key), "parent"),
    ] {
        let given = format!("{input:?}");
        let paths = refused(&db, &[named(plant(1), "Not written"), input]).await;
        assert_eq!(paths, [format!("units[1].{field}")], "{given}");
    }
    assert_eq!(
        refused(&db, &[unit_upsert(key), unit_upsert(key)]).await,
        ["units[1].key"]
    );
    let many = vec![with_name(Patch::Clear); 150];
    assert_eq!(refused(&db, &many).await.len(), 100);
    assert_eq!(db.count("unit").await, 2);
    assert_eq!(db.tail().await, []);
    // The longest name there may be.
    write(&db, &[with_name(Patch::Set("ü".repeat(200)))]).await;
}

async fn all_or_none_are_written(db: TestDb) {
    let given = [
        named(plant(1), "Changed"),
        unit_upsert(plant(20)),
        UnitUpsert {
            capacity_mw: Patch::Set(3.0),
            ..under(plant(2), group(77))
        },
    ];
    assert_eq!(refused(&db, &given).await, ["units[2].parent"]);
    assert_eq!(db.count("unit").await, 2);
    assert_eq!(db.count("unit_capacity").await, 0);
    assert_eq!(db.tail().await, []);
    assert_eq!(read(&db, plant(1)).await.name, "plant:1");
}

async fn they_are_paged_in_both_directions_and_orders(db: TestDb) {
    // Some share a name; numbers are not in the order of their text.
    let mut given = vec![named(plant(1), "same"), named(plant(2), "b")];
    for number in 3..=12 {
        given.push(named(
            plant(number),
            ["same", "a", "c"][number as usize % 3],
        ));
    }
    given.push(named(group(5), "same"));
    given.push(named(company(3), "a"));
    write(&db, &given).await;
    let mut by_key: Vec<(String, UnitKey)> = given
        .iter()
        .map(|input| match &input.name {
            Patch::Set(name) => (name.clone(), input.key),
            _ => unreachable!(),
        })
        .collect();
    by_key.sort_by_key(|(_, key)| *key);
    let mut by_name = by_key.clone();
    by_name.sort();
    let all = UnitFilter::default();
    for (sort, expect) in [(UnitSort::Key, by_key), (UnitSort::Name, by_name)] {
        for descending in [false, true] {
            let mut expect = expect.clone();
            if descending {
                expect.reverse();
            }
            let page = async |after: Option<&(String, UnitKey)>,
                              before: Option<&(String, UnitKey)>,
                              from_end| {
                let bound = |bound: &'_ (String, UnitKey)| (bound.0.clone(), bound.1);
                let (after, before) = (after.map(bound), before.map(bound));
                let page = unit::page(
                    db.db.reader(),
                    &all,
                    (sort, descending),
                    after.as_ref().map(|(name, key)| (name.as_str(), *key)),
                    before.as_ref().map(|(name, key)| (name.as_str(), *key)),
                    4,
                    from_end,
                );
                let page = page.await.unwrap();
                page.into_iter()
                    .map(|unit| (unit.name, unit.key))
                    .collect::<Vec<_>>()
            };
            let mut forward: Vec<(String, UnitKey)> = Vec::new();
            loop {
                let next = page(forward.last(), None, false).await;
                if next.is_empty() {
                    break;
                }
                forward.extend(next);
            }
            assert_eq!(forward, expect, "{sort:?}, descending: {descending}");
            let mut backward: Vec<(String, UnitKey)> = Vec::new();
            loop {
                let mut next = page(None, backward.first(), true).await;
                if next.is_empty() {
                    break;
                }
                next.extend(backward);
                backward = next;
            }
            assert_eq!(backward, expect, "{sort:?}, descending: {descending}");
            let between = page(Some(&expect[3]), Some(&expect[6]), false).await;
            assert_eq!(between, expect[4..6]);
        }
    }
}

async fn they_are_filtered(db: TestDb) {
    write(
        &db,
        &[
            named(plant(1), "Solar 100%"),
            named(plant(2), "solar_park"),
            UnitUpsert {
                parent: Patch::Set(company(1)),
                ..named(group(1), "İzmir ÇEŞME RES")
            },
            named(company(1), "back\\slash"),
        ],
    )
    .await;
    let find = async |filter: UnitFilter| {
        let order = (UnitSort::Key, false);
        let page = unit::page(db.db.reader(), &filter, order, None, None, 100, false);
        let page = page.await.unwrap();
        page.into_iter().map(|unit| unit.key).collect::<Vec<_>>()
    };
    let named = async |part: &str| {
        find(UnitFilter {
            name_contains: Some(part.into()),
            ..UnitFilter::default()
        })
        .await
    };
    let all = [company(1), group(1), plant(1), plant(2)];
    assert_eq!(find(UnitFilter::default()).await, all);
    // Absent matches all, an empty list nothing.
    let keys = |keys: &[UnitKey]| UnitFilter {
        keys: Some(keys.to_vec()),
        ..UnitFilter::default()
    };
    assert_eq!(find(keys(&[])).await, []);
    let some = [plant(2), company(1), plant(99)];
    assert_eq!(find(keys(&some)).await, [company(1), plant(2)]);
    let types = |types: &[UnitType]| UnitFilter {
        unit_types: Some(types.to_vec()),
        ..UnitFilter::default()
    };
    assert_eq!(find(types(&[])).await, []);
    let some = [UnitType::Company, UnitType::Group];
    assert_eq!(find(types(&some)).await, [company(1), group(1)]);
    let below = |parent| UnitFilter {
        parent: Some(parent),
        ..UnitFilter::default()
    };
    assert_eq!(find(below(company(1))).await, [group(1)]);
    assert_eq!(find(below(plant(1))).await, []);
    assert_eq!(find(below(plant(99))).await, []);
    // A part of the name, as it is written and in any case.
    assert_eq!(named("SOLAR").await, [plant(1), plant(2)]);
    assert_eq!(named("").await, all);
    assert_eq!(named("%").await, [plant(1)]);
    assert_eq!(named("r_p").await, [plant(2)]);
    assert_eq!(named("k\\s").await, [company(1)]);
    assert_eq!(named("ÇEŞME").await, [group(1)]);
    assert_eq!(named("İzmir").await, [group(1)]);
    let both = UnitFilter {
        name_contains: Some("a".into()),
        unit_types: Some(vec![UnitType::Plant]),
        ..UnitFilter::default()
    };
    assert_eq!(find(both).await, [plant(1), plant(2)]);
}

async fn a_deleted_parent_leaves_its_children(db: TestDb) {
    write(&db, &[under(plant(1), group(1)), unit_upsert(group(1))]).await;
    assert_eq!(read(&db, plant(1)).await.parent, Some(group(1)));
    db.sql("DELETE FROM unit WHERE unit_type = 'GROUP'").await;
    db.tail().await;
    assert_eq!(read(&db, plant(1)).await.parent, None);
    assert!(db.forecasts.unit(group(1)).await.unwrap().is_none());
}
