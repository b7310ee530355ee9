//! Notifications reach whom they are for, once, and the log and the counts say so.

use domain::Patch;
use domain::change::{Change, Operation, Subject};
use domain::notification::{
    self, Channel, GroupUpsert, InboxCursor, InboxFilter, NewEndpoint, NotificationError,
    Preference, SendRequest, SettingsUpdate, Severity, Target, Throttle, UserUpsert,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::support::{NOW, TestDb, on_both_databases};

on_both_databases!(
    it_reaches_everybody_once_and_is_one_change,
    what_was_taken_back_says_nothing_any_more,
    an_unknown_recipient_leaves_nothing,
    every_bad_value_is_named,
    json_that_would_not_read_back_is_refused,
    stored_json_that_cannot_be_read_is_nothing,
    the_count_is_exact_whatever_happens,
    a_list_is_paged_and_filtered,
    a_key_replays_its_answer,
    it_comes_when_its_time_has_come_and_goes_when_it_expires,
    preferences_decide_and_the_critical_passes,
    a_group_is_throttled_per_user,
    a_device_belongs_to_who_registered_it_last,
    what_is_old_goes_without_a_word,
);

/// Users `a`, `b` and `c` with a mail address each; `a` and `b` are the group `ab`.
pub(crate) async fn people(db: &TestDb) -> [i64; 3] {
    let users = ["a", "b", "c"].map(|key| UserUpsert {
        key: key.into(),
        name: None,
        email: Patch::Set(format!("{key}@example.org")),
        locale: Patch::Keep,
        time_zone: Some("Europe/Istanbul".into()),
    });
    notification::upsert_users(&db.db, &users, NOW)
        .await
        .unwrap();
    let group = GroupUpsert {
        key: "ab".into(),
        name: None,
        members: Some(vec!["a".into(), "b".into()]),
    };
    notification::upsert_groups(&db.db, &[group]).await.unwrap();
    let mut ids = [0; 3];
    for (id, user) in ids.iter_mut().zip(&users) {
        *id = notification::ensure_user(&db.db, &user.key).await.unwrap();
    }
    ids
}

pub(crate) fn to_users(users: &[&str]) -> SendRequest {
    SendRequest {
        to: Target {
            users: users.iter().map(ToString::to_string).collect(),
            ..Target::default()
        },
        title: "Wind is up".into(),
        body: "by 12 MWh".into(),
        severity: Severity::Info,
        category: "alert".into(),
        data: None,
        link: None,
        channels: vec![Channel::InApp],
        template: None,
        variables: None,
        attachments: Vec::new(),
        not_before: None,
        expires_at: None,
        throttle: None,
        idempotency_key: None,
    }
}

pub(crate) async fn set(db: &TestDb, user: i64, update: SettingsUpdate) {
    notification::update_settings(&db.db, user, &update, NOW)
        .await
        .unwrap();
}

pub(crate) async fn send(db: &TestDb, request: &SendRequest) -> i64 {
    let sent = notification::send(&db.db, "sender", request, NOW).await;
    sent.unwrap().notification_id
}

async fn unread(db: &TestDb, user: i64) -> i64 {
    let counted = notification::unread_count(db.db.reader(), user)
        .await
        .unwrap();
    let listed = listed(
        db,
        user,
        &InboxFilter {
            unread: Some(true),
            ..InboxFilter::default()
        },
    )
    .await;
    assert_eq!(
        counted,
        i64::try_from(listed.len()).unwrap(),
        "what is counted is what is there"
    );
    counted
}

async fn listed(db: &TestDb, user: i64, filter: &InboxFilter) -> Vec<i64> {
    let list = notification::list(db.db.reader(), user, filter, None, None, 100, false).await;
    list.unwrap().iter().map(|r| r.notification.id).collect()
}

/// What changes of notifications say: operation, notification, user.
fn told(changes: &[Change]) -> Vec<(Operation, Option<i64>, Option<i64>)> {
    changes
        .iter()
        .filter_map(|change| match &change.subject {
            Subject::Notification(n) => Some((change.operation, n.notification_id, n.user_id)),
            _ => None,
        })
        .collect()
}

async fn concerned(db: &TestDb, change: &Change) -> (Vec<i64>, Vec<bool>) {
    let Subject::Notification(subject) = &change.subject else {
        panic!("{change:?}");
    };
    let written = notification::written(db.db.reader(), &[(subject, change.operation)], None).await;
    let written = &written.unwrap()[0];
    (
        written.ids.to_vec(),
        (1..=3).map(|user| written.concerns(user)).collect(),
    )
}

async fn it_reaches_everybody_once_and_is_one_change(db: TestDb) {
    let [a, b, c] = people(&db).await;
    for (user, subscribe) in [
        (b, vec!["wind".into(), "sun".into()]),
        (c, vec!["wind".into()]),
    ] {
        let update = SettingsUpdate {
            subscribe,
            unsubscribe: vec!["rain".into()],
            ..SettingsUpdate::default()
        };
        set(&db, user, update).await;
    }
    assert_eq!(
        notification::topics(db.db.reader(), b).await.unwrap(),
        ["sun", "wind"]
    );
    db.tail().await;
    let all = SendRequest {
        to: Target {
            users: vec!["a".into(), "a".into()],
            groups: vec!["ab".into()],
            topics: vec!["wind".into(), "nobody asked".into()],
        },
        ..to_users(&[])
    };
    let sent = notification::send(&db.db, "sender", &all, NOW)
        .await
        .unwrap();
    assert_eq!(sent.recipients, 3);
    let changes = db.tail().await;
    let id = sent.notification_id;
    assert_eq!(told(&changes), [(Operation::Insert, Some(id), None)]);
    assert_eq!(
        concerned(&db, &changes[0]).await,
        (vec![id], vec![true, true, true])
    );
    for user in [a, b, c] {
        assert_eq!(listed(&db, user, &InboxFilter::default()).await, [id]);
    }
    // To one, the change says to whom.
    let id = send(&db, &to_users(&["b"])).await;
    let changes = db.tail().await;
    assert_eq!(told(&changes), [(Operation::Insert, Some(id), Some(b))]);
    assert_eq!(
        concerned(&db, &changes[0]).await,
        (vec![id], vec![false, true, false])
    );
}

async fn what_was_taken_back_says_nothing_any_more(db: TestDb) {
    let [a, b, c] = people(&db).await;
    db.tail().await;
    let id = send(&db, &to_users(&["a", "b"])).await;
    let changes = db.tail().await;
    // Whether it says something, and whom of all it concerns.
    let seen = |for_user: Option<i64>| {
        let (db, change) = (&db, &changes[0]);
        async move {
            let Subject::Notification(subject) = &change.subject else {
                panic!("{change:?}");
            };
            let changes = [(subject, change.operation)];
            let written = notification::written(db.db.reader(), &changes, for_user).await;
            let written = &written.unwrap()[0];
            assert_eq!(*written.ids, [id]);
            (
                written.notification.is_some(),
                [a, b, c].map(|user| written.concerns(user)),
            )
        }
    };
    assert_eq!(seen(None).await, (true, [true, true, false]));
    assert_eq!(seen(Some(a)).await, (true, [true, false, false]));
    assert_eq!(seen(Some(c)).await, (false, [false, false, false]));

    notification::delete(&db.db, a, &[id], NOW).await.unwrap();
    assert_eq!(seen(None).await, (true, [true, true, false]));
    assert_eq!(seen(Some(a)).await, (false, [true, false, false]));
    assert_eq!(seen(Some(b)).await, (true, [false, true, false]));

    notification::revoke(&db.db, None, id, NOW).await.unwrap();
    assert_eq!(seen(None).await, (false, [true, true, false]));
    assert_eq!(seen(Some(b)).await, (false, [false, true, false]));
}

async fn an_unknown_recipient_leaves_nothing(db: TestDb) {
    let [a, ..] = people(&db).await;
    db.tail().await;
    let nobody = to_users(&["a", "nobody"]);
    let error = notification::send(&db.db, "s", &nobody, NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, NotificationError::Unknown { path: Some(path), .. } if path == "to.users[1]"),
        "{error}"
    );
    assert_eq!(error.to_string(), "there is no user \"nobody\"");
    assert_eq!((unread(&db, a).await, db.tail().await.len()), (0, 0));
}

