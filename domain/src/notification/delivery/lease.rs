//! Taking deliveries to attempt them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult};
use time::OffsetDateTime;

use super::in_order;
use crate::database::{Database, Transaction, again, instant, json_list, numbers, sql, texts};
use crate::json;
use crate::notification::{
    Addressee, Attachment, Channel, Content, Endpoint, Message, QuietHours, Severity,
};

/// Which deliveries are wanted, and for how long.
#[derive(Debug, Clone)]
pub struct Lease {
    pub channel: Channel,
    /// Different for each lease, of whatever replica.
    pub name: String,
    /// At most so many.
    pub limit: u64,
    /// Until then nobody else takes them.
    pub until: OffsetDateTime,
}

/// What a lease has taken.
#[derive(Debug, Default)]
pub struct Leased {
    /// To be attempted, in this order; each settled by [`super::settle`].
    pub messages: Vec<Message>,
    /// Deliveries that were due and are not to be attempted now: their user's
    /// quiet hours hold, they are no longer wanted, or they cannot be read.
    pub put_back: usize,
}

/// Takes deliveries that are due. First, those whose lease has run out are due
/// again, or their outcome is unknown.
pub async fn lease(db: &Database, lease: &Lease, now: OffsetDateTime) -> Result<Leased, DbErr> {
    if !is_anything_due(db, lease.channel, now).await? {
        return Ok(Leased::default());
    }
    again(|| async {
        let txn = db.begin().await?;
        if txn.get_database_backend() == DbBackend::Postgres {
            // One after the other: of two who took at once neither would see the
            // other's leases, and a user's deliveries could overtake each other.
            txn.execute_raw(sql(
                &txn,
                "SELECT pg_advisory_xact_lock(hashtext('smartpulse'), hashtext('delivery ' || $1))",
                [lease.channel.as_str().into()],
            ))
            .await?;
        }
        take_over(&txn, lease.channel, now).await?;
        let ids = take(&txn, lease, now).await?;
        let mut leased = Leased::default();
        let mut quiet: HashMap<OffsetDateTime, Vec<i64>> = HashMap::new();
        let mut unwanted = Vec::new();
        let Loaded { due, unreadable } = load(&txn, &ids).await?;
        // Those whose endpoint was forgotten while they were under way.
        let readable = due.iter().map(|due| due.message.delivery_id);
        let found: HashSet<i64> = readable.chain(unreadable.iter().copied()).collect();
        unwanted.extend(ids.iter().filter(|id| !found.contains(id)));
        for due in due {
            let ends = due.quiet_until(now);
            if due.is_withdrawn
                || due.is_disabled
                || due.message.content.expires_at.is_some_and(|at| at <= now)
            {
                unwanted.push(due.message.delivery_id);
            } else if let Some(ends) = ends {
                quiet.entry(ends).or_default().push(due.message.delivery_id);
            } else {
                leased.messages.push(due.message);
            }
        }
        leased.put_back = ids.len() - leased.messages.len();
        if leased.put_back > 0 {
            put_back(&txn, quiet, &unwanted, now).await?;
            give_up(&txn, &unreadable, now).await?;
        }
        load_attachments(&txn, &mut leased.messages).await?;
        txn.commit().await?;
        Ok(leased)
    })
    .await
}

/// To look takes nothing from who writes.
async fn is_anything_due(
    db: &Database,
    channel: Channel,
    now: OffsetDateTime,
) -> Result<bool, DbErr> {
    let reader = db.reader();
    let row = reader
        .query_one_raw(sql(
            reader,
            "SELECT EXISTS (SELECT 1 FROM delivery WHERE channel = $1 AND state IN ('QUEUED', 'FAILED') AND next_attempt_at <= $2) \
             OR EXISTS (SELECT 1 FROM delivery WHERE channel = $1 AND state = 'LEASED' AND leased_until <= $2) AS due",
            [channel.as_str().into(), instant(db.backend(), now)],
        ))
        .await?;
    row.map_or(Ok(false), |row| row.try_get("", "due"))
}

