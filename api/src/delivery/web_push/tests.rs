//! Against a push service of this machine and a browser that reads what arrives.
//! The browser's half is written here from the RFCs, not with the library that the
//! server encrypts with.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domain::notification::{Addressee, Channel, Endpoint};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::elliptic_curve::rand_core::OsRng;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{PublicKey, SecretKey, ecdh};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use serde_json::Value;
use wiremock::matchers::{header, method};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::delivery::breaker::BreakerSettings;
use crate::delivery::outbound::OutboundSettings;

/// A browser with its subscription.
struct Browser {
    key: SecretKey,
    auth: [u8; 16],
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    prk.expand(info, Length(N)).unwrap().fill(&mut out).unwrap();
    out
}

impl Browser {
    fn new() -> Self {
        Self {
            key: SecretKey::random(&mut OsRng),
            auth: *b"0123456789abcdef",
        }
    }

    fn point(&self) -> Vec<u8> {
        self.key
            .public_key()
            .to_encoded_point(false)
            .as_bytes()
            .to_vec()
    }

    fn secret(&self) -> Value {
        json!({"p256dh": BASE64.encode(self.point()), "auth": BASE64.encode(self.auth)})
    }

    /// RFC 8291, section 3, over RFC 8188, section 2.
    fn decrypt(&self, body: &[u8]) -> Vec<u8> {
        let (salt, rest) = body.split_at(16);
        let (record_size, rest) = rest.split_at(4);
        assert!(u32::from_be_bytes(record_size.try_into().unwrap()) >= 18);
        assert_eq!(rest[0], 65);
        let (server_point, record) = rest[1..].split_at(65);
        let server = PublicKey::from_sec1_bytes(server_point).unwrap();
        let shared = ecdh::diffie_hellman(self.key.to_nonzero_scalar(), server.as_affine());
        let prk = Salt::new(HKDF_SHA256, &self.auth).extract(shared.raw_secret_bytes());
        let ikm: [u8; 32] = expand(&prk, &[b"WebPush: info\0", &self.point(), server_point]);
        let prk = Salt::new(HKDF_SHA256, salt).extract(&ikm);
        let key: [u8; 16] = expand(&prk, &[b"Content-Encoding: aes128gcm\0"]);
        let nonce: [u8; 12] = expand(&prk, &[b"Content-Encoding: nonce\0"]);
        let mut record = record.to_vec();
        let plain = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap())
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut record,
            )
            .unwrap();
        let end = plain.iter().rposition(|byte| *byte != 0).unwrap();
        assert_eq!(plain[end], 2, "the last record ends with 2");
        plain[..end].to_vec()
    }
}

fn web_push(breaker: Breaker) -> WebPush {
    let outbound = Outbound::new(&OutboundSettings {
        allow_private: true,
        connect_timeout: Duration::from_secs(60),
        timeout: Duration::from_secs(60),
    })
    .unwrap();
    let settings = WebPushSettings {
        private_key: generate_key(),
        subject: "mailto:ops@example.com".to_owned(),
    };
    WebPush::new(&settings, outbound, breaker).unwrap()
}

fn breaker() -> Breaker {
    Breaker::new(BreakerSettings {
        failures: 100,
        cool_down: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        hosts: 10,
    })
}

fn content() -> Content {
    Content {
        notification_id: 42,
        title: "Forecast revised".to_owned(),
        body: "Unit Nord 1: −12.5 MWh until 18:00".to_owned(),
        severity: Severity::Critical,
        category: "alert".to_owned(),
        data: Some(json!({"unitId": "7"})),
        link: Some("/units/7".to_owned()),
        template: None,
        variables: None,
        attachments: Vec::new(),
        created_at: OffsetDateTime::now_utc(),
        expires_at: None,
    }
}

fn message(content: Content, address: String, secret: Value) -> Message {
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
            channel: Channel::WebPush,
            address,
            secret,
        },
    }
}

