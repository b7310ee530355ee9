//! Alert rules fire once, whoever evaluates them and whatever breaks off.

use std::sync::Mutex;

use domain::alert::{
    self, AlertError, Condition, Definition, Direction, DryRun, Evaluator, Late, Measure,
    PercentOf, Quantity, Requires, Revision, Rule, Side, Threshold,
};
use domain::change;
use domain::forecast::{self, NewRun, Resolution, SaveRequest, SeriesKey};
use domain::notification::{self, Channel, InboxFilter, Notification, Severity, Target};
use domain::provider::ProviderKey;
use domain::unit::{self, UnitKey, UnitUpsert};
use domain::{Patch, Violation};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;

use crate::notification::people;
use crate::support::{DAY, HOUR, NOW, TestDb, on_both_databases, plant, run, run_of, unit_upsert};

on_both_databases!(
    a_revision_tells_once_and_says_why,
    a_group_is_the_sum_of_the_plants_below_it,
    runs_of_members_may_add_up,
    a_limit_fires_once_until_the_forecast_is_back,
    a_dip_that_comes_into_the_window_is_told,
    a_save_of_many_runs_is_judged_at_once,
    what_is_not_numbered_yet_counts_the_next_time,
    what_came_before_a_rule_is_what_it_compares_with,
    two_evaluators_fire_once,
    what_breaks_off_is_done_again_and_nothing_twice,
    a_muted_rule_keeps_up_and_says_nothing,
    a_mute_and_a_change_at_once_are_both_kept,
    a_rule_that_cannot_be_read_keeps_nobody_from_firing,
    another_history_is_followed_from_its_head,
    a_late_run_is_told_once,
    what_would_have_fired_is_what_fires,
    a_rule_is_checked_and_forgets_when_it_changes,
    whom_it_was_for_may_be_gone,
);

fn revision(min_mwh: f64) -> Condition {
    Condition::Revision(Revision {
        hours: 24,
        min_mwh: Some(min_mwh),
        min_percent: None,
        requires: Requires::All,
        percent_of: PercentOf::Before,
        measure: Measure::Net,
        direction: Direction::Both,
        accumulate_minutes: 0,
    })
}

fn below(limit: f64, hysteresis: f64) -> Condition {
    Condition::Threshold(Threshold {
        hours: 24,
        side: Side::Below,
        limit,
        quantity: Quantity::Mwh,
        hysteresis,
    })
}

fn about(unit: UnitKey, condition: Condition) -> Definition {
    Definition {
        name: "Watch".into(),
        unit,
        provider: provider(),
        resolution: Resolution::Hour,
        condition,
        to: Target::default(),
        channels: vec![Channel::InApp],
        severity: Severity::Warning,
        throttle: None,
        muted_until: None,
        enabled: true,
    }
}

fn provider() -> ProviderKey {
    "provider-a".parse().unwrap()
}

fn group(number: i64) -> UnitKey {
    UnitKey::new(unit::UnitType::Group, number).unwrap()
}

async fn rule(db: &TestDb, definition: Definition) -> Rule {
    people(db).await;
    alert::create(&db.db, "a", &definition, NOW).await.unwrap()
}

/// Steps until there is nothing left; how many were told.
async fn steps(db: &TestDb, evaluator: &mut Evaluator, now: OffsetDateTime) -> usize {
    db.tail().await;
    let mut fired = 0;
    loop {
        let stepped = evaluator.step(now).await.unwrap();
        assert!(stepped.failed.is_empty(), "{stepped:?}");
        assert_eq!(stepped.restart, None);
        fired += stepped.fired;
        if !stepped.more {
            db.tail().await;
            return fired;
        }
    }
}

/// Whatever memory is lost, nothing more comes of it.
async fn nothing_more(db: &TestDb, now: OffsetDateTime) {
    assert_eq!(steps(db, &mut evaluator(db), now).await, 0);
}

fn evaluator(db: &TestDb) -> Evaluator {
    Evaluator::new(db.db.clone())
}

/// What a user has got, the oldest first.
async fn told(db: &TestDb, user: &str) -> Vec<Notification> {
    let user = notification::ensure_user(&db.db, user).await.unwrap();
    let filter = InboxFilter::default();
    let list = notification::list(db.db.reader(), user, &filter, None, None, 100, false).await;
    let mut list = list.unwrap();
    list.reverse();
    list.into_iter()
        .map(|received| (*received.notification).clone())
        .collect()
}

