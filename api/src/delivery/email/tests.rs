//! Mails as they arrive at a real SMTP server, and what becomes of them when it
//! misbehaves.

use domain::notification::{Addressee, Attachment, Channel, Content, Endpoint, Severity};
use serde_json::json;
use time::macros::datetime;

use super::*;

#[path = "../../../tests/smtp/server.rs"]
mod server;

use server::{ReceivedMail, Smtp};

const KEY: [u8; 32] = [7; 32];

fn settings(url: &str) -> EmailSettings {
    EmailSettings {
        smtp_url: SmtpUrl::new(url),
        authorities: None,
        from: "SmartPulse Überwachung <pulse@example.com>"
            .parse()
            .unwrap(),
        reply_to: Some("control@example.com".parse().unwrap()),
        public_url: Url::parse("https://pulse.example.com/app/").unwrap(),
        unsubscribe_key: KEY,
        connections: 2,
        timeout: Duration::from_secs(5),
    }
}

fn email(settings: EmailSettings) -> Email {
    Email::new(settings, Arc::new(Templates::load(None).unwrap())).unwrap()
}

fn content() -> Content {
    Content {
        notification_id: 1,
        title: "Weniger Wind in Gößnitz 🌬".to_owned(),
        body: "12,5 MWh weniger.\n.\nMehr dazu später.".to_owned(),
        severity: Severity::Critical,
        category: "alert".to_owned(),
        data: None,
        link: Some("/units/1".to_owned()),
        template: None,
        variables: None,
        attachments: Vec::new(),
        created_at: datetime!(2026-01-02 03:04:05 UTC),
        expires_at: None,
    }
}

fn message(id: i64, address: &str, content: &Arc<Content>) -> Message {
    Message {
        delivery_id: id,
        attempt: 1,
        content: Arc::clone(content),
        addressee: Addressee {
            user_key: format!("user-{id}"),
            name: "Jürgen \"Jo\" Weiß, Dr.\r\nBcc: eve@example.com".to_owned(),
            locale: Some("de-AT".to_owned()),
            time_zone: "Europe/Vienna".to_owned(),
        },
        endpoint: Endpoint {
            id,
            channel: Channel::Email,
            address: address.to_owned(),
            secret: json!(null),
        },
    }
}

/// Messages to `user-0@example.com` and so on.
fn messages(count: i64, content: Content) -> Vec<Message> {
    let content = Arc::new(content);
    let ids = 0..count;
    ids.map(|id| message(id, &format!("user-{id}@example.com"), &content))
        .collect()
}

fn sent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Sent { .. })
}

