//! Deliveries are attempted in order, by one replica at a time, and none is lost.

use std::time::Duration as StdDuration;

use domain::Patch;
use domain::notification::delivery::{
    self, DeliveryFilter, DeliveryState, Lease, RetryFilter, Settlement,
};
use domain::notification::{
    self, Channel, Message, NewEndpoint, NotificationError, Outcome, QuietHours, SendRequest,
    SettingsUpdate, Severity,
};
use time::{Duration, OffsetDateTime};

use crate::notification::{deliveries, people, send, set, to_users};
use crate::support::{NOW, TestDb, on_both_databases};

on_both_databases!(
    those_of_a_user_leave_one_after_the_other,
    a_lease_that_ran_out_is_taken_over_or_unknown,
    what_was_sent_stays_sent,
    an_endpoint_that_is_gone_gets_nothing_more,
    quiet_hours_defer_and_do_not_count,
    what_was_given_up_can_be_tried_again,
    what_was_not_attempted_after_all_does_not_count,
    replicas_share_the_work,
    what_cannot_be_read_is_dead_and_holds_up_nothing,
);

async fn lease(db: &TestDb, channel: Channel, name: &str, now: OffsetDateTime) -> Vec<Message> {
    let lease = Lease {
        channel,
        name: name.into(),
        limit: 100,
        until: now + Duration::MINUTE,
    };
    delivery::lease(&db.db, &lease, now).await.unwrap().messages
}

async fn settle(
    db: &TestDb,
    name: &str,
    message: &Message,
    outcome: Outcome,
    next: Option<OffsetDateTime>,
) {
    let settlement = Settlement {
        delivery_id: message.delivery_id,
        endpoint_id: message.endpoint.id,
        outcome,
        next_attempt_at: next,
    };
    delivery::settle(&db.db, name, &[settlement], NOW)
        .await
        .unwrap();
}

fn sent() -> Outcome {
    Outcome::Sent {
        answer: Some("250 ok".into()),
    }
}

async fn what_cannot_be_read_is_dead_and_holds_up_nothing(db: TestDb) {
    let [a, ..] = people(&db).await;
    let unreadable = r#"{"$serde_json::private::RawValue": "x"}"#;
    let mut broken = Vec::new();
    for column in ["data", "variables"] {
        let id = send(&db, &mail_to(&["a"])).await;
        db.sql(&format!(
            "UPDATE notification SET {column} = '{unreadable}' WHERE id = {id}"
        ))
        .await;
        broken.push(id);
    }
    let whole = send(&db, &mail_to(&["a", "b"])).await;
    db.sql(&format!(
        "UPDATE endpoint SET secret = '{unreadable}' WHERE address = 'b@example.org'"
    ))
    .await;
    let leased = lease(&db, Channel::Email, "one", NOW).await;
    assert_eq!(notifications(&leased), [whole]);
    let states: Vec<_> = deliveries(&db, a).await;
    assert_eq!(states[0].1, "DEAD");
    let filter = DeliveryFilter {
        states: Some(vec![DeliveryState::Dead]),
        ..DeliveryFilter::default()
    };
    let dead = delivery::list(db.db.reader(), &filter, None, None, 10, false)
        .await
        .unwrap();
    assert_eq!(dead.len(), 3, "{dead:?}");
    for delivery in dead {
        assert_eq!(delivery.attempts, 0, "nothing was attempted");
        let reason = delivery.last_error.unwrap();
        assert!(reason.contains("cannot be read"), "{reason}");
    }
}

fn failed() -> Outcome {
    Outcome::Failed {
        reason: "503".into(),
        retry_after: None,
    }
}

fn mail_to(users: &[&str]) -> SendRequest {
    SendRequest {
        channels: vec![Channel::Email],
        ..to_users(users)
    }
}

fn notifications(messages: &[Message]) -> Vec<i64> {
    messages
        .iter()
        .map(|message| message.content.notification_id)
        .collect()
}

