//! Sending: all or nothing.

use sea_orm::{ConnectionTrait, DbErr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::preference::fault_of_category;
use super::user::{fault_of_key, require_keys};
use super::{Attachment, Channel, NotificationError, Severity, publish};
use crate::change::{self, Receipt};
use crate::database::{Database, Transaction, again, instant, json_list, sql, texts};
use crate::{Violation, idempotency, json};

/// Whom a notification is for: everybody who is in any of these, once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Keys of users.
    pub users: Vec<String>,
    /// Keys of groups of users.
    pub groups: Vec<String>,
    /// Topics that users asked for; nobody need have.
    pub topics: Vec<String>,
}

/// Of one group a user gets no more over channels that leave the server than one
/// in an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Throttle {
    pub group_key: String,
    pub interval: Duration,
}

/// A notification to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct SendRequest {
    pub to: Target,
    pub title: String,
    pub body: String,
    pub severity: Severity,
    pub category: String,
    /// A JSON object.
    pub data: Option<serde_json::Value>,
    pub link: Option<String>,
    pub channels: Vec<Channel>,
    /// A mail template. That it exists and gets its variables is for the e-mail
    /// channel to say, before.
    pub template: Option<String>,
    /// A JSON object.
    pub variables: Option<serde_json::Value>,
    pub attachments: Vec<Attachment>,
    /// Nothing is seen of it before.
    pub not_before: Option<OffsetDateTime>,
    /// After this nobody needs it any more: it is withdrawn.
    pub expires_at: Option<OffsetDateTime>,
    pub throttle: Option<Throttle>,
    /// The same key and request within 24 hours are answered again, not sent again.
    pub idempotency_key: Option<String>,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub notification_id: i64,
    /// Users it is for.
    pub recipients: u64,
    pub receipt: Receipt,
}

/// What an idempotency key stands for.
#[derive(Serialize, Deserialize)]
struct Answer {
    notification_id: i64,
    recipients: u64,
}

const LONGEST_TITLE: usize = 200;
const LONGEST_BODY: usize = 10_000;
const LONGEST_LINK: usize = 2_000;
const MOST_JSON_BYTES: usize = 64 << 10;
const MOST_ATTACHMENTS: usize = 10;
const MOST_ATTACHED_BYTES: usize = 10 << 20;
const LATEST: Duration = Duration::days(366);

/// Sends a notification, as `sender`. It is there for its recipients when this
/// returns, unless it is to wait.
pub async fn send(
    db: &Database,
    sender: &str,
    request: &SendRequest,
    now: OffsetDateTime,
) -> Result<Sent, NotificationError> {
    again(|| async {
        let txn = db.begin().await?;
        match write_keyed(&txn, sender, request, now).await {
            Ok((notification_id, recipients)) => {
                let receipt = change::commit(txn).await?;
                Ok(Sent {
                    notification_id,
                    recipients,
                    receipt,
                })
            }
            Err(error) => {
                txn.rollback().await;
                Err(error)
            }
        }
    })
    .await
}

/// [`send`] inside a transaction, which is to be rolled back after an error.
/// Returns the notification's id.
pub async fn write(
    txn: &Transaction,
    sender: &str,
    request: &SendRequest,
    now: OffsetDateTime,
) -> Result<i64, NotificationError> {
    let (id, _) = write_keyed(txn, sender, request, now).await?;
    Ok(id)
}

async fn write_keyed(
    txn: &Transaction,
    sender: &str,
    request: &SendRequest,
    now: OffsetDateTime,
) -> Result<(i64, u64), NotificationError> {
    let fault = request
        .idempotency_key
        .as_deref()
        .and_then(idempotency::fault_of_key);
    NotificationError::check(fault.into_iter().collect())?;
    if let Some(key) = &request.idempotency_key {
        let print = fingerprint(request);
        if let Some(answered) = idempotency::claim::<Answer>(txn, sender, key, &print, now).await? {
            return Ok((answered.notification_id, answered.recipients));
        }
    }
    // Not before: what was answered once is answered again, although its time is over.
    check(request, now)?;
    let to = &request.to;
    require_keys(txn, "user_account", "user", &to.users, "to.users").await?;
    require_keys(txn, "user_group", "group", &to.groups, "to.groups").await?;
    let notification_id = insert(txn, sender, request, now).await?;
    let recipients = insert_recipients(txn, notification_id, to).await?;
    if request.not_before.is_none_or(|at| at <= now) {
        publish::publish(txn, notification_id, now).await?;
    }
    if let Some(key) = &request.idempotency_key {
        let answer = Answer {
            notification_id,
            recipients,
        };
        idempotency::remember(txn, sender, key, &answer).await?;
    }
    Ok((notification_id, recipients))
}