async fn only_mail(smtp: &Smtp) -> ReceivedMail {
    let mut mails = smtp.mails().await;
    assert_eq!(mails.len(), 1);
    mails.remove(0)
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_meant() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    let mut content = content();
    content.attachments = vec![Attachment {
        file_name: "Übersicht\r\nX: \"1\".csv".to_owned(),
        media_type: "text/csv".to_owned(),
        content: b"a;b\n.\n".to_vec(),
    }];
    let outcomes = email.send_all(&messages(1, content)).await;
    let [
        Outcome::Sent {
            answer: Some(answer),
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(answer, "250 2.0.0 accepted as 1");

    let mail = only_mail(&smtp).await;
    assert_eq!(
        mail.envelope,
        json!({ "from": "pulse@example.com", "to": ["user-0@example.com"] })
    );
    assert_eq!(
        mail.from,
        json!([{ "name": "SmartPulse Überwachung", "address": "pulse@example.com" }])
    );
    assert_eq!(
        mail.to,
        json!([{ "name": "Jürgen \"Jo\" Weiß, Dr. Bcc: eve@example.com", "address": "user-0@example.com" }])
    );
    assert_eq!(mail.subject, "Kritisch: Weniger Wind in Gößnitz 🌬");
    assert_eq!(mail.message_id, "<delivery-0.1767323045@example.com>");
    assert!(
        mail.text
            .contains("12,5 MWh weniger.\n.\nMehr dazu später.\n"),
        "{}",
        mail.text
    );
    assert!(
        mail.text
            .contains("https://pulse.example.com/app/units/1\n"),
        "{}",
        mail.text
    );
    assert!(
        mail.html
            .contains("12,5 MWh weniger.<br />.<br />Mehr dazu später."),
        "{}",
        mail.html
    );
    assert!(mail.raw.is_ascii());

    let header = |name: &str| mail.headers[name].as_str().unwrap_or_default();
    assert_eq!(header("reply-to"), "control@example.com");
    assert_eq!(header("auto-submitted"), "auto-generated");
    assert_eq!(
        header("list-unsubscribe-post"),
        "List-Unsubscribe=One-Click"
    );
    assert_eq!((header("importance"), header("x-priority")), ("high", "1"));
    assert_eq!((header("bcc"), header("x")), ("", ""));
    assert!(!header("date").is_empty());
    let token = header("list-unsubscribe")
        .strip_prefix("<https://pulse.example.com/app/unsubscribe?token=")
        .and_then(|rest| rest.strip_suffix('>'))
        .unwrap();
    let expected = ("user-0".to_owned(), "alert".to_owned());
    assert_eq!(UnsubscribeLink::new(KEY).verify(token), Some(expected));
    assert!(mail.text.contains(token));

    assert_eq!(
        mail.attachments,
        [
            json!({ "fileName": "Übersicht X: \"1\".csv", "mediaType": "text/csv", "content": "YTtiCi4K" })
        ]
    );
    assert!(
        header("content-type").starts_with("multipart/mixed"),
        "{}",
        header("content-type")
    );
}

#[tokio::test]
async fn a_lesser_mail_has_two_parts_and_no_haste() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    let content = Content {
        severity: Severity::Warning,
        ..content()
    };
    assert!(email.send_all(&messages(1, content)).await.iter().all(sent));
    let mail = only_mail(&smtp).await;
    let kind = mail.headers["content-type"].as_str().unwrap();
    assert!(kind.starts_with("multipart/alternative"), "{kind}");
    assert!(mail.headers.get("importance").is_none());
}

#[tokio::test]
async fn each_message_has_the_outcome_of_its_own() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    let answers = [
        ("busy", "rcpt", 451, "4.2.1 try later"),
        ("gone", "rcpt", 550, "5.1.1 no such mailbox"),
        ("blocked", "rcpt", 550, "5.7.1 not here"),
        ("grey", "content", 451, "4.7.1 greylisted"),
        ("spam", "content", 554, "5.7.1 spam"),
    ];
    for (name, at, code, text) in answers {
        let address = format!("{name}@example.com");
        let behaviour = json!({ "at": at, "address": address, "code": code, "message": text });
        smtp.behave(behaviour).await;
    }
    let content = Arc::new(content());
    let names = [
        "ok-1",
        "busy",
        "gone",
        "ok-2",
        "blocked",
        "grey",
        "spam",
        "ok-3",
        "no address",
        "jürgen",
        "ok-4",
    ];
    let addressed = |(id, name)| message(id, &format!("{name}@example.com"), &content);
    let messages: Vec<_> = (0..).zip(names).map(addressed).collect();
    let outcomes = email.send_all(&messages).await;
    let kinds: Vec<_> = outcomes.iter().map(kind).collect();
    assert_eq!(
        kinds,
        [
            "sent", "failed", "gone", "sent", "rejected", "failed", "rejected", "sent", "rejected",
            "sent", "sent"
        ],
        "{outcomes:?}"
    );
    let gone = Outcome::Gone {
        reason: "550 5.1.1 no such mailbox".to_owned(),
    };
    assert_eq!(outcomes[2], gone);
    // None of it cost a connection.
    assert_eq!(smtp.connections().await, 2);
    assert_eq!(smtp.mails().await.len(), 5);
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent { .. } => "sent",
        Outcome::Failed { .. } | Outcome::Postponed { .. } => "failed",
        Outcome::Rejected { .. } => "rejected",
        Outcome::Gone { .. } => "gone",
        Outcome::Unknown { .. } => "unknown",
    }
}

#[tokio::test]
async fn only_after_the_content_is_the_outcome_unknown() {
    let smtp = Smtp::start(&[]);
    let email = email(EmailSettings {
        timeout: Duration::from_millis(200),
        ..settings(&smtp.url())
    });
    for (name, at, fault) in [
        ("a", "content", json!({ "drop": true })),
        ("b", "content", json!({ "delay": 60_000 })),
        ("c", "rcpt", json!({ "drop": true })),
        ("d", "rcpt", json!({ "delay": 60_000 })),
        (
            "e",
            "content",
            json!({ "code": 354, "message": "and now?" }),
        ),
    ] {
        let mut behaviour = fault;
        behaviour["at"] = at.into();
        behaviour["address"] = format!("{name}@example.com").into();
        smtp.behave(behaviour).await;
    }
    let content = Arc::new(content());
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let addressed = |(id, name)| message(id, &format!("{name}@example.com"), &content);
    let messages: Vec<_> = (0..).zip(names).map(addressed).collect();
    let outcomes = email.send_all(&messages).await;
    let kinds: Vec<_> = outcomes.iter().map(kind).collect();
    let expected = [
        "unknown", "unknown", "failed", "failed", "unknown", "sent", "sent",
    ];
    assert_eq!(kinds, expected, "{outcomes:?}");
}