async fn those_of_a_user_leave_one_after_the_other(db: TestDb) {
    let [a, ..] = people(&db).await;
    let first = send(&db, &mail_to(&["a", "b"])).await;
    let leased = lease(&db, Channel::Email, "one", NOW).await;
    assert_eq!(notifications(&leased), [first, first]);
    assert_eq!(leased[0].endpoint.address, "a@example.org");
    assert_eq!(
        (leased[0].attempt, leased[0].addressee.user_key.as_str()),
        (1, "a")
    );
    // While one is at it, nobody takes another of the same user.
    let second = send(&db, &mail_to(&["a", "c"])).await;
    let other = lease(&db, Channel::Email, "two", NOW).await;
    assert_eq!(other.len(), 1);
    assert_eq!(other[0].addressee.user_key, "c");
    // One that failed does not hold up the others.
    let later = NOW + Duration::HOUR;
    settle(&db, "one", &leased[0], failed(), Some(later)).await;
    let next = lease(&db, Channel::Email, "three", NOW).await;
    assert_eq!(notifications(&next), [second]);
    settle(&db, "three", &next[0], sent(), None).await;
    assert_eq!(
        deliveries(&db, a)
            .await
            .iter()
            .map(|d| d.1.as_str())
            .collect::<Vec<_>>(),
        ["FAILED", "SENT"]
    );
    assert!(lease(&db, Channel::Email, "four", NOW).await.is_empty());
    let again = lease(&db, Channel::Email, "four", later).await;
    assert_eq!(
        (notifications(&again), again[0].attempt),
        (vec![first, first, second], 2)
    );
}

async fn a_lease_that_ran_out_is_taken_over_or_unknown(db: TestDb) {
    let [a, ..] = people(&db).await;
    let hook = NewEndpoint {
        channel: Channel::Webhook,
        address: "https://example.org/hook".into(),
        secret: serde_json::json!({ "secrets": ["s"] }),
    };
    notification::register(&db.db, a, &hook, NOW).await.unwrap();
    send(
        &db,
        &SendRequest {
            channels: vec![Channel::Email, Channel::Webhook],
            ..to_users(&["a"])
        },
    )
    .await;
    for channel in [Channel::Email, Channel::Webhook] {
        assert_eq!(lease(&db, channel, "killed", NOW).await.len(), 1);
    }
    // While the attempt goes on, its lease is kept.
    delivery::extend(&db.db, &["killed".into()], NOW + Duration::MINUTE * 2)
        .await
        .unwrap();
    let late = NOW + Duration::MINUTE;
    assert!(lease(&db, Channel::Webhook, "heir", late).await.is_empty());
    let later = NOW + Duration::MINUTE * 2;
    let taken = lease(&db, Channel::Webhook, "heir", later).await;
    assert_eq!((taken.len(), taken[0].attempt), (1, 2));
    assert_eq!(taken[0].endpoint.secret, hook.secret);
    // A mail that had not begun is like one that nobody took…
    let again = lease(&db, Channel::Email, "heir", later).await;
    assert_eq!((again.len(), again[0].attempt), (1, 1));
    delivery::release(&db.db, &["heir".into()]).await.unwrap();
    let again = lease(&db, Channel::Email, "heir", later).await;
    assert_eq!((again.len(), again[0].attempt), (1, 1));
    // …and one that had may have been sent: nobody knows.
    let ids = [again[0].delivery_id];
    let begun = delivery::begin(&db.db, "heir", &ids, later).await;
    assert_eq!(begun.unwrap(), ids);
    let lost = delivery::begin(&db.db, "somebody", &ids, later).await;
    assert_eq!(lost.unwrap(), [] as [i64; 0], "not theirs, not sent");
    delivery::release(&db.db, &["heir".into()]).await.unwrap();
    let latest = later + Duration::MINUTE;
    assert!(lease(&db, Channel::Email, "x", latest).await.is_empty());
    assert_eq!(
        deliveries(&db, a).await,
        [
            ("EMAIL".into(), "UNKNOWN".into()),
            ("WEBHOOK".into(), "FAILED".into())
        ]
    );
}