async fn every_bad_value_is_named(db: TestDb) {
    people(&db).await;
    let bad = SendRequest {
        to: Target::default(),
        title: "two\nlines".into(),
        body: "x".repeat(10_001),
        category: String::new(),
        data: Some(serde_json::json!(["not an object"])),
        link: Some("javascript:alert(1)".into()),
        channels: vec![],
        expires_at: Some(NOW - Duration::SECOND),
        throttle: Some(Throttle {
            group_key: "g".into(),
            interval: Duration::ZERO,
        }),
        ..to_users(&[])
    };
    let error = notification::send(&db.db, "s", &bad, NOW)
        .await
        .unwrap_err();
    let NotificationError::Invalid(violations) = error else {
        panic!("{error}");
    };
    let paths: Vec<&str> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "to",
            "title",
            "body",
            "category",
            "data",
            "link",
            "channels",
            "expiresAt",
            "throttle.seconds"
        ]
    );
}

const TOKEN: &str = "$serde_json::private::RawValue";

async fn json_that_would_not_read_back_is_refused(db: TestDb) {
    people(&db).await;
    for (data, path) in [
        (json!({ TOKEN: "x" }), format!("data[\"{TOKEN}\"]")),
        (
            json!({ "a": [{ TOKEN: "{}" }] }),
            format!("data[\"a\"][0][\"{TOKEN}\"]"),
        ),
    ] {
        let request = SendRequest {
            data: Some(data.clone()),
            variables: Some(data),
            ..to_users(&["a"])
        };
        let refused = notification::send(&db.db, "sender", &request, NOW).await;
        let Err(NotificationError::Invalid(violations)) = refused else {
            panic!("{refused:?}");
        };
        let paths: Vec<&str> = violations.iter().map(|of| of.path.as_str()).collect();
        assert_eq!(paths, [&path, &path.replace("data[", "variables[")]);
    }
    assert_eq!(db.count("notification").await, 0);
}