/// No channel attempts more often by itself.
const MOST_ATTEMPTS: i32 = 20;

async fn take_over(txn: &Transaction, channel: Channel, now: OffsetDateTime) -> Result<(), DbErr> {
    let silent = "last_error = 'the replica that attempted it did not say what came of it'";
    let unknown = format!("state = 'UNKNOWN', finished_at = $2, {silent}");
    // One that ends every server that attempts it must come to an end, too.
    let again = format!(
        "state = CASE WHEN attempts < {MOST_ATTEMPTS} THEN 'FAILED' ELSE 'DEAD' END, next_attempt_at = $2, \
         finished_at = CASE WHEN attempts >= {MOST_ATTEMPTS} THEN $2 END, {silent}"
    );
    let untouched =
        "state = CASE WHEN attempts = 1 THEN 'QUEUED' ELSE 'FAILED' END, attempts = attempts - 1";
    let cases: &[(&str, &str)] = if channel.is_idempotent() {
        &[(&again, "true")]
    } else {
        &[
            (&unknown, "begun_at IS NOT NULL"),
            (untouched, "begun_at IS NULL"),
        ]
    };
    let backend = txn.get_database_backend();
    for (becomes, condition) in cases {
        let over = in_order(
            backend,
            &format!("channel = $1 AND state = 'LEASED' AND leased_until <= $2 AND {condition}"),
        );
        txn.execute_raw(sql(
            txn,
            format!(
                "UPDATE delivery SET {becomes}, leased_by = NULL, leased_until = NULL WHERE id IN {over}"
            ),
            [channel.as_str().into(), instant(backend, now)],
        ))
        .await?;
    }
    Ok(())
}

/// Deliveries of one user that one lease takes.
const PER_USER: u32 = 5;

