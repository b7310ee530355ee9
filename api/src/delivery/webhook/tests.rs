//! Against a receiver of this machine, which verifies with the scheme's own crate.

use std::sync::Arc;
use std::time::Duration;

use domain::notification::{Addressee, Channel, Endpoint, Severity};
use serde_json::Value;
use time::macros::datetime;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::delivery::breaker::BreakerSettings;
use crate::delivery::outbound::OutboundSettings;

fn webhook(allow_private: bool) -> Webhook {
    let outbound = Outbound::new(&OutboundSettings {
        allow_private,
        connect_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
    })
    .unwrap();
    let breaker = Breaker::new(BreakerSettings {
        failures: 100,
        cool_down: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        hosts: 10,
    });
    Webhook::new(outbound, breaker)
}

fn message(address: String, secret: Value) -> Message {
    Message {
        delivery_id: 9,
        attempt: 1,
        content: Arc::new(Content {
            notification_id: 42,
            title: "Forecast revised".to_owned(),
            body: "−12.5 MWh".to_owned(),
            severity: Severity::Warning,
            category: "alert".to_owned(),
            data: Some(json!({"unitId": "7"})),
            link: None,
            template: None,
            variables: None,
            attachments: Vec::new(),
            created_at: datetime!(2026-03-29 00:15 UTC),
            expires_at: Some(datetime!(2126-03-29 00:15 UTC)),
        }),
        addressee: Addressee {
            user_key: "ada".to_owned(),
            name: "Ada".to_owned(),
            locale: None,
            time_zone: "UTC".to_owned(),
        },
        endpoint: Endpoint {
            id: 1,
            channel: Channel::Webhook,
            address,
            secret,
        },
    }
}

async fn receiver(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

#[tokio::test]
async fn a_receiver_verifies_with_the_old_and_the_new_secret() {
    let server = receiver(ResponseTemplate::new(204)).await;
    let (old, new, other) = (generate_secret(), generate_secret(), generate_secret());
    let message = message(
        format!("{}/hook", server.uri()),
        json!({"secrets": [new, old]}),
    );
    for _ in 0..2 {
        let outcome = webhook(true).send(&message).await;
        assert!(matches!(outcome, Outcome::Sent { .. }), "{outcome:?}");
    }
    let requests = server.received_requests().await.unwrap();
    let [first, second] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert_eq!(first.body, second.body);
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
    assert_eq!(first.headers["webhook-id"], "msg_9");
    assert_eq!(first.headers["content-type"], "application/json");
    for (secret, known) in [(old, true), (new, true), (other, false)] {
        let verifier = standardwebhooks::Webhook::new(&secret).unwrap();
        assert_eq!(verifier.verify(&first.body, &first.headers).is_ok(), known);
        assert!(verifier.verify(b"{}", &first.headers).is_err());
    }
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    let expect = json!({
        "type": "notification.sent",
        "timestamp": "2026-03-29T00:15:00Z",
        "data": {
            "id": "notification:42",
            "userKey": "ada",
            "title": "Forecast revised",
            "body": "−12.5 MWh",
            "severity": "WARNING",
            "category": "alert",
            "link": null,
            "data": {"unitId": "7"},
            "createdAt": "2026-03-29T00:15:00Z",
            "expiresAt": "2126-03-29T00:15:00Z",
        },
    });
    assert_eq!(body, expect);
}

#[tokio::test]
async fn only_success_and_410_are_final() {
    type Expect = fn(&Outcome) -> bool;
    let sent: Expect = |outcome| matches!(outcome, Outcome::Sent { .. });
    let gone: Expect = |outcome| matches!(outcome, Outcome::Gone { .. });
    let failed: Expect = |outcome| matches!(outcome, Outcome::Failed { retry_after: Some(wait), .. } if wait.as_secs() == 7);
    let webhook = webhook(true);
    for (status, expect) in [
        (200, sent),
        (202, sent),
        (204, sent),
        (301, failed),
        (307, failed),
        (400, failed),
        (401, failed),
        (404, failed),
        (408, failed),
        (410, gone),
        (429, failed),
        (500, failed),
        (504, failed),
    ] {
        let answer = ResponseTemplate::new(status)
            .insert_header("retry-after", "7")
            .insert_header("location", "/elsewhere");
        let server = receiver(answer).await;
        let message = message(server.uri(), json!({"secrets": [generate_secret()]}));
        let outcome = webhook.send(&message).await;
        assert!(expect(&outcome), "{status}: {outcome:?}");
        assert_eq!(
            server.received_requests().await.unwrap().len(),
            1,
            "{status}"
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_unsigned_or_to_an_internal_host() {
    let server = receiver(ResponseTemplate::new(204)).await;
    for secret in [
        json!(null),
        json!({"secrets": []}),
        json!({"secrets": ["whsec_short"]}),
    ] {
        let outcome = webhook(true).send(&message(server.uri(), secret)).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    }
    let internal = message(server.uri(), json!({"secrets": [generate_secret()]}));
    let outcome = webhook(false).send(&internal).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    assert!(server.received_requests().await.unwrap().is_empty());
}
