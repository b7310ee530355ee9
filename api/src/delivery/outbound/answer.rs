//! What a host answered, cut down to what is worth keeping.

use std::time::{Duration, SystemTime};

use domain::notification::Outcome;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

/// How much of a body is read. What a host has to say about a notification is
/// short, and it must not fill our memory.
const BODY_LIMIT: usize = 4096;
/// A status has been given by then: a body that drips is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// No host may put us off for longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a host answered to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    /// The beginning of the body, as it came.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn read(mut response: Response) -> Self {
        let mut body = Vec::new();
        let reading = async {
            // The status says what came of it: a body that breaks off changes nothing.
            while let Ok(Some(chunk)) = response.chunk().await {
                let room = BODY_LIMIT - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == BODY_LIMIT {
                    break;
                }
            }
        };
        // Running out of time only means keeping less.
        let _ = tokio::time::timeout(BODY_TIMEOUT, reading).await;
        Self {
            status: response.status(),
            retry_after: retry_after(response.headers(), SystemTime::now()),
            body,
        }
    }

    /// Whether it is the host that is unwell, rather than our request. 429 does not
    /// say so: it limits one endpoint or account, and a host such as Google's or
    /// Slack's has many that are not to wait for it.
    pub(crate) fn is_host_failure(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT
    }

    /// Status and body on one line.
    pub(crate) fn summary(&self) -> String {
        let text = one_line(&self.body);
        if text.is_empty() {
            self.status.to_string()
        } else {
            format!("{}: {text}", self.status)
        }
    }

    pub(crate) fn sent(&self) -> Outcome {
        Outcome::Sent {
            answer: Some(self.summary()),
        }
    }

    pub(crate) fn failed(&self) -> Outcome {
        Outcome::Failed {
            reason: self.summary(),
            retry_after: self.retry_after,
        }
    }

    pub(crate) fn rejected(&self) -> Outcome {
        Outcome::Rejected {
            reason: self.summary(),
        }
    }

    pub(crate) fn gone(&self) -> Outcome {
        Outcome::Gone {
            reason: self.summary(),
        }
    }
}

/// A stranger's bytes as text that a log, a page and a database take: PostgreSQL
/// refuses a NUL, and a line break would forge a log line.
fn one_line(bytes: &[u8]) -> String {
    let mut line = String::new();
    for word in String::from_utf8_lossy(bytes)
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// How long the host asks to be left alone: in seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than a number holds still mean long.
        text.parse()
            .map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_a_day() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let check = |text: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            assert_eq!(
                retry_after(&headers, now),
                expect.map(Duration::from_secs),
                "{text}"
            );
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Wed, 21 Oct 2015 07:29:30 GMT", Some(90));
        check("Wed, 21 Oct 2015 07:27:00 GMT", Some(0));
        check("Thu, 21 Oct 2055 07:27:00 GMT", Some(86_400));
        check("86401", Some(86_400));
        check("99999999999999999999999", Some(86_400));
        check("-1", None);
        check("1.5", None);
        check("soon", None);
        check("", None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_strangers_text_becomes_one_harmless_line() {
        let check = |bytes: &[u8], expect: &str| assert_eq!(one_line(bytes), expect);
        check(b"", "");
        check(b" \r\n\t ", "");
        check(b"no\r\n\r\n  such\0key\x1b[31m", "no such key [31m");
        check("caf\u{e9} \u{85}x".as_bytes(), "caf\u{e9} x");
        check(b"\xff\xfeok", "\u{fffd}\u{fffd}ok");
    }
}