async fn what_was_sent_stays_sent(db: TestDb) {
    let [a, ..] = people(&db).await;
    let device = NewEndpoint {
        channel: Channel::Fcm,
        address: "token".into(),
        secret: serde_json::json!({}),
    };
    notification::register(&db.db, a, &device, NOW)
        .await
        .unwrap();
    send(
        &db,
        &SendRequest {
            channels: vec![Channel::Fcm],
            ..to_users(&["a"])
        },
    )
    .await;
    let slow = lease(&db, Channel::Fcm, "slow", NOW).await;
    let later = NOW + Duration::MINUTE;
    let heir = lease(&db, Channel::Fcm, "heir", later).await;
    // It says nothing of what is no longer its own…
    settle(&db, "slow", &slow[0], failed(), Some(later)).await;
    assert_eq!(deliveries(&db, a).await, [("FCM".into(), "LEASED".into())]);
    // …but what it has sent is sent.
    settle(&db, "slow", &slow[0], sent(), None).await;
    settle(&db, "heir", &heir[0], failed(), Some(later)).await;
    let list = delivery::list(
        db.db.reader(),
        &DeliveryFilter::default(),
        None,
        None,
        10,
        false,
    )
    .await;
    let list = list.unwrap();
    assert_eq!(list[0].state, DeliveryState::Sent);
    assert_eq!(list[0].answer.as_deref(), Some("250 ok"));
    assert!(
        lease(&db, Channel::Fcm, "x", later + Duration::DAY)
            .await
            .is_empty()
    );
    let error = delivery::retry(&db.db, list[0].id, NOW).await.unwrap_err();
    assert!(matches!(error, NotificationError::Conflict(_)), "{error}");
}

async fn an_endpoint_that_is_gone_gets_nothing_more(db: TestDb) {
    let [a, ..] = people(&db).await;
    send(&db, &mail_to(&["a"])).await;
    let leased = lease(&db, Channel::Email, "one", NOW).await;
    send(&db, &mail_to(&["a"])).await;
    let gone = Outcome::Gone {
        reason: "550 no such mailbox\0".into(),
    };
    settle(&db, "one", &leased[0], gone, None).await;
    send(&db, &mail_to(&["a"])).await;
    assert_eq!(
        deliveries(&db, a).await,
        [
            ("EMAIL".into(), "DEAD".into()),
            ("EMAIL".into(), "CANCELLED".into())
        ]
    );
    let endpoints = notification::endpoints(db.db.reader(), a).await.unwrap();
    assert_eq!(
        endpoints[0].disabled_reason.as_deref(),
        Some("550 no such mailbox")
    );
    let error = delivery::retry(&db.db, leased[0].delivery_id, NOW)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("registered again"), "{error}");
    assert_eq!(
        delivery::retry_all(&db.db, &RetryFilter::default(), NOW)
            .await
            .unwrap(),
        0
    );
}

async fn quiet_hours_defer_and_do_not_count(db: TestDb) {
    let [a, ..] = people(&db).await;
    // NOW is noon in Istanbul.
    let quiet = QuietHours {
        from: 11 * 60,
        until: 14 * 60,
    };
    let update = SettingsUpdate {
        quiet_hours: Patch::Set(quiet),
        ..SettingsUpdate::default()
    };
    set(&db, a, update).await;
    send(&db, &mail_to(&["a"])).await;
    let critical = SendRequest {
        severity: Severity::Critical,
        ..mail_to(&["a"])
    };
    let critical = send(&db, &critical).await;
    let leased = lease(&db, Channel::Email, "one", NOW).await;
    assert_eq!(notifications(&leased), [critical]);
    settle(&db, "one", &leased[0], sent(), None).await;
    assert!(
        lease(&db, Channel::Email, "two", NOW + Duration::HOUR)
            .await
            .is_empty()
    );
    let end = NOW + Duration::HOUR * 2;
    let leased = lease(&db, Channel::Email, "two", end).await;
    assert_eq!((leased.len(), leased[0].attempt), (1, 1));
}

