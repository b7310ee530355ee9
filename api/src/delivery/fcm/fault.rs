//! What FCM's errors mean for a message and its device.

use std::time::Duration;

use domain::notification::Outcome;
use reqwest::StatusCode;
use serde::Deserialize;

use super::super::outbound::Answer;

/// What Google asks for when too much was sent and no time is named.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    error: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    message: String,
    details: Vec<Detail>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Detail {
    /// Of FCM's own error.
    error_code: Option<String>,
    /// Of `google.rpc.BadRequest`.
    field_violations: Vec<Violation>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Violation {
    field: String,
}

impl Status {
    fn of(answer: &Answer) -> Self {
        serde_json::from_slice::<Body>(&answer.body)
            .unwrap_or_default()
            .error
    }

    fn code(&self) -> &str {
        self.details
            .iter()
            .find_map(|detail| detail.error_code.as_deref())
            .unwrap_or_default()
    }

    /// Whether it is the device's token that is wrong, not the message: both come
    /// under the same code.
    fn is_about_token(&self) -> bool {
        self.message.contains("not a valid FCM registration token")
            || self
                .details
                .iter()
                .flat_map(|detail| &detail.field_violations)
                .any(|violation| violation.field == "message.token")
    }
}

/// Whether our access token was refused, rather than what the app's owner has
/// deposited for Apple, which comes under the same status.
pub(super) fn is_access_refused(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
        && Status::of(answer).code() != "THIRD_PARTY_AUTH_ERROR"
}

/// What an answer other than success means.
pub(super) fn outcome(answer: &Answer) -> Outcome {
    let status = Status::of(answer);
    match status.code() {
        "UNREGISTERED" => answer.gone(),
        // The token belongs to another project than our account. That may be the
        // token's fault or the account's, and taking it for the token's would, with
        // the wrong account's file, disable every device.
        "SENDER_ID_MISMATCH" => answer.rejected(),
        "INVALID_ARGUMENT" if status.is_about_token() => answer.gone(),
        "INVALID_ARGUMENT" => answer.rejected(),
        _ => match answer.status {
            StatusCode::BAD_REQUEST if status.is_about_token() => answer.gone(),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => answer.rejected(),
            StatusCode::TOO_MANY_REQUESTS => Outcome::Failed {
                reason: answer.summary(),
                retry_after: Some(answer.retry_after.unwrap_or(PAUSE)),
            },
            // Also 401, 403 and 404 without a code of FCM's: an account without the
            // right or a wrong project is mended by whoever runs the server, and says
            // nothing of the device.
            _ => answer.failed(),
        },
    }
}