async fn stored_json_that_cannot_be_read_is_nothing(db: TestDb) {
    let [a, ..] = people(&db).await;
    let with_data = SendRequest {
        data: Some(json!({ "unit": 1 })),
        ..to_users(&["a"])
    };
    let broken = send(&db, &with_data).await;
    let whole = send(&db, &with_data).await;
    let scheduled = SendRequest {
        not_before: Some(NOW + Duration::HOUR),
        ..with_data
    };
    let later = send(&db, &scheduled).await;
    db.sql(&format!(
        "UPDATE notification SET data = '{{\"{TOKEN}\": \"x\"}}' WHERE id = {broken}"
    ))
    .await;
    db.sql(&format!(
        "UPDATE notification SET channels = '[1]' WHERE id = {later}"
    ))
    .await;
    let changes = db.tail().await;
    let everything = InboxFilter::default();
    let list = notification::list(db.db.reader(), a, &everything, None, None, 9, false).await;
    let list: Vec<_> = list
        .unwrap()
        .iter()
        .map(|of| (of.notification.id, of.notification.data.clone()))
        .collect();
    let data = Some(json!({ "unit": 1 }));
    assert_eq!(list, [(whole, data), (broken, None)]);
    let one = notification::received(db.db.reader(), a, broken).await;
    assert_eq!(one.unwrap().unwrap().notification.data, None);
    for change in &changes {
        let Subject::Notification(subject) = &change.subject else {
            continue;
        };
        let change = [(subject, change.operation)];
        let written = notification::written(db.db.reader(), &change, None).await;
        assert!(written.unwrap()[0].notification.is_some());
    }
    // What nobody knows the channels of comes over none, and holds up nothing.
    let published = notification::publish_due(&db.db, NOW + Duration::HOUR).await;
    assert!(published.unwrap().is_some());
    let published = notification::publish_due(&db.db, NOW + Duration::HOUR).await;
    assert!(published.unwrap().is_none());
}