async fn take(txn: &Transaction, lease: &Lease, now: OffsetDateTime) -> Result<Vec<i64>, DbErr> {
    let backend = txn.get_database_backend();
    let rows = txn
        .query_all_raw(sql(
            txn,
            // Few of each user: who is slow to take theirs must not hold up the others.
            format!(
                "UPDATE delivery SET state = 'LEASED', attempts = attempts + 1, leased_by = $3, leased_until = $4, \
                     begun_at = NULL \
                 WHERE id IN (SELECT w.id FROM delivery w WHERE w.state IN ('QUEUED', 'FAILED') AND w.id IN ( \
                     SELECT t.id FROM ( \
                         SELECT c.id, c.next_attempt_at, \
                             row_number() OVER (PARTITION BY c.user_id ORDER BY c.next_attempt_at, c.id) AS place \
                         FROM (SELECT d.id, d.user_id, d.next_attempt_at FROM delivery d \
                             WHERE d.channel = $1 AND d.state IN ('QUEUED', 'FAILED') AND d.next_attempt_at <= $2 \
                             AND d.user_id NOT IN (SELECT l.user_id FROM delivery l \
                                 WHERE l.channel = $1 AND l.state = 'LEASED') \
                             ORDER BY d.next_attempt_at, d.id LIMIT {candidates}) c) t \
                     WHERE t.place <= {PER_USER} ORDER BY t.next_attempt_at, t.id LIMIT {limit}) \
                     ORDER BY w.id {lock}) RETURNING id",
                candidates = lease.limit * 10,
                limit = lease.limit,
                lock = match backend {
                    DbBackend::Postgres => "FOR UPDATE SKIP LOCKED",
                    _ => "",
                },
            ),
            [
                lease.channel.as_str().into(),
                instant(backend, now),
                lease.name.clone().into(),
                instant(backend, lease.until),
            ],
        ))
        .await?;
    let mut ids = rows
        .iter()
        .map(|row| row.try_get("", "id"))
        .collect::<Result<Vec<i64>, DbErr>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// A delivery with all that decides about it.
struct Due {
    message: Message,
    quiet_hours: Option<QuietHours>,
    is_withdrawn: bool,
    is_disabled: bool,
}

impl Due {
    /// When the user's quiet hours end, if they hold the message up.
    fn quiet_until(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        if self.message.content.severity == Severity::Critical {
            return None;
        }
        self.quiet_hours?
            .end(&self.message.addressee.time_zone, now)
    }
}

#[derive(FromQueryResult)]
struct ContentRow {
    notification_id: i64,
    title: String,
    body: String,
    severity: String,
    category: String,
    data: Option<String>,
    link: Option<String>,
    template: Option<String>,
    variables: Option<String>,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
}

impl ContentRow {
    /// `None` if its JSON cannot be read.
    fn decode(self) -> Result<Option<Content>, DbErr> {
        let row = self;
        let id = row.notification_id;
        let json = |text: Option<String>, column: &str| match text {
            Some(text) => {
                let what = format_args!("the {column} of notification {id}");
                json::stored(&text, what).map(Some)
            }
            None => Some(None),
        };
        let (Some(data), Some(variables)) =
            (json(row.data, "data"), json(row.variables, "variables"))
        else {
            return Ok(None);
        };
        Ok(Some(Content {
            notification_id: id,
            title: row.title,
            body: row.body,
            severity: row
                .severity
                .parse()
                .map_err(|error| DbErr::Type(format!("notification {id}: {error}")))?,
            category: row.category,
            data,
            link: row.link,
            template: row.template,
            variables,
            attachments: Vec::new(),
            created_at: row.created_at,
            expires_at: row.expires_at,
        }))
    }
}

/// What was found of the deliveries of a lease.
#[derive(Default)]
struct Loaded {
    due: Vec<Due>,
    /// Deliveries whose notification or endpoint holds JSON that cannot be read.
    unreadable: Vec<i64>,
}

async fn load(txn: &Transaction, ids: &[i64]) -> Result<Loaded, DbErr> {
    let mut loaded = Loaded::default();
    if ids.is_empty() {
        return Ok(loaded);
    }
    let backend = txn.get_database_backend();
    let rows = txn
        .query_all_raw(sql(
            txn,
            format!(
                "SELECT d.id, d.attempts, d.notification_id, u.key, u.name, u.locale, u.time_zone, \
                     u.quiet_from, u.quiet_until, e.id AS endpoint_id, e.channel, e.address, e.secret, \
                     e.disabled_at IS NOT NULL OR e.user_id <> d.user_id AS is_disabled \
                 FROM delivery d JOIN user_account u ON u.id = d.user_id JOIN endpoint e ON e.id = d.endpoint_id \
                 WHERE d.id IN {} ORDER BY d.id",
                numbers(backend, "$1")
            ),
            [json_list(ids)],
        ))
        .await?;
    // What a notification says is read once, for however many it goes to.
    let contents = txn
        .query_all_raw(sql(
            txn,
            format!(
                "SELECT id AS notification_id, title, body, severity, category, data, link, template, variables, \
                     created_at, expires_at, withdrawn_at IS NOT NULL AS is_withdrawn \
                 FROM notification WHERE id IN (SELECT notification_id FROM delivery WHERE id IN {})",
                numbers(backend, "$1")
            ),
            [json_list(ids)],
        ))
        .await?;
    let mut by_id: HashMap<i64, (Arc<Content>, bool)> = HashMap::new();
    for row in &contents {
        if let Some(content) = ContentRow::from_query_result(row, "")?.decode()? {
            let is_withdrawn = row.try_get("", "is_withdrawn")?;
            by_id.insert(content.notification_id, (Arc::new(content), is_withdrawn));
        }
    }
    for row in &rows {
        match decode(row, &by_id)? {
            Some(due) => loaded.due.push(due),
            None => loaded.unreadable.push(row.try_get("", "id")?),
        }
    }
    Ok(loaded)
}

/// `None` if its notification or its endpoint holds JSON that cannot be read.
fn decode(
    row: &QueryResult,
    contents: &HashMap<i64, (Arc<Content>, bool)>,
) -> Result<Option<Due>, DbErr> {
    let notification_id: i64 = row.try_get("", "notification_id")?;
    let Some((content, is_withdrawn)) = contents.get(&notification_id) else {
        return Ok(None);
    };
    let attempts: i32 = row.try_get("", "attempts")?;
    let channel: String = row.try_get("", "channel")?;
    let secret: String = row.try_get("", "secret")?;
    let minute = |column: &str| -> Result<Option<u16>, DbErr> {
        let minute: Option<i16> = row.try_get("", column)?;
        Ok(minute.and_then(|minute| u16::try_from(minute).ok()))
    };
    let endpoint_id: i64 = row.try_get("", "endpoint_id")?;
    let what = format_args!("the secret of endpoint {endpoint_id}");
    let Some(secret) = json::stored(&secret, what) else {
        return Ok(None);
    };
    Ok(Some(Due {
        message: Message {
            delivery_id: row.try_get("", "id")?,
            attempt: u32::try_from(attempts).unwrap_or(1),
            content: Arc::clone(content),
            addressee: Addressee {
                user_key: row.try_get("", "key")?,
                name: row.try_get("", "name")?,
                locale: row.try_get("", "locale")?,
                time_zone: row.try_get("", "time_zone")?,
            },
            endpoint: Endpoint {
                id: endpoint_id,
                channel: channel
                    .parse()
                    .map_err(|error| DbErr::Type(format!("endpoint {endpoint_id}: {error}")))?,
                address: row.try_get("", "address")?,
                secret,
            },
        },
        quiet_hours: minute("quiet_from")?
            .zip(minute("quiet_until")?)
            .map(|(from, until)| QuietHours { from, until }),
        is_withdrawn: *is_withdrawn,
        is_disabled: row.try_get("", "is_disabled")?,
    }))
}

/// What is not to be attempted now has not been: the attempt does not count.
async fn put_back(
    txn: &Transaction,
    quiet: HashMap<OffsetDateTime, Vec<i64>>,
    unwanted: &[i64],
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    for (ends, ids) in quiet {
        txn.execute_raw(sql(
            txn,
            format!(
                "UPDATE delivery SET state = CASE WHEN attempts = 1 THEN 'QUEUED' ELSE 'FAILED' END, \
                     attempts = attempts - 1, next_attempt_at = $2, leased_by = NULL, leased_until = NULL \
                 WHERE id IN {}",
                numbers(backend, "$1")
            ),
            [json_list(&ids), instant(backend, ends)],
        ))
        .await?;
    }
    txn.execute_raw(sql(
        txn,
        format!(
            "UPDATE delivery SET state = 'CANCELLED', attempts = attempts - 1, finished_at = $2, \
                 leased_by = NULL, leased_until = NULL, \
                 last_error = 'the notification was withdrawn, or its endpoint given up' \
             WHERE id IN {}",
            numbers(backend, "$1")
        ),
        [json_list(unwanted), instant(backend, now)],
    ))
    .await?;
    Ok(())
}

/// What cannot be read now never can be: it ends here, without an attempt.
async fn give_up(txn: &Transaction, unreadable: &[i64], now: OffsetDateTime) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    txn.execute_raw(sql(
        txn,
        format!(
            "UPDATE delivery SET state = 'DEAD', attempts = attempts - 1, finished_at = $2, \
                 leased_by = NULL, leased_until = NULL, \
                 last_error = 'the stored JSON of its notification or endpoint cannot be read' \
             WHERE id IN {}",
            numbers(backend, "$1")
        ),
        [json_list(unreadable), instant(backend, now)],
    ))
    .await?;
    Ok(())
}

