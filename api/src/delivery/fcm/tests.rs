//! Against a stand-in of Google's two services, with the answers of their
//! documentation.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domain::notification::{Addressee, Channel, Endpoint};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use wiremock::matchers::{body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::delivery::breaker::BreakerSettings;
use crate::delivery::outbound::OutboundSettings;

/// Made for these tests, and used nowhere else.
const TEST_KEY: &str = include_str!("test_key.pem");

fn account(token_uri: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": "smartpulse-test",
        "private_key_id": "key-1",
        "private_key": TEST_KEY,
        "client_email": "push@smartpulse-test.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
}

fn fcm(google: &MockServer) -> Fcm {
    let outbound = Outbound::new(&OutboundSettings {
        allow_private: true,
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
    let settings = FcmSettings {
        service_account: account(&format!("{}/token", google.uri())).to_string(),
        base_url: google.uri(),
    };
    Fcm::new(&settings, outbound, breaker).unwrap()
}

fn content() -> Content {
    Content {
        notification_id: 42,
        title: "Forecast revised".to_owned(),
        body: "−12.5 MWh".to_owned(),
        severity: Severity::Critical,
        category: "alert".to_owned(),
        data: Some(json!({"from": "unit", "count": 3})),
        link: Some("/units/7".to_owned()),
        template: None,
        variables: None,
        attachments: Vec::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        expires_at: None,
    }
}

fn message(content: Content) -> Message {
    Message {
        delivery_id: 9,
        attempt: 1,
        content: Arc::new(content),
        addressee: Addressee {
            user_key: "ada".to_owned(),
            name: "Ada".to_owned(),
            locale: None,
            time_zone: "UTC".to_owned(),
        },
        endpoint: Endpoint {
            id: 1,
            channel: Channel::Fcm,
            address: "device-token".to_owned(),
            secret: Value::Null,
        },
    }
}

/// Google, giving out the access tokens `token-1`, `token-2`, … in turn.
async fn google(lifetime: u64) -> MockServer {
    let server = MockServer::start().await;
    let given = std::sync::atomic::AtomicU32::new(0);
    Mock::given(method("POST"))
        .and(path("/token"))
        .and(body_string_contains(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer",
        ))
        .respond_with(move |_: &wiremock::Request| {
            let number = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            ResponseTemplate::new(200).set_body_json(json!({
                "access_token": format!("token-{number}"),
                "expires_in": lifetime,
                "token_type": "Bearer",
            }))
        })
        .mount(&server)
        .await;
    server
}

async fn answer_sends(google: &MockServer, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path("/v1/projects/smartpulse-test/messages:send"))
        .respond_with(answer)
        .mount(google)
        .await;
}

async fn requests(google: &MockServer, path: &str) -> Vec<wiremock::Request> {
    let mut requests = google.received_requests().await.unwrap();
    requests.retain(|request| request.url.path().ends_with(path));
    requests
}

fn taken() -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"name": "projects/smartpulse-test/messages/0:1"}))
}

#[tokio::test]
async fn a_message_is_sent_as_documented() {
    let google = google(3600).await;
    answer_sends(&google, taken()).await;
    let mut content = content();
    content.expires_at = Some(OffsetDateTime::now_utc() + Duration::from_secs(601));
    let Outcome::Sent { answer } = fcm(&google).send(&message(content)).await else {
        panic!("not sent");
    };
    assert!(
        answer
            .unwrap()
            .contains("projects/smartpulse-test/messages/0:1")
    );
    let sent = &requests(&google, "messages:send").await[0];
    assert_eq!(sent.headers["authorization"], "Bearer token-1");
    let mut body: Value = serde_json::from_slice(&sent.body).unwrap();
    let ttl = body["message"]["android"]["ttl"].take();
    assert!(ttl == "600s" || ttl == "601s", "{ttl}");
    let expiration = body["message"]["apns"]["headers"]["apns-expiration"].take();
    let expiration: i64 = expiration.as_str().unwrap().parse().unwrap();
    assert!(expiration > OffsetDateTime::now_utc().unix_timestamp() + 500);
    let expect = json!({"message": {
        "token": "device-token",
        "notification": {"title": "Forecast revised", "body": "−12.5 MWh"},
        "data": {
            "id": "notification:42",
            "severity": "CRITICAL",
            "category": "alert",
            "link": "/units/7",
            "data": r#"{"count":3,"from":"unit"}"#,
        },
        "android": {
            "priority": "HIGH",
            "ttl": null,
            "collapse_key": "notification-42",
            "notification": {"tag": "notification-42"},
        },
        "apns": {"headers": {
            "apns-priority": "10",
            "apns-expiration": null,
            "apns-collapse-id": "notification-42",
        }},
    }});
    assert_eq!(body, expect);
}