async fn the_count_is_exact_whatever_happens(db: TestDb) {
    let [a, b, _] = people(&db).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(send(&db, &to_users(&["a", "b"])).await);
    }
    db.tail().await;
    assert_eq!((unread(&db, a).await, unread(&db, b).await), (5, 5));
    let now = NOW + Duration::MINUTE;
    let marked = notification::mark_read(&db.db, a, &[ids[0], ids[1], 99_999], now)
        .await
        .unwrap();
    assert_eq!(marked.ids.len(), 2);
    let changes = db.tail().await;
    assert_eq!(
        told(&changes),
        [(Operation::Update, None, Some(a))],
        "one a statement"
    );
    assert_eq!(
        concerned(&db, &changes[0]).await,
        (vec![ids[0], ids[1]], vec![true, false, false])
    );
    // Again is nothing.
    let again = notification::mark_read(&db.db, a, &[ids[0]], now + Duration::MINUTE).await;
    assert!(again.unwrap().ids.is_empty());
    assert_eq!(told(&db.tail().await), []);
    assert_eq!((unread(&db, a).await, unread(&db, b).await), (3, 5));

    notification::delete(&db.db, a, &[ids[1], ids[2]], now)
        .await
        .unwrap();
    let changes = db.tail().await;
    assert_eq!(told(&changes), [(Operation::Delete, None, Some(a))]);
    assert_eq!(concerned(&db, &changes[0]).await.0, [ids[1], ids[2]]);
    assert_eq!(unread(&db, a).await, 2);
    assert_eq!(
        listed(&db, a, &InboxFilter::default()).await,
        [ids[4], ids[3], ids[0]]
    );

    // Only who sent it can take it back.
    let error = notification::revoke(&db.db, Some("somebody"), ids[3], now)
        .await
        .unwrap_err();
    assert!(matches!(error, NotificationError::Unknown { .. }));
    notification::revoke(&db.db, Some("sender"), ids[3], now)
        .await
        .unwrap();
    notification::revoke(&db.db, None, ids[3], now)
        .await
        .unwrap();
    let changes = db.tail().await;
    assert_eq!(
        told(&changes),
        [(Operation::Delete, Some(ids[3]), None)],
        "once"
    );
    assert_eq!((unread(&db, a).await, unread(&db, b).await), (1, 4));

    notification::mark_all_read(&db.db, b, NOW, now)
        .await
        .unwrap();
    let changes = db.tail().await;
    assert_eq!(told(&changes), [(Operation::Update, None, Some(b))]);
    assert_eq!(
        concerned(&db, &changes[0]).await.0,
        [ids[0], ids[1], ids[2], ids[4]]
    );
    assert_eq!((unread(&db, a).await, unread(&db, b).await), (1, 0));

    // What came later is not read by what was said before.
    send(&db, &to_users(&["b"])).await;
    notification::mark_all_read(&db.db, b, NOW - Duration::SECOND, now)
        .await
        .unwrap();
    assert_eq!(unread(&db, b).await, 1);
    db.tail().await;

    // Plain SQL is counted, too.
    db.sql("DELETE FROM notification_recipient").await;
    assert_eq!((unread(&db, a).await, unread(&db, b).await), (0, 0));
    let mut told = told(&db.tail().await);
    told.sort_by_key(|(_, _, user)| *user);
    assert_eq!(
        told,
        [
            (Operation::Delete, None, Some(a)),
            (Operation::Delete, None, Some(b))
        ]
    );
}