/// Files go with mails only.
async fn load_attachments(txn: &Transaction, messages: &mut [Message]) -> Result<(), DbErr> {
    let is_mail = |message: &&Message| message.endpoint.channel == Channel::Email;
    let mut ids: Vec<i64> = messages
        .iter()
        .filter(is_mail)
        .map(|message| message.content.notification_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let rows = txn
        .query_all_raw(sql(
            txn,
            format!(
                "SELECT notification_id, file_name, media_type, content FROM notification_attachment \
                 WHERE notification_id IN {} ORDER BY notification_id, ordinal",
                numbers(txn.get_database_backend(), "$1")
            ),
            [json_list(&ids)],
        ))
        .await?;
    let mut attachments: HashMap<i64, Vec<Attachment>> = HashMap::new();
    for row in rows {
        let of = attachments
            .entry(row.try_get("", "notification_id")?)
            .or_default();
        of.push(Attachment {
            file_name: row.try_get("", "file_name")?,
            media_type: row.try_get("", "media_type")?,
            content: row.try_get("", "content")?,
        });
    }
    let mut complete: HashMap<i64, Arc<Content>> = HashMap::new();
    for message in messages {
        let id = message.content.notification_id;
        let Some(of) = attachments.get(&id) else {
            continue;
        };
        let content = complete.entry(id).or_insert_with(|| {
            Arc::new(Content {
                attachments: of.clone(),
                ..(*message.content).clone()
            })
        });
        message.content = Arc::clone(content);
    }
    Ok(())
}

/// Says that some of a lease's deliveries go on the wire now: if nothing is heard
/// of them, nobody knows what came of them. Only for channels where what is sent
/// twice is received twice. Returns those that the lease still holds: the others
/// must not go.
pub async fn begin(
    db: &Database,
    name: &str,
    ids: &[i64],
    now: OffsetDateTime,
) -> Result<Vec<i64>, DbErr> {
    let writer = db.writer();
    let rows = writer
        .query_all_raw(sql(
            writer,
            format!(
                "UPDATE delivery SET begun_at = $3 WHERE id IN {} RETURNING id",
                in_order(
                    db.backend(),
                    &format!(
                        "state = 'LEASED' AND leased_by = $1 AND leased_until > $3 AND id IN {}",
                        numbers(db.backend(), "$2")
                    )
                )
            ),
            [name.into(), json_list(ids), instant(db.backend(), now)],
        ))
        .await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// What the leases named by `$1` hold.
fn held(backend: DbBackend) -> String {
    let leases = texts(backend, "$1");
    in_order(
        backend,
        &format!("state = 'LEASED' AND leased_by IN {leases}"),
    )
}

/// Keeps what leases hold for longer: the attempts are still under way.
pub async fn extend(db: &Database, names: &[String], until: OffsetDateTime) -> Result<(), DbErr> {
    let writer = db.writer();
    writer
        .execute_raw(sql(
            writer,
            format!(
                "UPDATE delivery SET leased_until = $2 WHERE id IN {}",
                held(db.backend())
            ),
            [json_list(names), instant(db.backend(), until)],
        ))
        .await?;
    Ok(())
}

/// Gives back what leases hold and has not begun: whoever is next may take it.
pub async fn release(db: &Database, names: &[String]) -> Result<(), DbErr> {
    let writer = db.writer();
    writer
        .execute_raw(sql(
            writer,
            format!(
                "UPDATE delivery SET state = CASE WHEN attempts = 1 THEN 'QUEUED' ELSE 'FAILED' END, \
                     attempts = attempts - 1, leased_by = NULL, leased_until = NULL \
                 WHERE begun_at IS NULL AND id IN {}",
                held(db.backend())
            ),
            [json_list(names)],
        ))
        .await?;
    Ok(())
}
