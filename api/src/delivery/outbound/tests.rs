//! Against a server of this machine.

use reqwest::StatusCode;
use wiremock::matchers::{header, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::delivery::breaker::BreakerSettings;

fn outbound(allow_private: bool) -> Outbound {
    with_timeout(allow_private, Duration::from_secs(60))
}

fn with_timeout(allow_private: bool, timeout: Duration) -> Outbound {
    Outbound::new(&OutboundSettings {
        allow_private,
        connect_timeout: timeout,
        timeout,
    })
    .unwrap()
}

fn breaker() -> Breaker {
    Breaker::new(BreakerSettings {
        failures: 2,
        cool_down: Duration::from_secs(60),
        longest: Duration::from_secs(60),
        hosts: 10,
    })
}

async fn server(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

async fn post(outbound: &Outbound, address: &str) -> Result<Answer, NoAnswer> {
    outbound
        .post(&breaker(), address, HeaderMap::new(), b"body".to_vec())
        .await
}

#[tokio::test]
async fn a_body_is_posted_under_our_name() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(header("user-agent", USER_AGENT))
        .respond_with(ResponseTemplate::new(201).set_body_string("taken\n"))
        .expect(1)
        .mount(&server)
        .await;
    let answer = post(&outbound(true), &server.uri()).await.unwrap();
    assert_eq!(answer.summary(), "201 Created: taken");
    assert_eq!(server.received_requests().await.unwrap()[0].body, b"body");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_way() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(307).insert_header("location", "/elsewhere"))
        .expect(1)
        .mount(&server)
        .await;
    let answer = post(&outbound(true), &server.uri()).await.unwrap();
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for() {
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    let server = server(slow).await;
    let address = format!("{}/secret-path", server.uri());
    let hasty = with_timeout(true, Duration::from_secs(1));
    let outcome = Outcome::from(post(&hasty, &address).await.unwrap_err());
    let Outcome::Failed { reason, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.starts_with("no answer in time"), "{reason}");
    assert!(!reason.contains("secret-path"), "{reason}");
}

#[tokio::test]
async fn a_huge_answer_is_cut() {
    let server = server(ResponseTemplate::new(500).set_body_bytes(vec![b'x'; 5_000_000])).await;
    let answer = post(&outbound(true), &server.uri()).await.unwrap();
    assert_eq!(answer.body.len(), 4096);
}

#[tokio::test]
async fn nothing_is_sent_to_an_internal_host() {
    let server = server(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    // As an address, and as a name that leads to it only once it is looked up.
    let literal = post(&outbound(false), &format!("https://127.0.0.1:{port}/")).await;
    assert!(matches!(
        Outcome::from(literal.unwrap_err()),
        Outcome::Rejected { .. }
    ));
    let name = post(&outbound(false), &format!("https://localhost:{port}/")).await;
    let outcome = Outcome::from(name.unwrap_err());
    let Outcome::Failed { reason, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("not public"), "{reason}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_host_without_tls_or_without_a_server_fails() {
    let server = server(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    for address in [
        format!("https://127.0.0.1:{port}/"),
        "http://127.0.0.1:1/".to_owned(),
    ] {
        let outcome = Outcome::from(post(&outbound(true), &address).await.unwrap_err());
        let Outcome::Failed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.starts_with("no connection"), "{reason}");
    }
}

#[tokio::test]
async fn a_host_that_keeps_failing_is_left_alone() {
    let server = server(ResponseTemplate::new(503)).await;
    let (outbound, breaker, address) = (outbound(true), breaker(), server.uri());
    let post = || outbound.post(&breaker, &address, HeaderMap::new(), Vec::new());
    for _ in 0..2 {
        assert_eq!(
            post().await.unwrap().status,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }
    let outcome = Outcome::from(post().await.unwrap_err());
    assert!(
        matches!(&outcome, Outcome::Postponed { after, .. } if !after.is_zero()),
        "{outcome:?}"
    );
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
    assert_eq!(breaker.open_hosts(), 1);
}

#[tokio::test]
async fn only_what_the_host_cannot_do_is_its_failure() {
    for (status, expect) in [
        (200_u16, 0),
        (400, 0),
        (404, 0),
        (408, 1),
        (429, 0),
        (500, 1),
        (503, 1),
    ] {
        let server = server(ResponseTemplate::new(status)).await;
        let (outbound, breaker) = (outbound(true), breaker());
        for _ in 0..2 {
            let headers = HeaderMap::new();
            let answer = outbound
                .post(&breaker, &server.uri(), headers, Vec::new())
                .await;
            assert_eq!(answer.unwrap().status.as_u16(), status);
        }
        assert_eq!(breaker.open_hosts(), expect, "{status}");
    }
}

#[tokio::test]
async fn a_rate_limit_fails_one_message_and_leaves_the_host_open() {
    let limited = ResponseTemplate::new(429).insert_header("retry-after", "7");
    let server = server(limited).await;
    let (outbound, breaker) = (outbound(true), breaker());
    for _ in 0..5 {
        let headers = HeaderMap::new();
        let answer = outbound
            .post(&breaker, &server.uri(), headers, Vec::new())
            .await;
        let outcome = answer.unwrap().failed();
        assert!(
            matches!(&outcome, Outcome::Failed { retry_after: Some(wait), .. } if wait.as_secs() == 7),
            "{outcome:?}"
        );
    }
    assert_eq!(breaker.open_hosts(), 0);
}