#[tokio::test]
async fn connections_are_kept_and_those_that_broke_are_replaced() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    for _ in 0..3 {
        assert!(
            email
                .send_all(&messages(10, content()))
                .await
                .iter()
                .all(sent)
        );
    }
    assert_eq!(smtp.connections().await, 2);

    smtp.break_connections().await;
    assert!(
        email
            .send_all(&messages(10, content()))
            .await
            .iter()
            .all(sent)
    );
    assert_eq!(smtp.connections().await, 4);

    // A server that has enough of a connection says so before it closes it.
    let closing = json!({ "at": "mail", "code": 421, "message": "4.7.0 enough", "times": 1 });
    smtp.behave(closing).await;
    assert!(
        email
            .send_all(&messages(10, content()))
            .await
            .iter()
            .all(sent)
    );
    assert_eq!(smtp.mails().await.len(), 50, "none twice");
    email.close().await;
}

#[tokio::test]
async fn lanes_take_over_from_one_that_gets_no_connection() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    let refused = json!({ "at": "connect", "code": 421, "message": "too many", "times": 1 });
    smtp.behave(refused).await;
    assert!(
        email
            .send_all(&messages(10, content()))
            .await
            .iter()
            .all(sent)
    );
    assert_eq!(smtp.connections().await, 2);
}

#[tokio::test]
async fn without_a_server_all_fails_at_once() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&smtp.url()));
    email.verify().await.unwrap();
    email.verify().await.unwrap();
    assert_eq!(smtp.connections().await, 1);
    drop(smtp);
    assert!(matches!(email.verify().await, Err(OpenError::Smtp(_))));
    let outcomes = email.send_all(&messages(20, content())).await;
    assert!(
        outcomes.iter().all(|outcome| kind(outcome) == "failed"),
        "{outcomes:?}"
    );
    let Outcome::Failed { reason, .. } = &outcomes[0] else {
        panic!("{outcomes:?}");
    };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_forever() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let email = email(EmailSettings {
        timeout: Duration::from_millis(100),
        ..settings(&format!("smtp://{}", silent.local_addr().unwrap()))
    });
    assert!(matches!(email.verify().await, Err(OpenError::TimedOut(_))));
    let outcomes = email.send_all(&messages(20, content())).await;
    assert!(
        outcomes.iter().all(|outcome| kind(outcome) == "failed"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn connections_are_encrypted_and_logged_in() {
    let authorities = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp/tls/ca.pem");
    let authorities = std::fs::read_to_string(authorities).unwrap();
    for (flag, scheme, option) in [
        ("--starttls", "smtp", "?tls=required"),
        ("--smtps", "smtps", ""),
    ] {
        let smtp = Smtp::start(&[flag, "--auth", "ada:p@ss"]);
        let at = |user: &str| format!("{scheme}://{user}@localhost:{}{option}", smtp.port());
        let trusting = |url: &str| EmailSettings {
            authorities: Some(authorities.clone()),
            ..settings(url)
        };
        let good = email(trusting(&at("ada:p%40ss")));
        assert!(
            good.send_all(&messages(3, content()))
                .await
                .iter()
                .all(sent),
            "{flag}"
        );

        let failing = [
            (trusting(&at("ada:wrong")), "wrong password"),
            (settings(&at("ada:p%40ss")), "UnknownIssuer"),
        ];
        for (settings, expected) in failing {
            let outcomes = email(settings).send_all(&messages(1, content())).await;
            let [Outcome::Failed { reason, .. }] = &outcomes[..] else {
                panic!("{outcomes:?}");
            };
            assert!(reason.contains(expected), "{reason}");
        }
        assert_eq!(smtp.mails().await.len(), 3);
    }
}

#[tokio::test]
async fn nothing_is_sent_in_the_open_where_encryption_is_required() {
    let smtp = Smtp::start(&[]);
    let email = email(settings(&format!("{}?tls=required", smtp.url())));
    let outcomes = email.send_all(&messages(1, content())).await;
    assert!(
        matches!(outcomes[..], [Outcome::Failed { .. }]),
        "{outcomes:?}"
    );
    assert!(smtp.mails().await.is_empty());
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let fails = |settings| Email::new(settings, Arc::new(Templates::load(None).unwrap())).err();
    let good = settings("smtp://localhost");
    assert!(matches!(
        fails(settings("ftp://localhost")),
        Some(EmailError::SmtpUrl(_))
    ));
    let none = EmailSettings {
        connections: 0,
        ..good.clone()
    };
    assert!(matches!(fails(none), Some(EmailError::NoConnections)));
    let authorities = Some("no certificate".to_owned());
    let wrong = EmailSettings {
        authorities,
        ..good.clone()
    };
    assert!(matches!(fails(wrong), Some(EmailError::Authorities)));
    let secret = EmailSettings {
        smtp_url: SmtpUrl::new("smtp://ada:geheim@localhost"),
        ..good
    };
    let printed = format!("{secret:?}");
    assert!(
        !printed.contains("geheim") && !printed.contains("7, 7"),
        "{printed}"
    );
}