#[tokio::test]
async fn the_grant_is_signed_by_the_account() {
    let google = google(3600).await;
    answer_sends(&google, taken()).await;
    let fcm = fcm(&google);
    fcm.send(&message(content())).await;
    let body = requests(&google, "/token").await.remove(0).body;
    let body = String::from_utf8(body).unwrap();
    let grant = body.rsplit_once("assertion=").unwrap().1;
    let (signed, signature) = grant.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let parse =
        |part: &str| -> Value { serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap() };
    assert_eq!(
        parse(header),
        json!({"typ": "JWT", "alg": "RS256", "kid": "key-1"})
    );
    let claims = parse(claims);
    assert_eq!(
        claims["iss"],
        "push@smartpulse-test.iam.gserviceaccount.com"
    );
    assert_eq!(claims["aud"], format!("{}/token", google.uri()));
    assert_eq!(
        claims["scope"],
        "https://www.googleapis.com/auth/firebase.messaging"
    );
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        3600
    );
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, fcm.account.public_key())
        .verify(signed.as_bytes(), &BASE64.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn many_messages_share_one_token() {
    let google = google(3600).await;
    answer_sends(&google, taken()).await;
    let fcm = fcm(&google);
    let message = message(content());
    tokio::join!(fcm.send(&message), fcm.send(&message), fcm.send(&message));
    fcm.send(&message).await;
    assert_eq!(requests(&google, "/token").await.len(), 1);
    assert_eq!(requests(&google, "messages:send").await.len(), 4);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let google = google(0).await;
    answer_sends(&google, taken()).await;
    let fcm = fcm(&google);
    fcm.send(&message(content())).await;
    fcm.send(&message(content())).await;
    assert_eq!(requests(&google, "/token").await.len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let google = google(3600).await;
    Mock::given(header("authorization", "Bearer token-2"))
        .respond_with(taken())
        .mount(&google)
        .await;
    answer_sends(&google, ResponseTemplate::new(401)).await;
    let fcm = fcm(&google);
    let outcome = fcm.send(&message(content())).await;
    assert!(matches!(outcome, Outcome::Sent { .. }), "{outcome:?}");
    google.reset().await;
    answer_sends(&google, ResponseTemplate::new(401)).await;
    Mock::given(path("/token"))
        .respond_with(taken_token())
        .mount(&google)
        .await;
    let outcome = fcm.send(&message(content())).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!(requests(&google, "messages:send").await.len(), 2);
    assert_eq!(requests(&google, "/token").await.len(), 1);
}

fn taken_token() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"access_token": "other", "expires_in": 3600}))
}

#[tokio::test]
async fn a_refused_account_is_not_asked_about_again_at_once() {
    let google = MockServer::start().await;
    let refusal = json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
    Mock::given(path("/token"))
        .respond_with(ResponseTemplate::new(400).set_body_json(refusal))
        .mount(&google)
        .await;
    let fcm = fcm(&google);
    for _ in 0..3 {
        let outcome = fcm.send(&message(content())).await;
        let Outcome::Failed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("invalid_grant"), "{reason}");
        assert!(!reason.contains("assertion"), "{reason}");
    }
    assert_eq!(google.received_requests().await.unwrap().len(), 1);
}

#[derive(Debug, PartialEq)]
enum Kind {
    Gone,
    Rejected,
    Failed(Option<u64>),
}