async fn service(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(header("content-encoding", "aes128gcm"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

fn header_of<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).unwrap().to_str().unwrap()
}

/// What a push service does with `Authorization`: RFC 8292, section 4.2.
fn verify(authorization: &str, public_key: &str, origin: &str) {
    let (token, key) = authorization
        .strip_prefix("vapid t=")
        .and_then(|rest| rest.split_once(", k="))
        .unwrap();
    assert_eq!(key, public_key);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let parse =
        |part: &str| -> Value { serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap() };
    assert_eq!(parse(header), json!({"typ": "JWT", "alg": "ES256"}));
    let claims = parse(claims);
    assert_eq!(claims["aud"], origin);
    assert_eq!(claims["sub"], "mailto:ops@example.com");
    let left = claims["exp"].as_i64().unwrap() - OffsetDateTime::now_utc().unix_timestamp();
    assert!((1..=86_400).contains(&left), "{left}");
    VerifyingKey::from_sec1_bytes(&BASE64.decode(key).unwrap())
        .unwrap()
        .verify(
            signed.as_bytes(),
            &Signature::from_slice(&BASE64.decode(signature).unwrap()).unwrap(),
        )
        .unwrap();
}

#[tokio::test]
async fn a_browser_reads_what_was_sent() {
    let server = service(ResponseTemplate::new(201)).await;
    let (browser, web_push) = (Browser::new(), web_push(breaker()));
    let address = format!("{}/push/abc", server.uri());
    let mut content = content();
    content.expires_at = Some(OffsetDateTime::now_utc() + Duration::from_secs(600));
    let message = message(content, address, browser.secret());
    for _ in 0..2 {
        let outcome = web_push.send(&message).await;
        assert!(matches!(outcome, Outcome::Sent { .. }), "{outcome:?}");
    }
    let requests = server.received_requests().await.unwrap();
    let [first, second] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    verify(
        header_of(first, "authorization"),
        web_push.public_key(),
        &server.uri(),
    );
    assert_eq!(
        header_of(first, "authorization"),
        header_of(second, "authorization")
    );
    assert_eq!(header_of(first, "topic"), header_of(second, "topic"));
    assert_eq!(header_of(first, "urgency"), "high");
    let ttl: u64 = header_of(first, "ttl").parse().unwrap();
    assert!((590..=600).contains(&ttl), "{ttl}");
    assert_ne!(first.body, second.body, "salt and key are new for each");
    let read: Value = serde_json::from_slice(&browser.decrypt(&first.body)).unwrap();
    let expect = json!({
        "id": "notification:42",
        "title": "Forecast revised",
        "body": "Unit Nord 1: −12.5 MWh until 18:00",
        "severity": "CRITICAL",
        "category": "alert",
        "link": "/units/7",
        "data": {"unitId": "7"},
        "tag": header_of(first, "topic"),
    });
    assert_eq!(read, expect);
}

/// Appendix A of RFC 8291: what is encrypted there, the browser here reads. It vouches
/// for the browser of the other tests.
#[test]
fn the_browser_reads_the_example_of_the_standard() {
    let browser = Browser {
        key: SecretKey::from_slice(
            &BASE64
                .decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
                .unwrap(),
        )
        .unwrap(),
        auth: BASE64
            .decode("BTBZMqHH6r4Tts7J_aSIgg")
            .unwrap()
            .try_into()
            .unwrap(),
    };
    let body = BASE64
        .decode(concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml",
            "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT",
            "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        ))
        .unwrap();
    assert_eq!(
        browser.decrypt(&body),
        b"When I grow up, I want to be a watermelon"
    );
}

#[tokio::test]
async fn what_is_too_long_is_shortened_to_what_every_service_takes() {
    let server = service(ResponseTemplate::new(201)).await;
    let browser = Browser::new();
    let mut content = content();
    content.body = "Ünit\n".repeat(2_000);
    content.data = Some(json!({"long": "x".repeat(5_000)}));
    let message = message(content, server.uri(), browser.secret());
    let outcome = web_push(breaker()).send(&message).await;
    assert!(matches!(outcome, Outcome::Sent { .. }), "{outcome:?}");
    let body = &server.received_requests().await.unwrap()[0].body;
    assert!(body.len() <= 4096, "{}", body.len());
    let read: Value = serde_json::from_slice(&browser.decrypt(body)).unwrap();
    assert!(read["body"].as_str().unwrap().ends_with('…'));
    assert_eq!(
        (&read["data"], &read["title"]),
        (&Value::Null, &json!("Forecast revised"))
    );
}

#[tokio::test]
async fn each_status_has_its_outcome() {
    type Expect = fn(&Outcome) -> bool;
    let sent: Expect = |outcome| matches!(outcome, Outcome::Sent { .. });
    let gone: Expect = |outcome| matches!(outcome, Outcome::Gone { .. });
    let rejected: Expect = |outcome| matches!(outcome, Outcome::Rejected { .. });
    let failed: Expect = |outcome| matches!(outcome, Outcome::Failed { retry_after: Some(wait), .. } if wait.as_secs() == 7);
    let (browser, web_push) = (Browser::new(), web_push(breaker()));
    for (status, expect) in [
        (200, sent),
        (201, sent),
        (202, sent),
        (204, sent),
        (302, failed),
        (400, rejected),
        (401, failed),
        (403, failed),
        (404, gone),
        (408, failed),
        (410, gone),
        (413, rejected),
        (429, failed),
        (500, failed),
        (503, failed),
    ] {
        let answer = ResponseTemplate::new(status)
            .insert_header("retry-after", "7")
            .insert_header("location", "/elsewhere");
        let server = service(answer).await;
        let message = message(content(), server.uri(), browser.secret());
        let outcome = web_push.send(&message).await;
        assert!(expect(&outcome), "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for status in [401, 403] {
        let server = MockServer::start().await;
        Mock::given(header("authorization", "vapid t=stale"))
            .respond_with(ResponseTemplate::new(status))
            .with_priority(1)
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(201))
            .mount(&server)
            .await;
        let (browser, web_push) = (Browser::new(), web_push(breaker()));
        let service = Url::parse(&server.uri()).unwrap();
        web_push
            .vapid
            .keep(&service, HeaderValue::from_static("vapid t=stale"));
        let message = message(content(), server.uri(), browser.secret());
        for _ in 0..2 {
            let outcome = web_push.send(&message).await;
            assert!(
                matches!(outcome, Outcome::Sent { .. }),
                "{status}: {outcome:?}"
            );
        }
        let requests = server.received_requests().await.unwrap();
        let [_, second, third] = requests.as_slice() else {
            panic!("{status}: {requests:?}");
        };
        let fresh = header_of(second, "authorization");
        verify(fresh, web_push.public_key(), &server.uri());
        assert_eq!(header_of(third, "authorization"), fresh);
    }
}

#[tokio::test]
async fn a_refused_server_tries_each_message_twice_and_then_later() {
    for status in [401, 403] {
        let server = service(ResponseTemplate::new(status)).await;
        let (browser, web_push) = (Browser::new(), web_push(breaker()));
        let message = message(content(), server.uri(), browser.secret());
        let outcome = web_push.send(&message).await;
        assert!(
            matches!(outcome, Outcome::Failed { .. }),
            "{status}: {outcome:?}"
        );
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests.len(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_message_without_keys_or_past_its_time_is_not_sent() {
    let server = service(ResponseTemplate::new(201)).await;
    let (browser, web_push) = (Browser::new(), web_push(breaker()));
    let mut expired = content();
    expired.expires_at = Some(OffsetDateTime::now_utc() - Duration::from_secs(1));
    for message in [
        message(expired, server.uri(), browser.secret()),
        message(content(), server.uri(), Value::Null),
        message(
            content(),
            server.uri(),
            json!({"p256dh": "AAAA", "auth": "AAAA"}),
        ),
        message(content(), "nowhere".to_owned(), browser.secret()),
    ] {
        let outcome = web_push.send(&message).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_subscription_is_checked_when_it_is_registered() {
    let web_push = web_push(breaker());
    let browser = Browser::new();
    let (p256dh, auth) = (BASE64.encode(browser.point()), BASE64.encode(browser.auth));
    let check = |endpoint: &'static str, p256dh: String, auth: String| {
        let web_push = &web_push;
        async move { web_push.check_subscription(endpoint, &p256dh, &auth).await }
    };
    let here = "http://localhost/push";
    check(here, p256dh.clone(), auth.clone()).await.unwrap();
    let no_key = check(here, "AAAA".to_owned(), auth.clone()).await;
    assert!(matches!(no_key, Err(SubscriptionError::Key)));
    let no_auth = check(here, p256dh.clone(), "AAAA".to_owned()).await;
    assert!(matches!(no_auth, Err(SubscriptionError::Auth)));
    let elsewhere = check("https://169.254.169.254/", p256dh, auth).await;
    assert!(matches!(elsewhere, Err(SubscriptionError::Address(_))));
}