async fn titles(db: &TestDb) -> Vec<String> {
    let all = told(db, "a").await;
    all.into_iter()
        .map(|notification| notification.title)
        .collect()
}

/// A run of a plant for hours 0 and 1 of [`DAY`], issued so many minutes before now.
fn of(number: i64, minutes: i64, values: [f64; 2]) -> NewRun {
    let series = SeriesKey {
        unit: plant(number),
        provider: provider(),
        resolution: Resolution::Hour,
    };
    run_of(&series, NOW - Duration::minutes(minutes), DAY, values)
}

async fn save_at(db: &TestDb, runs: Vec<NewRun>, now: OffsetDateTime) -> Vec<i64> {
    let request = SaveRequest {
        runs,
        idempotency_key: None,
    };
    let saved = forecast::save(&db.db, "viewer", &request, now).await;
    let saved = saved.unwrap().run_ids;
    db.tail().await;
    saved
}

/// `group:1` with `plant:1` and, below `group:2`, `plant:2`; a series of `group:2`
/// would count `plant:2` twice.
async fn portfolio(db: &TestDb) {
    let below = |key: UnitKey, parent: Option<UnitKey>| UnitUpsert {
        parent: parent.map_or(Patch::Keep, Patch::Set),
        ..unit_upsert(key)
    };
    let units = [
        below(group(1), None),
        below(group(2), Some(group(1))),
        below(plant(1), Some(group(1))),
        below(plant(2), Some(group(2))),
    ];
    unit::upsert(&db.db, &units).await.unwrap();
    db.tail().await;
}

async fn a_revision_tells_once_and_says_why(db: TestDb) {
    let rule = rule(&db, about(plant(1), revision(10.0))).await;
    let mut evaluator = evaluator(&db);
    // The first forecast of a period revises nothing.
    save_at(&db, vec![of(1, 60, [40.0, 20.0])], NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    // Of another unit, another provider, beyond the window, too little.
    let other = SeriesKey {
        provider: "provider-b".parse().unwrap(),
        ..crate::support::series()
    };
    for run in [
        of(2, 50, [0.0, 0.0]),
        run_of(&other, NOW, DAY, [0.0]),
        run(NOW, DAY + HOUR * 100, [0.0]),
        of(1, 50, [31.0, 20.0]),
    ] {
        save_at(&db, vec![run], NOW).await;
        assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    }
    let run_id = save_at(&db, vec![of(1, 40, [22.0, 16.6])], NOW).await[0];
    let position = change::read_head(db.db.reader()).await.unwrap();
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 1);
    nothing_more(&db, NOW).await;
    let told = told(&db, "a").await;
    assert_eq!(told.len(), 1);
    let told = &told[0];
    assert_eq!(
        told.title,
        "plant:1: forecast down 12.4 MWh (-24 %) in the next 24 h"
    );
    assert_eq!(
        told.body,
        "51 MWh before, 38.6 MWh after the run issued at 2024-06-15 08:20 +00:00; 24 h from 2024-06-15 09:00 +00:00."
    );
    assert_eq!(told.sender, format!("alert:{}", rule.id));
    assert_eq!(
        (told.category.as_str(), told.severity),
        ("alert", Severity::Warning)
    );
    assert_eq!(
        told.link.as_deref(),
        Some("/?unit=plant:1&provider=provider-a&resolution=PT1H")
    );
    let mut data = told.data.clone().unwrap();
    let change = data["changeMwh"].take().as_f64().unwrap();
    let percent = data["changePercent"].take().as_f64().unwrap();
    assert!((change + 12.4).abs() < 1e-9 && (percent + 24.313_725).abs() < 1e-5);
    assert_eq!(
        data,
        json!({
            "rule": format!("alertRule:{}", rule.id),
            "ruleName": "Watch",
            "kind": "REVISION",
            "unit": "plant:1",
            "unitName": "plant:1",
            "provider": "provider-a",
            "resolution": "PT1H",
            "from": "2024-06-15T09:00:00Z",
            "to": "2024-06-16T09:00:00Z",
            "before": 51.0,
            "after": 38.6,
            "changeMwh": null,
            "changePercent": null,
            "percentOf": "BEFORE",
            "measure": "NET",
            "runId": format!("run:{run_id}"),
            "issuedAt": "2024-06-15T08:20:00Z",
            "position": position.to_string(),
        })
    );
    let kept = alert::rule(db.db.reader(), rule.id).await.unwrap().unwrap();
    assert_eq!((kept.firings, kept.last_fired_at), (1, Some(NOW)));
}