async fn insert(
    txn: &Transaction,
    sender: &str,
    request: &SendRequest,
    now: OffsetDateTime,
) -> Result<i64, DbErr> {
    let backend = txn.get_database_backend();
    let at = |time: Option<OffsetDateTime>| match time {
        Some(time) => instant(backend, time),
        None => match backend {
            sea_orm::DbBackend::Sqlite => None::<String>.into(),
            _ => None::<OffsetDateTime>.into(),
        },
    };
    let channels: Vec<&str> = request.channels.iter().map(|c| c.as_str()).collect();
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let throttle = request.throttle.as_ref();
    let row = txn
        .query_one_raw(sql(
            txn,
            "INSERT INTO notification (sender, title, body, severity, category, data, link, channels, template, \
                 variables, group_key, throttle_seconds, created_at, not_before, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING id",
            [
                sender.into(),
                request.title.clone().into(),
                request.body.clone().into(),
                request.severity.as_str().into(),
                request.category.clone().into(),
                json(&request.data).into(),
                request.link.clone().into(),
                json_list(&channels),
                request.template.clone().into(),
                json(&request.variables).into(),
                throttle.map(|t| t.group_key.clone()).into(),
                throttle.map(|t| t.interval.whole_seconds()).into(),
                instant(backend, now),
                at(request.not_before),
                at(request.expires_at),
            ],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a notification that was just written".into()))?;
    let id: i64 = row.try_get("", "id")?;
    for (ordinal, attachment) in (0_i16..).zip(&request.attachments) {
        txn.execute_raw(sql(
            txn,
            "INSERT INTO notification_attachment (notification_id, ordinal, file_name, media_type, content) \
             VALUES ($1, $2, $3, $4, $5)",
            [
                id.into(),
                ordinal.into(),
                attachment.file_name.clone().into(),
                attachment.media_type.clone().into(),
                attachment.content.clone().into(),
            ],
        ))
        .await?;
    }
    Ok(id)
}

/// One statement for however many they are.
async fn insert_recipients(
    txn: &Transaction,
    notification_id: i64,
    to: &Target,
) -> Result<u64, DbErr> {
    let backend = txn.get_database_backend();
    let written = txn
        .execute_raw(sql(
            txn,
            format!(
                "INSERT INTO notification_recipient (notification_id, user_id) \
                 SELECT $1, id FROM ( \
                     SELECT id FROM user_account WHERE key IN {users} \
                     UNION SELECT m.user_id FROM user_group_member m JOIN user_group g ON g.id = m.group_id \
                         WHERE g.key IN {groups} \
                     UNION SELECT user_id FROM topic_subscription WHERE topic IN {topics}) AS target ORDER BY id",
                users = texts(backend, "$2"),
                groups = texts(backend, "$3"),
                topics = texts(backend, "$4"),
            ),
            [
                notification_id.into(),
                json_list(&to.users),
                json_list(&to.groups),
                json_list(&to.topics),
            ],
        ))
        .await?;
    Ok(written.rows_affected())
}

/// The same for equal requests only.
fn fingerprint(request: &SendRequest) -> String {
    let SendRequest {
        to,
        title,
        body,
        severity,
        category,
        data,
        link,
        channels,
        template,
        variables,
        attachments,
        not_before,
        expires_at,
        throttle,
        idempotency_key: _,
    } = request;
    let attached: Vec<(&str, &str, String)> = attachments
        .iter()
        .map(|a| {
            let content = idempotency::hex(&Sha256::digest(&a.content));
            (a.file_name.as_str(), a.media_type.as_str(), content)
        })
        .collect();
    let nanos = |at: &Option<OffsetDateTime>| at.map(|at| at.unix_timestamp_nanos().to_string());
    let text = serde_json::to_string(&(
        (to, title, body, severity, category, data, link, channels),
        (template, variables, attached),
        (nanos(not_before), nanos(expires_at), throttle),
    ))
    .unwrap_or_else(|error| unreachable!("every request is JSON: {error}"));
    idempotency::hex(&Sha256::digest(text))
}

/// Every bad value of a request.
fn check(request: &SendRequest, now: OffsetDateTime) -> Result<(), NotificationError> {
    let mut violations = Vec::new();
    let mut wrong = |path: &str, message: String| violations.push(Violation::new(path, message));
    let to = &request.to;
    if to.users.is_empty() && to.groups.is_empty() && to.topics.is_empty() {
        wrong("to", "give users, groups or topics".into());
    }
    for (field, keys) in [
        ("users", &to.users),
        ("groups", &to.groups),
        ("topics", &to.topics),
    ] {
        for (i, key) in keys.iter().enumerate() {
            if let Some(fault) = fault_of_key(key) {
                wrong(&format!("to.{field}[{i}]"), fault.into());
            }
        }
    }
    let title = request.title.chars().count();
    if !(1..=LONGEST_TITLE).contains(&title) || request.title.contains(char::is_control) {
        wrong(
            "title",
            format!("a title is one line of 1 to {LONGEST_TITLE} characters"),
        );
    }
    if request.body.chars().count() > LONGEST_BODY || request.body.contains('\0') {
        wrong(
            "body",
            format!("a body has at most {LONGEST_BODY} characters"),
        );
    }
    if let Some(fault) = fault_of_category(&request.category) {
        wrong("category", fault.into());
    }
    for (path, value) in [("data", &request.data), ("variables", &request.variables)] {
        let Some(value) = value else { continue };
        let text = value.to_string();
        if !value.is_object() {
            wrong(path, "expected a JSON object".into());
        } else if text.len() > MOST_JSON_BYTES || text.contains("\\u0000") {
            wrong(
                path,
                format!("at most {MOST_JSON_BYTES} bytes of JSON, without NUL"),
            );
        } else {
            for fault in json::faults(path, value) {
                wrong(&fault.path, fault.message);
            }
        }
    }
    if let Some(link) = &request.link
        && !is_link(link)
    {
        wrong(
            "link",
            "a link is an http or https address, or a path that begins with one /".into(),
        );
    }
    if request.channels.is_empty() {
        wrong("channels", "give at least one channel".into());
    }
    check_attachments(&request.attachments, &mut wrong);
    if request.not_before.is_some_and(|at| at > now + LATEST) {
        wrong("notBefore", "at most a year ahead".into());
    }
    if let Some(expires_at) = request.expires_at
        && expires_at <= request.not_before.unwrap_or(now).max(now)
    {
        wrong(
            "expiresAt",
            "a notification expires after it comes, and after now".into(),
        );
    }
    if let Some(throttle) = &request.throttle {
        if let Some(fault) = fault_of_key(&throttle.group_key) {
            wrong("throttle.groupKey", fault.into());
        }
        if throttle.interval < Duration::SECOND || throttle.interval > LATEST {
            wrong(
                "throttle.seconds",
                "an interval of 1 second to a year".into(),
            );
        }
    }
    NotificationError::check(violations)
}

/// An address that an app may open: nothing that would run, and nothing that
/// looks like a path and leads elsewhere.
fn is_link(link: &str) -> bool {
    let plain = link.len() <= LONGEST_LINK
        && !link.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\');
    let path = link.starts_with('/') && !link.starts_with("//");
    plain && (path || link.starts_with("https://") || link.starts_with("http://"))
}

fn check_attachments(attachments: &[Attachment], wrong: &mut impl FnMut(&str, String)) {
    if attachments.len() > MOST_ATTACHMENTS {
        wrong(
            "attachments",
            format!("at most {MOST_ATTACHMENTS} attachments"),
        );
    }
    let bytes: usize = attachments.iter().map(|a| a.content.len()).sum();
    if bytes > MOST_ATTACHED_BYTES {
        wrong(
            "attachments",
            format!("at most {MOST_ATTACHED_BYTES} bytes of attachments"),
        );
    }
    for (i, attachment) in attachments.iter().enumerate() {
        let name = &attachment.file_name;
        if !(1..=200).contains(&name.chars().count())
            || name.contains(|c: char| c.is_control() || c == '/' || c == '\\')
        {
            wrong(
                &format!("attachments[{i}].fileName"),
                "a file name has 1 to 200 characters, no slashes".into(),
            );
        }
        let media = &attachment.media_type;
        let is_media = media.len() <= 100
            && media.is_ascii()
            && media
                .split_once('/')
                .is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty())
            && !media.contains(|c: char| c.is_control() || c.is_whitespace());
        if !is_media {
            wrong(
                &format!("attachments[{i}].mediaType"),
                "this is not a media type, such as text/csv".into(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_they_say() {
        for (link, expect) in [
            ("https://example.org/units/1?x=2", true),
            ("http://intranet/", true),
            ("/units/plant:1", true),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("javascript:alert(1)", false),
            ("https://a b", false),
            ("", false),
        ] {
            assert_eq!(is_link(link), expect, "{link}");
        }
    }
}