async fn a_list_is_paged_and_filtered(db: TestDb) {
    let [a, ..] = people(&db).await;
    let mut ids = Vec::new();
    for (i, severity) in [
        Severity::Info,
        Severity::Warning,
        Severity::Critical,
        Severity::Info,
    ]
    .into_iter()
    .enumerate()
    {
        let request = SendRequest {
            severity,
            category: format!("category {}", i % 2),
            ..to_users(&["a"])
        };
        let now = NOW + Duration::seconds(i64::try_from(i).unwrap() / 2);
        let sent = notification::send(&db.db, "s", &request, now)
            .await
            .unwrap();
        ids.push(sent.notification_id);
    }
    let filtered = |filter: InboxFilter| {
        let db = &db;
        async move { listed(db, a, &filter).await }
    };
    let none = InboxFilter::default;
    assert_eq!(filtered(none()).await, [ids[3], ids[2], ids[1], ids[0]]);
    for (filter, expect) in [
        (
            InboxFilter {
                severities: Some(vec![Severity::Info]),
                ..none()
            },
            vec![ids[3], ids[0]],
        ),
        (
            InboxFilter {
                severities: Some(vec![]),
                ..none()
            },
            vec![],
        ),
        (
            InboxFilter {
                categories: Some(vec!["category 1".into()]),
                ..none()
            },
            vec![ids[3], ids[1]],
        ),
        (
            InboxFilter {
                since: Some(NOW + Duration::SECOND),
                ..none()
            },
            vec![ids[3], ids[2]],
        ),
        (
            InboxFilter {
                until: Some(NOW + Duration::SECOND),
                ..none()
            },
            vec![ids[1], ids[0]],
        ),
        (
            InboxFilter {
                unread: Some(false),
                ..none()
            },
            vec![],
        ),
    ] {
        assert_eq!(filtered(filter.clone()).await, expect, "{filter:?}");
    }
    let page = |after: Option<InboxCursor>, before: Option<InboxCursor>, from_end: bool| {
        let reader = db.db.reader();
        async move {
            let list = notification::list(reader, a, &none(), after, before, 2, from_end).await;
            list.unwrap()
                .into_iter()
                .map(|r| InboxCursor {
                    arrived_at: r.arrived_at,
                    notification_id: r.notification.id,
                })
                .collect::<Vec<_>>()
        }
    };
    let first = page(None, None, false).await;
    let second = page(Some(first[1]), None, false).await;
    let order = |cursors: &[InboxCursor]| {
        cursors
            .iter()
            .map(|c| c.notification_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (order(&first), order(&second)),
        (vec![ids[3], ids[2]], vec![ids[1], ids[0]])
    );
    assert_eq!(order(&page(None, None, true).await), [ids[1], ids[0]]);
    assert_eq!(
        order(&page(None, Some(second[0]), true).await),
        [ids[3], ids[2]]
    );
}

async fn a_key_replays_its_answer(db: TestDb) {
    let [a, ..] = people(&db).await;
    let request = SendRequest {
        idempotency_key: Some("k".into()),
        ..to_users(&["a", "b"])
    };
    let first = notification::send(&db.db, "s", &request, NOW)
        .await
        .unwrap();
    let again = notification::send(&db.db, "s", &request, NOW + Duration::HOUR)
        .await
        .unwrap();
    assert_eq!(
        (again.notification_id, again.recipients),
        (first.notification_id, first.recipients)
    );
    assert_eq!(unread(&db, a).await, 1);
    let other = SendRequest {
        body: "another".into(),
        ..request.clone()
    };
    let error = notification::send(&db.db, "s", &other, NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, NotificationError::IdempotencyConflict));
    // The key is the sender's own.
    notification::send(&db.db, "t", &other, NOW).await.unwrap();
    assert_eq!(unread(&db, a).await, 2);
}