async fn a_group_is_the_sum_of_the_plants_below_it(db: TestDb) {
    portfolio(&db).await;
    rule(&db, about(group(1), revision(10.0))).await;
    let mut evaluator = evaluator(&db);
    let group_series = SeriesKey {
        unit: group(2),
        ..crate::support::series()
    };
    save_at(
        &db,
        vec![
            of(1, 60, [30.0, 30.0]),
            of(2, 60, [20.0, 20.0]),
            run_of(&group_series, NOW, DAY, [20.0, 20.0]),
        ],
        NOW,
    )
    .await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    // A series of the group in between is no plant.
    save_at(&db, vec![run_of(&group_series, NOW, DAY, [0.0, 0.0])], NOW).await;
    // What one gives the other takes.
    let cancels = vec![of(1, 50, [40.0, 40.0]), of(2, 50, [10.0, 10.0])];
    save_at(&db, cancels, NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    let together = vec![of(1, 40, [37.0, 37.0]), of(2, 40, [8.0, 8.0])];
    save_at(&db, together, NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 1);
    // Each by itself is too little.
    for run in [of(1, 30, [34.0, 34.0]), of(2, 30, [5.0, 5.0])] {
        save_at(&db, vec![run], NOW).await;
        assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    }
    assert_eq!(
        titles(&db).await,
        ["group:1: forecast down 10 MWh (-10 %) in the next 24 h"]
    );
    let body = &told(&db, "a").await[0].body;
    assert!(body.ends_with("Members with a forecast: 2 of 2."), "{body}");
}

async fn runs_of_members_may_add_up(db: TestDb) {
    portfolio(&db).await;
    let Condition::Revision(condition) = revision(10.0) else {
        unreachable!()
    };
    let condition = Condition::Revision(Revision {
        accumulate_minutes: 15,
        ..condition
    });
    rule(&db, about(group(1), condition)).await;
    let mut evaluator = evaluator(&db);
    for (run, expect) in [
        (of(1, 60, [30.0, 30.0]), 0),
        (of(2, 60, [20.0, 20.0]), 0),
        (of(1, 30, [27.0, 27.0]), 0),
        // With what came two minutes before it is enough,
        (of(2, 28, [17.0, 17.0]), 1),
        // and then no longer: it has been told.
        (of(1, 26, [26.0, 26.0]), 0),
        (of(2, 24, [14.0, 14.0]), 0),
        (of(1, 22, [24.0, 24.0]), 1),
    ] {
        save_at(&db, vec![run.clone()], NOW).await;
        let fired = steps(&db, &mut evaluator, NOW).await;
        assert_eq!(fired, expect, "{run:?}");
    }
    assert_eq!(
        titles(&db).await,
        [
            "group:1: forecast down 12 MWh (-12 %) in the next 24 h",
            "group:1: forecast down 12 MWh (-14 %) in the next 24 h",
        ]
    );
}

async fn a_limit_fires_once_until_the_forecast_is_back(db: TestDb) {
    rule(&db, about(plant(1), below(10.0, 2.0))).await;
    for (minutes, values, expect) in [
        (90, [15.0, 12.0], 0),
        (80, [9.0, 12.0], 1),
        (70, [5.0, 5.0], 0),
        (60, [11.0, 11.0], 0),
        (50, [9.0, 9.0], 0),
        (40, [12.0, 12.0], 0),
        (30, [12.0, 8.0], 1),
    ] {
        save_at(&db, vec![of(1, minutes, values)], NOW).await;
        // Another replica each time: what a rule remembers is in the database.
        let fired = steps(&db, &mut evaluator(&db), NOW).await;
        assert_eq!(fired, expect, "{values:?}");
    }
    assert_eq!(
        titles(&db).await,
        vec!["plant:1: forecast falls below 10 MWh in the next 24 h"; 2]
    );
}

async fn a_dip_that_comes_into_the_window_is_told(db: TestDb) {
    // Known long before; it begins 25 hours from now.
    save_at(&db, vec![run(NOW, DAY, [20.0; 10])], NOW).await;
    save_at(&db, vec![run(NOW, DAY + HOUR * 10, [5.0])], NOW).await;
    rule(&db, about(plant(1), below(10.0, 0.0))).await;
    let mut evaluator = evaluator(&db);
    for (minutes, expect) in [(0, 0), (1, 0), (50, 0), (61, 1), (62, 0), (200, 0)] {
        let now = NOW + Duration::minutes(minutes);
        assert_eq!(
            steps(&db, &mut evaluator, now).await,
            expect,
            "after {minutes} minutes"
        );
    }
}

async fn a_save_of_many_runs_is_judged_at_once(db: TestDb) {
    rule(&db, about(plant(1), revision(10.0))).await;
    let mut evaluator = evaluator(&db);
    save_at(&db, vec![of(1, 5000, [50.0, 50.0])], NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    // More than a page of the log, and no run by itself is enough.
    let runs = (0..1200).map(|i| {
        let mwh = 50.0 - f64::from(i) / 100.0;
        of(1, 4000 - i64::from(i), [mwh, 50.0])
    });
    save_at(&db, runs.collect(), NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 1);
    nothing_more(&db, NOW).await;
    assert_eq!(
        titles(&db).await,
        ["plant:1: forecast down 12 MWh (-12 %) in the next 24 h"]
    );
}

async fn what_is_not_numbered_yet_counts_the_next_time(db: TestDb) {
    rule(&db, about(plant(1), revision(10.0))).await;
    let mut first = evaluator(&db);
    save_at(&db, vec![of(1, 60, [30.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    save_at(&db, vec![of(1, 50, [24.0, 30.0])], NOW).await;
    // Committed, and without a position on PostgreSQL.
    let late = db.try_save(vec![of(1, 40, [18.0, 30.0])]).await.unwrap();
    let stepped = first.step(NOW).await.unwrap();
    let expect = usize::from(!db.is_postgres());
    assert_eq!(stepped.fired, expect, "{late:?}");
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    assert_eq!(titles(&db).await.len(), expect);
}

async fn what_came_before_a_rule_is_what_it_compares_with(db: TestDb) {
    let mut first = evaluator(&db);
    rule(&db, about(plant(2), revision(10.0))).await;
    steps(&db, &mut first, NOW).await;
    // Nobody has looked at it when the rule is made, and then all is forgotten.
    save_at(&db, vec![of(1, 60, [30.0, 30.0])], NOW).await;
    rule(&db, about(plant(1), revision(10.0))).await;
    save_at(&db, vec![of(1, 50, [10.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 1);
    // What did not fire is not taken together with what comes later, either.
    save_at(&db, vec![of(1, 40, [30.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 1);
    save_at(&db, vec![of(1, 30, [24.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    save_at(&db, vec![of(1, 20, [18.0, 30.0])], NOW).await;
    nothing_more(&db, NOW).await;
}

async fn two_evaluators_fire_once(db: TestDb) {
    rule(&db, about(plant(1), revision(10.0))).await;
    rule(&db, about(plant(1), below(30.0, 0.0))).await;
    save_at(&db, vec![of(1, 500, [50.0, 50.0])], NOW).await;
    let mut both = [evaluator(&db), evaluator(&db)];
    for evaluator in &mut both {
        steps(&db, evaluator, NOW).await;
    }
    const ROUNDS: usize = 12;
    for round in 0..ROUNDS {
        let mwh = if round % 2 == 0 { 20.0 } else { 50.0 };
        let minutes = 400 - i64::try_from(round).unwrap();
        save_at(&db, vec![of(1, minutes, [mwh, 50.0])], NOW).await;
        let [a, b] = &mut both;
        let until_idle = async |evaluator: &mut Evaluator| {
            let mut fired = 0;
            loop {
                let stepped = evaluator.step(NOW).await.unwrap();
                fired += stepped.fired;
                if !stepped.more {
                    return fired;
                }
            }
        };
        let (of_a, of_b) = tokio::join!(until_idle(a), until_idle(b));
        // The revision each time, the limit each other time.
        assert_eq!(
            of_a + of_b,
            2 - round % 2,
            "round {round}: {of_a} and {of_b}"
        );
        db.tail().await;
    }
    nothing_more(&db, NOW).await;
    assert_eq!(titles(&db).await.len(), ROUNDS + ROUNDS / 2);
}

async fn what_breaks_off_is_done_again_and_nothing_twice(db: TestDb) {
    let rule = rule(&db, about(plant(1), revision(10.0))).await;
    let mut first = evaluator(&db);
    save_at(&db, vec![of(1, 60, [30.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    save_at(&db, vec![of(1, 50, [10.0, 30.0])], NOW).await;
    // The notification is written, and then the database fails.
    db.sql("ALTER TABLE alert_state RENAME COLUMN last_value TO hidden")
        .await;
    assert!(matches!(
        first.step(NOW).await,
        Err(AlertError::Database(_))
    ));
    db.sql("ALTER TABLE alert_state RENAME COLUMN hidden TO last_value")
        .await;
    assert_eq!(titles(&db).await.len(), 0, "all or nothing");
    // Whoever takes over finds it.
    assert_eq!(steps(&db, &mut evaluator(&db), NOW).await, 1);
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    nothing_more(&db, NOW).await;
    assert_eq!(titles(&db).await.len(), 1);
    let kept = alert::rule(db.db.reader(), rule.id).await.unwrap().unwrap();
    assert_eq!(kept.firings, 1);
}

/// Gives a rule another definition, whatever it has.
async fn update(db: &TestDb, id: i64, definition: Definition) -> Rule {
    let revised = |_: &Rule| Ok::<_, AlertError>(definition.clone());
    alert::update(&db.db, id, revised, NOW).await.unwrap()
}

async fn a_mute_and_a_change_at_once_are_both_kept(db: TestDb) {
    let watch = rule(&db, about(plant(1), below(10.0, 0.0))).await;
    let (id, until) = (watch.id, NOW + HOUR);
    let mutes = Mutex::new(JoinSet::new());
    let change = |rule: &Rule| {
        // The change has read the rule and is going to write all of it.
        let database = db.db.clone();
        let mut mutes = mutes.lock().unwrap();
        mutes.spawn(async move { alert::mute(&database, id, Some(until), NOW).await });
        Ok::<_, AlertError>(Definition {
            name: "Changed".into(),
            ..rule.definition.clone()
        })
    };
    alert::update(&db.db, id, change, NOW).await.unwrap();
    let mut mutes = mutes.into_inner().unwrap();
    let both = mutes.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(both.definition.name, "Changed");
    assert_eq!(both.definition.muted_until, Some(until));
    // The other way round: a change that began after the mute keeps it.
    let rename = |rule: &Rule| {
        Ok::<_, AlertError>(Definition {
            name: "Renamed".into(),
            ..rule.definition.clone()
        })
    };
    let kept = alert::update(&db.db, id, rename, NOW).await.unwrap();
    assert_eq!(kept.definition.muted_until, Some(until));
}

async fn a_rule_that_cannot_be_read_keeps_nobody_from_firing(db: TestDb) {
    let broken = rule(&db, about(plant(1), below(10.0, 0.0))).await;
    let watch = rule(&db, about(plant(1), below(10.0, 0.0))).await;
    for (column, json) in [
        ("parameters", r#"{"$serde_json::private::RawValue": "x"}"#),
        ("recipients", "[1]"),
        ("channels", "{}"),
    ] {
        let set = format!(
            "UPDATE alert_rule SET {column} = '{json}' WHERE id = {}",
            broken.id
        );
        db.sql(&set).await;
        let page = alert::rules(db.db.reader(), None, None, None, 1, false).await;
        let ids: Vec<i64> = page.unwrap().iter().map(|rule| rule.id).collect();
        assert_eq!(ids, [watch.id], "the page is full all the same");
        let rest = alert::rules(db.db.reader(), None, Some(watch.id), None, 1, false).await;
        assert!(rest.unwrap().is_empty());
    }
    // What a rule remembers may be lost; the rule is not.
    save_at(&db, vec![of(1, 10, [50.0, 50.0])], NOW).await;
    let mut evaluator = evaluator(&db);
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 0);
    db.sql("UPDATE alert_state SET state = '[]'").await;
    save_at(&db, vec![of(1, 0, [5.0, 5.0])], NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 1);
}

async fn a_muted_rule_keeps_up_and_says_nothing(db: TestDb) {
    let watch = rule(&db, about(plant(1), below(10.0, 0.0))).await;
    let mut evaluator = evaluator(&db);
    let mut minutes = 100;
    let mut step = async |mwh: f64, now: OffsetDateTime| {
        minutes -= 1;
        save_at(&db, vec![of(1, minutes, [mwh, 50.0])], NOW).await;
        steps(&db, &mut evaluator, now).await
    };
    let until = NOW + HOUR;
    alert::mute(&db.db, watch.id, Some(until), NOW)
        .await
        .unwrap();
    assert_eq!(step(5.0, NOW).await, 0, "muted");
    // It began while the rule was muted.
    assert_eq!(step(4.0, until).await, 0);
    assert_eq!(step(20.0, until).await, 0);
    assert_eq!(step(5.0, until).await, 1, "the mute is over");
    let off = Definition {
        enabled: false,
        ..about(plant(1), below(10.0, 0.0))
    };
    assert_eq!(step(20.0, until).await, 0);
    update(&db, watch.id, off).await;
    assert_eq!(step(5.0, until).await, 0, "it is off");
    let kept = alert::mute(&db.db, watch.id, None, NOW).await.unwrap();
    assert_eq!(
        (
            kept.firings,
            kept.definition.enabled,
            kept.definition.muted_until
        ),
        (1, false, None)
    );
}

async fn another_history_is_followed_from_its_head(db: TestDb) {
    rule(&db, about(plant(1), revision(10.0))).await;
    let mut first = evaluator(&db);
    save_at(&db, vec![of(1, 60, [30.0, 30.0])], NOW).await;
    assert_eq!(steps(&db, &mut first, NOW).await, 0);
    let old = change::read_head(db.db.reader()).await.unwrap();
    db.try_save(vec![of(1, 50, [10.0, 30.0])]).await.unwrap();
    if db.is_postgres() {
        db.sql("UPDATE tick SET history = 'another'").await;
        db.sql("SELECT * FROM change_log_tick('wait')").await;
    } else {
        change::begin_epoch(&db.db).await.unwrap();
    }
    let stepped = first.step(NOW).await.unwrap();
    let restart = stepped.restart.unwrap();
    let head = change::read_head(db.db.reader()).await.unwrap();
    assert_eq!((restart.from, restart.to), (old, head));
    assert_eq!((stepped.fired, stepped.more), (0, true));
    let stepped = first.step(NOW).await.unwrap();
    assert_eq!(
        (stepped.fired, stepped.more, stepped.restart),
        (0, false, None)
    );
    db.try_save(vec![of(1, 40, [30.0, 30.0])]).await.unwrap();
    if db.is_postgres() {
        db.sql("SELECT * FROM change_log_tick('wait')").await;
    }
    assert_eq!(first.step(NOW).await.unwrap().fired, 1);
    // A gap: what was pruned was not looked at by an evaluator that slept.
    db.try_save(vec![of(1, 30, [0.0, 30.0])]).await.unwrap();
    if db.is_postgres() {
        db.sql("SELECT * FROM change_log_tick('wait')").await;
    }
    let far = time::macros::datetime!(2200-01-01 00:00 UTC);
    change::prune(db.db.writer(), far).await.unwrap();
    let stepped = first.step(NOW).await.unwrap();
    assert!(
        stepped.restart.is_some() && stepped.fired == 0,
        "{stepped:?}"
    );
    nothing_more_of(&mut first).await;
}

async fn nothing_more_of(evaluator: &mut Evaluator) {
    let stepped = evaluator.step(NOW).await.unwrap();
    assert_eq!(
        (stepped.fired, stepped.more, stepped.restart),
        (0, false, None)
    );
}

async fn a_late_run_is_told_once(db: TestDb) {
    portfolio(&db).await;
    let condition = Condition::Late(Late {
        after_minutes: 60,
        complete_hours: Some(1),
    });
    // Complete for hours to come.
    let full = |number: i64, at: OffsetDateTime| {
        let series = SeriesKey {
            unit: plant(number),
            ..crate::support::series()
        };
        run_of(&series, at, NOW, [1.0; 8])
    };
    let at = |minutes: i64| NOW + Duration::minutes(minutes);
    save_at(&db, vec![full(1, NOW), full(2, NOW)], NOW).await;
    rule(&db, about(group(1), condition)).await;
    let mut evaluator = evaluator(&db);
    assert_eq!(steps(&db, &mut evaluator, at(59)).await, 0);
    save_at(&db, vec![full(1, at(59))], at(59)).await;
    assert_eq!(steps(&db, &mut evaluator, at(60)).await, 1);
    assert_eq!(steps(&db, &mut evaluator, at(90)).await, 0);
    nothing_more(&db, at(91)).await;
    save_at(&db, vec![full(2, at(100))], at(100)).await;
    assert_eq!(steps(&db, &mut evaluator, at(110)).await, 0);
    assert_eq!(steps(&db, &mut evaluator, at(165)).await, 1);
    // Two days later both are as late as before; the forecast has run out.
    let later = NOW + Duration::days(3);
    assert_eq!(steps(&db, &mut evaluator, later).await, 1);
    assert_eq!(steps(&db, &mut evaluator, later + HOUR).await, 0);
    assert_eq!(
        titles(&db).await,
        [
            "group:1: no new run of provider-a for 1 h for 1 of 2 units",
            "group:1: no new run of provider-a for 1 h for 2 of 2 units",
            "group:1: forecast of provider-a lacks periods in the next 1 h for 2 of 2 units",
        ]
    );
}

/// What a rule fired live and would have fired, by title or headline.
async fn agree(db: &TestDb, definition: &Definition, until: OffsetDateTime) -> DryRun {
    let dry = alert::dry_run(&db.db, definition, NOW - Duration::SECOND, None, until).await;
    let dry = dry.unwrap();
    let would: Vec<String> = dry
        .firings
        .iter()
        .map(|firing| format!("{}: {}", definition.unit, firing.firing.headline))
        .collect();
    assert_eq!(titles(db).await, would);
    assert_eq!(dry.total, would.len());
    dry
}

async fn what_would_have_fired_is_what_fires(db: TestDb) {
    portfolio(&db).await;
    save_at(&db, vec![of(2, 90, [20.0, 20.0])], NOW - HOUR).await;
    let end = NOW + HOUR * 10;
    let hours = [30.0, 30.0, 12.0, 30.0, 29.0, 11.0, 11.0, 45.0];
    for condition in [revision(15.0), below(35.0, 3.0)] {
        // The same history again, later issued and so on top.
        let definition = about(group(1), condition.clone());
        let watch = rule(&db, definition.clone()).await;
        let mut evaluator = evaluator(&db);
        for (i, mwh) in (0..).zip(hours) {
            let now = NOW + HOUR * i;
            let mut run = of(1, 0, [mwh, 20.0]);
            run.issued_at = Some(now);
            save_at(&db, vec![run], now).await;
            steps(&db, &mut evaluator, now).await;
        }
        let dry = agree(&db, &definition, end).await;
        assert!(dry.total >= 2, "{dry:?}");
        let at: Vec<_> = dry.firings.iter().map(|firing| firing.at).collect();
        assert_eq!(at[0], NOW + HOUR * 2);
        // Out of the way of the next condition.
        alert::delete(&db.db, watch.id).await.unwrap();
        for table in ["forecast_curve", "notification"] {
            db.sql(&format!("DELETE FROM {table}")).await;
        }
        db.tail().await;
        save_at(&db, vec![of(2, 90, [20.0, 20.0])], NOW - HOUR).await;
    }
    let late = about(
        group(1),
        Condition::Late(Late {
            after_minutes: 90,
            complete_hours: None,
        }),
    );
    let dry = alert::dry_run(&db.db, &late, NOW - HOUR * 2, None, end).await;
    let at: Vec<_> = dry.unwrap().firings.iter().map(|f| f.at).collect();
    // Of plant:1 nothing came; of plant:2 one run.
    assert_eq!(
        at,
        [30, -30].map(|minutes| NOW - Duration::minutes(minutes))
    );
    let month = Duration::days(31);
    for (since, until, expect) in [
        (
            NOW - month - HOUR,
            None,
            "since: expected a time at most 31 days before now",
        ),
        (
            NOW - month - HOUR,
            Some(NOW + HOUR),
            "since: expected a time at most 31 days before now",
        ),
        (
            NOW - month - HOUR * 2,
            Some(NOW - HOUR),
            "since: expected a time at most 31 days before `until`",
        ),
        (NOW, None, "since: expected a time before now"),
        (
            NOW - HOUR,
            Some(NOW - HOUR),
            "until: expected a time after `since`",
        ),
    ] {
        let refused = alert::dry_run(&db.db, &late, since, until, NOW).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, AlertError::Unanswerable(_)));
        assert_eq!(refused.to_string(), expect);
    }
}

async fn a_rule_is_checked_and_forgets_when_it_changes(db: TestDb) {
    people(&db).await;
    let fault = async |change: fn(&mut Definition)| {
        let mut definition = about(plant(1), below(10.0, 0.0));
        change(&mut definition);
        match alert::create(&db.db, "a", &definition, NOW).await {
            Err(AlertError::Unknown { what, path }) => format!("{what} at {}", path.unwrap()),
            Err(AlertError::Invalid(violations)) => {
                let paths = violations.into_iter().map(|Violation { path, .. }| path);
                paths.collect::<Vec<_>>().join(" ")
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(|d| d.unit = plant(99)).await, "unit plant:99 at unit");
    assert_eq!(
        fault(|d| d.provider = "nobody".parse().unwrap()).await,
        "provider nobody at provider"
    );
    assert_eq!(
        fault(|d| d.to.users = vec!["a".into(), "x".into()]).await,
        "user \"x\" at to.users[1]"
    );
    assert_eq!(
        fault(|d| d.to.groups = vec!["x".into()]).await,
        "group \"x\" at to.groups[0]"
    );
    assert_eq!(fault(|d| d.name = String::new()).await, "name");
    assert_eq!(db.count("alert_rule").await, 0);

    let definition = about(plant(1), below(10.0, 0.0));
    let made = alert::create(&db.db, "a", &definition, NOW).await.unwrap();
    assert_eq!(made.definition.to.users, ["a"], "its owner");
    let mut evaluator = evaluator(&db);
    save_at(&db, vec![of(1, 60, [5.0, 5.0])], NOW).await;
    assert_eq!(steps(&db, &mut evaluator, NOW).await, 1);
    // Another name is still the same rule; another limit is not.
    for (name, limit, expect) in [("Other", 10.0, 0), ("Other", 8.0, 1)] {
        let changed = Definition {
            name: name.into(),
            ..about(plant(1), below(limit, 0.0))
        };
        let changed = update(&db, made.id, changed).await;
        assert_eq!(changed.definition.name, name);
        save_at(&db, vec![of(1, 50, [5.0, 5.0])], NOW).await;
        assert_eq!(steps(&db, &mut evaluator, NOW).await, expect, "{limit}");
    }
    let other = alert::create(&db.db, "b", &definition, NOW).await.unwrap();
    let ids = async |owner| {
        let rules = alert::rules(db.db.reader(), owner, None, None, 10, false).await;
        rules.unwrap().iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Some("a")).await, [made.id]);
    assert_eq!(ids(None).await, [made.id, other.id]);
    alert::delete(&db.db, made.id).await.unwrap();
    assert!(matches!(
        alert::delete(&db.db, made.id).await,
        Err(AlertError::Unknown { .. })
    ));
    assert_eq!(ids(None).await, [other.id]);
}

async fn whom_it_was_for_may_be_gone(db: TestDb) {
    let mut for_group = about(plant(1), revision(10.0));
    for_group.to.groups = vec!["ab".into()];
    rule(&db, for_group).await;
    let kept = rule(&db, about(plant(1), revision(10.0))).await;
    let mut evaluator = evaluator(&db);
    save_at(&db, vec![of(1, 60, [50.0, 5.0])], NOW).await;
    steps(&db, &mut evaluator, NOW).await;
    db.sql("DELETE FROM user_group").await;
    save_at(&db, vec![of(1, 50, [5.0, 5.0])], NOW).await;
    let stepped = evaluator.step(NOW).await.unwrap();
    assert_eq!((stepped.fired, stepped.failed.len()), (1, 1), "{stepped:?}");
    let told = told(&db, "a").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].sender, format!("alert:{}", kept.id));
    nothing_more(&db, NOW).await;
}