#[tokio::test]
async fn each_documented_error_has_its_outcome() {
    let fcm_error = |code: &str| {
        json!([{
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
            "errorCode": code,
        }])
    };
    let bad_field = |field: &str| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": "Invalid value"}],
        }])
    };
    let bad_token = "The registration token is not a valid FCM registration token";
    for (status, message_text, details, retry_after, expect) in [
        (
            404,
            "Requested entity was not found.",
            fcm_error("UNREGISTERED"),
            None,
            Kind::Gone,
        ),
        (
            403,
            "SenderId mismatch",
            fcm_error("SENDER_ID_MISMATCH"),
            None,
            Kind::Rejected,
        ),
        (
            400,
            bad_token,
            fcm_error("INVALID_ARGUMENT"),
            None,
            Kind::Gone,
        ),
        (400, "Invalid", bad_field("message.token"), None, Kind::Gone),
        (
            400,
            "Message too big",
            fcm_error("INVALID_ARGUMENT"),
            None,
            Kind::Rejected,
        ),
        (
            400,
            "Invalid",
            bad_field("message.data[0].value"),
            None,
            Kind::Rejected,
        ),
        (
            429,
            "Quota",
            fcm_error("QUOTA_EXCEEDED"),
            Some("7"),
            Kind::Failed(Some(7)),
        ),
        (
            429,
            "Quota",
            fcm_error("QUOTA_EXCEEDED"),
            None,
            Kind::Failed(Some(60)),
        ),
        (
            503,
            "Down",
            fcm_error("UNAVAILABLE"),
            Some("7"),
            Kind::Failed(Some(7)),
        ),
        (500, "Oops", fcm_error("INTERNAL"), None, Kind::Failed(None)),
        (
            401,
            "APNs",
            fcm_error("THIRD_PARTY_AUTH_ERROR"),
            None,
            Kind::Failed(None),
        ),
        (
            403,
            "Permission denied",
            json!([]),
            None,
            Kind::Failed(None),
        ),
        (404, "No such project", json!([]), None, Kind::Failed(None)),
        (302, "Elsewhere", json!([]), None, Kind::Failed(None)),
    ] {
        let google = google(3600).await;
        let error = json!({"error": {"code": status, "message": message_text, "details": details}});
        let mut answer = ResponseTemplate::new(status).set_body_json(&error);
        if let Some(retry_after) = retry_after {
            answer = answer.insert_header("retry-after", retry_after);
        }
        answer_sends(&google, answer).await;
        let kind = match fcm(&google).send(&message(content())).await {
            Outcome::Gone { .. } => Kind::Gone,
            Outcome::Rejected { .. } => Kind::Rejected,
            Outcome::Failed { retry_after, .. } => {
                Kind::Failed(retry_after.map(|wait| wait.as_secs()))
            }
            outcome => panic!("{error}: {outcome:?}"),
        };
        assert_eq!(kind, expect, "{error}");
        assert_eq!(requests(&google, "messages:send").await.len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_long_message_is_shortened_and_an_expired_one_not_sent() {
    let google = google(3600).await;
    answer_sends(&google, taken()).await;
    let fcm = fcm(&google);
    let mut long = content();
    long.body = "\"ä\"".repeat(3_000);
    fcm.send(&message(long)).await;
    let mut expired = content();
    expired.expires_at = Some(OffsetDateTime::UNIX_EPOCH);
    let outcome = fcm.send(&message(expired)).await;
    assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    let sent = requests(&google, "messages:send").await;
    assert_eq!(sent.len(), 1);
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    let message = &body["message"];
    let size = message["notification"].to_string().len() + message["data"].to_string().len();
    assert!(size <= 4096, "{size}");
    assert!(
        message["notification"]["body"]
            .as_str()
            .unwrap()
            .ends_with('…')
    );
}

#[test]
fn a_bad_account_is_told_without_its_secret() {
    let token_uri = "https://oauth2.googleapis.com/token";
    let error = Account::parse(r#"{"private_key": 1234567, "project_id": "secret"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not the JSON key file of a service account: see line 1, column 23"
    );
    let with = |name: &str, value: &str| {
        let mut account = account(token_uri);
        account[name] = value.into();
        Account::parse(&account.to_string()).unwrap_err()
    };
    assert!(matches!(with("project_id", "a/b"), AccountError::Project));
    assert!(matches!(with("project_id", ""), AccountError::Project));
    assert!(matches!(
        with("token_uri", "nowhere"),
        AccountError::TokenUri
    ));
    assert!(matches!(with("private_key", "secret"), AccountError::Key));
    let debug = format!(
        "{:?}",
        Account::parse(&account(token_uri).to_string()).unwrap()
    );
    assert!(
        debug.contains("smartpulse-test") && !debug.contains("BEGIN"),
        "{debug}"
    );
}