async fn it_comes_when_its_time_has_come_and_goes_when_it_expires(db: TestDb) {
    let [a, ..] = people(&db).await;
    let at = NOW + Duration::HOUR;
    let request = SendRequest {
        not_before: Some(at),
        expires_at: Some(at + Duration::HOUR),
        channels: vec![Channel::InApp, Channel::Email],
        ..to_users(&["a"])
    };
    let id = send(&db, &request).await;
    let revoked = send(&db, &request).await;
    notification::revoke(&db.db, None, revoked, NOW)
        .await
        .unwrap();
    db.tail().await;
    assert!(
        notification::publish_due(&db.db, NOW)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(unread(&db, a).await, 0);
    assert_eq!(deliveries(&db, a).await, []);
    // What the user wants is what they want when it comes.
    assert!(
        notification::publish_due(&db.db, at)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        notification::publish_due(&db.db, at)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        told(&db.tail().await),
        [(Operation::Insert, Some(id), Some(a))]
    );
    assert_eq!(unread(&db, a).await, 1);
    assert_eq!(
        deliveries(&db, a).await,
        [("EMAIL".into(), "QUEUED".into())]
    );
    let late = at + Duration::HOUR;
    assert!(
        notification::expire_due(&db.db, late - Duration::SECOND)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        notification::expire_due(&db.db, late)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        told(&db.tail().await),
        [(Operation::Delete, Some(id), Some(a))]
    );
    assert_eq!(unread(&db, a).await, 0);
    assert_eq!(
        deliveries(&db, a).await,
        [("EMAIL".into(), "CANCELLED".into())]
    );
}

/// Channel and state of a user's deliveries, the oldest first.
pub(crate) async fn deliveries(db: &TestDb, user: i64) -> Vec<(String, String)> {
    let rows = db
        .rows(&format!(
            "SELECT channel, state FROM delivery WHERE user_id = {user} ORDER BY id"
        ))
        .await;
    rows.iter()
        .map(|row| {
            (
                row.try_get("", "channel").unwrap(),
                row.try_get("", "state").unwrap(),
            )
        })
        .collect()
}

async fn preferences_decide_and_the_critical_passes(db: TestDb) {
    let [a, ..] = people(&db).await;
    let preference = |category: Option<&str>, channel, enabled| Preference {
        category: category.map(Into::into),
        channel,
        enabled: Some(enabled),
    };
    let (mail, app) = (Some(Channel::Email), Some(Channel::InApp));
    let alert = Some("alert");
    for (preferences, in_app, email) in [
        (vec![], true, true),
        (vec![preference(None, None, false)], false, false),
        (vec![preference(None, mail, false)], true, false),
        (vec![preference(alert, None, false)], false, false),
        // Neither the category nor the channel may be off…
        (
            vec![preference(alert, None, false), preference(None, mail, true)],
            false,
            false,
        ),
        (
            vec![preference(alert, None, true), preference(None, mail, false)],
            true,
            false,
        ),
        // …unless just that is wanted.
        (
            vec![
                preference(alert, None, false),
                preference(alert, mail, true),
            ],
            false,
            true,
        ),
        (
            vec![preference(None, None, false), preference(alert, app, true)],
            true,
            false,
        ),
        (
            vec![preference(None, None, false), preference(alert, None, true)],
            true,
            true,
        ),
        (vec![preference(Some("other"), None, false)], true, true),
    ] {
        db.sql("DELETE FROM notification_preference").await;
        db.sql("DELETE FROM notification").await;
        let update = SettingsUpdate {
            preferences: preferences.clone(),
            ..SettingsUpdate::default()
        };
        set(&db, a, update).await;
        assert_eq!(
            notification::preferences(db.db.reader(), a)
                .await
                .unwrap()
                .len(),
            preferences.len()
        );
        let request = SendRequest {
            channels: vec![Channel::InApp, Channel::Email],
            ..to_users(&["a"])
        };
        send(&db, &request).await;
        let state = if email { "QUEUED" } else { "SUPPRESSED" };
        assert_eq!(unread(&db, a).await, i64::from(in_app), "{preferences:?}");
        assert_eq!(
            deliveries(&db, a).await,
            [("EMAIL".into(), state.into())],
            "{preferences:?}"
        );

        db.sql("DELETE FROM notification").await;
        let critical = SendRequest {
            severity: Severity::Critical,
            ..request
        };
        send(&db, &critical).await;
        assert_eq!(unread(&db, a).await, 1, "{preferences:?}");
        assert_eq!(
            deliveries(&db, a).await,
            [("EMAIL".into(), "QUEUED".into())]
        );

        let overrides = |critical_overrides| SettingsUpdate {
            critical_overrides: Some(critical_overrides),
            ..SettingsUpdate::default()
        };
        set(&db, a, overrides(false)).await;
        db.sql("DELETE FROM notification").await;
        send(&db, &critical).await;
        assert_eq!(
            unread(&db, a).await,
            i64::from(in_app),
            "not if the user says otherwise"
        );
        set(&db, a, overrides(true)).await;
    }
}

async fn a_group_is_throttled_per_user(db: TestDb) {
    let [a, b, _] = people(&db).await;
    let of_group = |users: &[&str], severity| SendRequest {
        channels: vec![Channel::InApp, Channel::Email],
        severity,
        throttle: Some(Throttle {
            group_key: "wind".into(),
            interval: Duration::HOUR,
        }),
        ..to_users(users)
    };
    let at = async |request: SendRequest, minutes: i64| {
        let now = NOW + Duration::minutes(minutes);
        notification::send(&db.db, "s", &request, now)
            .await
            .unwrap();
    };
    at(of_group(&["a"], Severity::Info), 0).await;
    at(of_group(&["a", "b"], Severity::Info), 30).await;
    at(of_group(&["a"], Severity::Critical), 40).await;
    at(of_group(&["a", "b"], Severity::Info), 61).await;
    let states = async |user| {
        let all = deliveries(&db, user).await;
        all.into_iter().map(|(_, state)| state).collect::<Vec<_>>()
    };
    assert_eq!(
        states(a).await,
        ["QUEUED", "SUPPRESSED", "QUEUED", "QUEUED"]
    );
    assert_eq!(states(b).await, ["QUEUED", "SUPPRESSED"]);
    assert_eq!(
        (unread(&db, a).await, unread(&db, b).await),
        (4, 2),
        "lists have them all"
    );
    assert_eq!(
        notification::forget_throttles(&db.db, NOW + Duration::HOUR * 2)
            .await
            .unwrap(),
        1
    );
}

async fn a_device_belongs_to_who_registered_it_last(db: TestDb) {
    let [a, b, _] = people(&db).await;
    let device = NewEndpoint {
        channel: Channel::Fcm,
        address: "token".into(),
        secret: serde_json::json!({}),
    };
    let first = notification::register(&db.db, a, &device, NOW)
        .await
        .unwrap();
    let request = SendRequest {
        channels: vec![Channel::Fcm],
        ..to_users(&["a", "b"])
    };
    send(&db, &request).await;
    let again = notification::register(&db.db, b, &device, NOW)
        .await
        .unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(
        deliveries(&db, a).await,
        [("FCM".into(), "CANCELLED".into())]
    );
    send(&db, &request).await;
    assert_eq!(deliveries(&db, a).await.len(), 1);
    assert_eq!(deliveries(&db, b).await, [("FCM".into(), "QUEUED".into())]);
    let error = notification::unregister(&db.db, a, again.id, NOW)
        .await
        .unwrap_err();
    assert!(matches!(error, NotificationError::Unknown { .. }));
    notification::unregister(&db.db, b, again.id, NOW)
        .await
        .unwrap();
    let left = notification::endpoints(db.db.reader(), b).await.unwrap();
    assert_eq!(
        left.iter().map(|e| e.channel).collect::<Vec<_>>(),
        [Channel::Email]
    );
    let _: OffsetDateTime = left[0].created_at;
}

async fn what_is_old_goes_without_a_word(db: TestDb) {
    let [a, ..] = people(&db).await;
    let old = to_users(&["a"]);
    notification::send(&db.db, "s", &old, NOW - Duration::DAY)
        .await
        .unwrap();
    let waits = SendRequest {
        not_before: Some(NOW + Duration::DAY),
        ..to_users(&["a"])
    };
    notification::send(&db.db, "s", &waits, NOW - Duration::DAY)
        .await
        .unwrap();
    let new = send(&db, &to_users(&["a"])).await;
    db.tail().await;
    assert_eq!(notification::prune(&db.db, NOW).await.unwrap(), 1);
    assert_eq!(notification::prune(&db.db, NOW).await.unwrap(), 0);
    assert_eq!(told(&db.tail().await), []);
    assert_eq!(unread(&db, a).await, 1);
    assert_eq!(listed(&db, a, &InboxFilter::default()).await, [new]);
}