async fn what_was_given_up_can_be_tried_again(db: TestDb) {
    let [a, ..] = people(&db).await;
    let one = send(&db, &mail_to(&["a", "b", "c"])).await;
    for (place, message) in lease(&db, Channel::Email, "one", NOW)
        .await
        .iter()
        .enumerate()
    {
        let outcome = match place {
            0 => Outcome::Rejected {
                reason: "too large".into(),
            },
            1 => Outcome::Unknown {
                reason: "the line broke".into(),
            },
            _ => failed(),
        };
        settle(&db, "one", message, outcome, None).await;
    }
    assert!(
        lease(&db, Channel::Email, "two", NOW + Duration::DAY)
            .await
            .is_empty()
    );
    let id = |state| {
        let filter = DeliveryFilter {
            states: Some(vec![state]),
            ..DeliveryFilter::default()
        };
        let reader = db.db.reader();
        async move {
            let found = delivery::list(reader, &filter, None, None, 10, false)
                .await
                .unwrap();
            found.iter().map(|d| d.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(id(DeliveryState::Dead).await.len(), 2);
    let unknown = id(DeliveryState::Unknown).await;
    delivery::retry(&db.db, unknown[0], NOW).await.unwrap();
    assert_eq!(
        delivery::retry_all(&db.db, &RetryFilter::default(), NOW)
            .await
            .unwrap(),
        2
    );
    let again = lease(&db, Channel::Email, "two", NOW).await;
    assert_eq!(notifications(&again), [one, one, one]);
    assert_eq!(again[0].attempt, 1);
    assert_eq!(delivery::backlog(db.db.reader()).await.unwrap(), []);
    assert_eq!(
        deliveries(&db, a).await,
        [("EMAIL".into(), "LEASED".into())]
    );
}

async fn what_was_not_attempted_after_all_does_not_count(db: TestDb) {
    let [a, ..] = people(&db).await;
    send(&db, &mail_to(&["a"])).await;
    let later = NOW + Duration::MINUTE;
    let postponed = Outcome::Postponed {
        reason: "the host is left alone".into(),
        after: StdDuration::from_secs(60),
    };
    for (attempt, outcome, state) in [
        (1, postponed.clone(), "QUEUED"),
        (1, failed(), "FAILED"),
        (2, postponed, "FAILED"),
        (2, sent(), "SENT"),
    ] {
        let leased = lease(&db, Channel::Email, "one", later).await;
        assert_eq!(leased[0].attempt, attempt);
        settle(&db, "one", &leased[0], outcome, Some(later)).await;
        assert_eq!(deliveries(&db, a).await, [("EMAIL".into(), state.into())]);
    }
}

/// Many workers over one queue: each delivery is had once, and those of a user
/// in order.
async fn replicas_share_the_work(db: TestDb) {
    people(&db).await;
    for _ in 0..20 {
        send(&db, &mail_to(&["a", "b", "c"])).await;
    }
    let work = |worker: usize| {
        let db = &db;
        async move {
            let mut had = Vec::new();
            for round in 0.. {
                let name = format!("{worker}.{round}");
                let lease = Lease {
                    channel: Channel::Email,
                    name: name.clone(),
                    limit: 2,
                    until: NOW + Duration::MINUTE,
                };
                let leased = delivery::lease(&db.db, &lease, NOW).await.unwrap();
                for message in &leased.messages {
                    had.push((message.addressee.user_key.clone(), message.delivery_id));
                    settle(db, &name, message, sent(), None).await;
                }
                let waiting = delivery::backlog(db.db.reader()).await.unwrap();
                if waiting.is_empty() {
                    break;
                }
                if leased.messages.is_empty() {
                    tokio::time::sleep(StdDuration::from_millis(1)).await;
                }
            }
            had
        }
    };
    let (one, two, three) = tokio::join!(work(1), work(2), work(3));
    for had in [&one, &two, &three] {
        for user in ["a", "b", "c"] {
            let of_user: Vec<i64> = had.iter().filter(|h| h.0 == user).map(|h| h.1).collect();
            assert!(of_user.is_sorted(), "{of_user:?}");
        }
    }
    let mut all: Vec<i64> = [one, two, three]
        .into_iter()
        .flatten()
        .map(|h| h.1)
        .collect();
    all.sort_unstable();
    let count = all.len();
    all.dedup();
    assert_eq!((all.len(), count), (60, 60));
}
