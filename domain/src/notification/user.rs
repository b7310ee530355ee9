//! Who can be notified: users, groups of them, and the topics they asked for.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult};
use time::OffsetDateTime;

use super::{NotificationError, QuietHours, endpoint};
use crate::database::{Database, Transaction, again, instant, json_list, sql, texts};
use crate::violation::fault_of_name;
use crate::{Patch, Violation, quote};

/// Who can be notified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: i64,
    /// What an authenticated caller is called.
    pub key: String,
    pub name: String,
    /// A language tag such as `de-AT`.
    pub locale: Option<String>,
    /// An IANA time zone.
    pub time_zone: String,
    pub quiet_hours: Option<QuietHours>,
    /// Whether what is critical comes although a preference says no.
    pub critical_overrides: bool,
    pub email: Option<String>,
    /// Exact: triggers keep it.
    pub unread_count: i64,
}

/// What to write of a user; what is absent is left as it is.
#[derive(Debug, Clone)]
pub struct UserUpsert {
    pub key: String,
    /// The key, for a new user who gives none.
    pub name: Option<String>,
    pub email: Patch<String>,
    pub locale: Patch<String>,
    pub time_zone: Option<String>,
}

/// What to write of a group; what is absent is left as it is.
#[derive(Debug, Clone)]
pub struct GroupUpsert {
    pub key: String,
    pub name: Option<String>,
    /// The keys of all its members.
    pub members: Option<Vec<String>>,
}

#[derive(FromQueryResult)]
struct UserRow {
    id: i64,
    key: String,
    name: String,
    locale: Option<String>,
    time_zone: String,
    quiet_from: Option<i16>,
    quiet_until: Option<i16>,
    critical_overrides: bool,
    unread_count: i64,
    email: Option<String>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let minute = |value: Option<i16>| value.and_then(|value| u16::try_from(value).ok());
        Self {
            id: row.id,
            key: row.key,
            name: row.name,
            locale: row.locale,
            time_zone: row.time_zone,
            quiet_hours: minute(row.quiet_from)
                .zip(minute(row.quiet_until))
                .map(|(from, until)| QuietHours { from, until }),
            critical_overrides: row.critical_overrides,
            email: row.email,
            unread_count: row.unread_count,
        }
    }
}

const SELECT: &str = "SELECT u.id, u.key, u.name, u.locale, u.time_zone, u.quiet_from, u.quiet_until, \
     u.critical_overrides, u.unread_count, e.address AS email \
     FROM user_account u LEFT JOIN endpoint e ON e.user_id = u.id AND e.channel = 'EMAIL'";

/// The user with a key.
pub async fn user(db: &impl ConnectionTrait, key: &str) -> Result<Option<User>, DbErr> {
    let statement = sql(db, format!("{SELECT} WHERE u.key = $1"), [key.into()]);
    let row = UserRow::find_by_statement(statement).one(db).await?;
    Ok(row.map(User::from))
}

/// Up to `limit` users in order of their keys, after or before a key.
pub async fn users(
    db: &impl ConnectionTrait,
    after: Option<&str>,
    before: Option<&str>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<User>, DbErr> {
    let order = if from_end { "DESC" } else { "ASC" };
    let statement = sql(
        db,
        format!(
            "{SELECT} WHERE ($1 IS NULL OR u.key > $1) AND ($2 IS NULL OR u.key < $2) ORDER BY u.key {order} LIMIT {limit}"
        ),
        [
            after.map(str::to_owned).into(),
            before.map(str::to_owned).into(),
        ],
    );
    let mut rows = UserRow::find_by_statement(statement).all(db).await?;
    if from_end {
        rows.reverse();
    }
    Ok(rows.into_iter().map(User::from).collect())
}

/// The id of the user with a key, who is created if there is none: whoever comes
/// with a key is a user.
pub async fn ensure_user(db: &Database, key: &str) -> Result<i64, DbErr> {
    let find = "SELECT id FROM user_account WHERE key = $1";
    let row = db
        .reader()
        .query_one_raw(sql(db.reader(), find, [key.into()]))
        .await?;
    if let Some(row) = row {
        return row.try_get("", "id");
    }
    let writer = db.writer();
    // Of two who come at once one finds what the other has written.
    let row = writer
        .query_one_raw(sql(
            writer,
            "INSERT INTO user_account (key, name) VALUES ($1, $1) \
             ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id",
            [key.into()],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a user who was just written".into()))?;
    row.try_get("", "id")
}

/// What is wrong with a key of a user, a group or a topic, if anything is.
pub(crate) fn fault_of_key(key: &str) -> Option<&'static str> {
    let fits = (1..=200).contains(&key.chars().count()) && !key.contains(char::is_control);
    (!fits).then_some("a key has 1 to 200 characters, no control characters")
}

fn fault_of_email(address: &str) -> Option<&'static str> {
    let plain = address.len() <= 254 && !address.contains(|c: char| c.is_control() || c == ' ');
    let parts = address
        .rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    (!plain || !parts).then_some("this is not a mail address")
}

pub(super) fn fault_of_locale(locale: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let fits = (2..=35).contains(&locale.len()) && locale.bytes().all(plain);
    (!fits).then_some("a locale is a language tag, such as de or de-AT")
}

pub(super) fn fault_of_zone(zone: &str) -> Option<&'static str> {
    let unknown = jiff::tz::TimeZone::get(zone).is_err();
    unknown.then_some("this is not an IANA time zone, such as Europe/Istanbul")
}

fn check_user(input: &UserUpsert, i: usize, violations: &mut Vec<Violation>) {
    let mut wrong = |field: &str, message: &str| {
        violations.push(Violation::new(format!("users[{i}].{field}"), message));
    };
    if let Some(fault) = fault_of_key(&input.key) {
        wrong("key", fault);
    }
    if let Some(fault) = input.name.as_deref().and_then(fault_of_name) {
        wrong("name", fault);
    }
    if let Patch::Set(address) = &input.email
        && let Some(fault) = fault_of_email(address)
    {
        wrong("email", fault);
    }
    if let Patch::Set(locale) = &input.locale
        && let Some(fault) = fault_of_locale(locale)
    {
        wrong("locale", fault);
    }
    if let Some(fault) = input.time_zone.as_deref().and_then(fault_of_zone) {
        wrong("timeZone", fault);
    }
}

/// Creates or updates users, all or none.
pub async fn upsert_users(
    db: &Database,
    users: &[UserUpsert],
    now: OffsetDateTime,
) -> Result<(), NotificationError> {
    let mut violations = Vec::new();
    let mut seen = HashSet::new();
    for (i, input) in users.iter().enumerate() {
        check_user(input, i, &mut violations);
        if !seen.insert(&input.key) {
            let path = format!("users[{i}].key");
            violations.push(Violation::new(
                path,
                format!("{} is given twice", quote(&input.key)),
            ));
        }
    }
    NotificationError::check(violations)?;
    // In order of their keys, so that two callers cannot wait for each other.
    let mut order: Vec<&UserUpsert> = users.iter().collect();
    order.sort_by(|a, b| a.key.cmp(&b.key));
    again(|| async {
        let txn = db.begin().await?;
        for input in &order {
            create_user(&txn, &input.key).await?;
        }
        lock_users(&txn, &order).await?;
        for input in &order {
            write_user(&txn, input, now).await?;
        }
        Ok(txn.commit().await?)
    })
    .await
}

/// In the order in which counts are kept: a send to the same users must not wait
/// for this while this waits for it.
async fn lock_users(txn: &Transaction, users: &[&UserUpsert]) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(());
    }
    let keys: Vec<&str> = users.iter().map(|input| input.key.as_str()).collect();
    let text = format!(
        "SELECT id FROM user_account WHERE key IN {} ORDER BY id FOR NO KEY UPDATE",
        texts(backend, "$1")
    );
    txn.query_all_raw(sql(txn, text, [json_list(&keys)]))
        .await?;
    Ok(())
}

/// Creates a user of whom only the key is known. One who exists is not locked.
async fn create_user(txn: &Transaction, key: &str) -> Result<(), DbErr> {
    let text = "INSERT INTO user_account (key, name) VALUES ($1, $1) ON CONFLICT (key) DO NOTHING";
    txn.execute_raw(sql(txn, text, [key.into()])).await?;
    Ok(())
}

async fn write_user(
    txn: &Transaction,
    input: &UserUpsert,
    now: OffsetDateTime,
) -> Result<(), DbErr> {
    let locale = match &input.locale {
        Patch::Set(locale) => Some(locale.clone()),
        Patch::Keep | Patch::Clear => None,
    };
    let row = txn
        .query_one_raw(sql(
            txn,
            "UPDATE user_account SET name = coalesce($2, name), \
                 locale = CASE WHEN $5 THEN locale ELSE $3 END, \
                 time_zone = coalesce($4, time_zone) WHERE key = $1 RETURNING id",
            [
                input.key.clone().into(),
                input.name.clone().into(),
                locale.into(),
                input.time_zone.clone().into(),
                (input.locale == Patch::Keep).into(),
            ],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a user who was just written".into()))?;
    let id: i64 = row.try_get("", "id")?;
    match &input.email {
        Patch::Keep => {}
        Patch::Clear => {
            let condition = "user_id = $1 AND channel = 'EMAIL'";
            endpoint::remove(txn, condition, [id.into()], now).await?;
        }
        Patch::Set(address) => {
            // What waits goes to the new address; and one that was given up is worth
            // another try.
            txn.execute_raw(sql(
                txn,
                "INSERT INTO endpoint (user_id, channel, address, created_at) VALUES ($1, 'EMAIL', $2, $3) \
                 ON CONFLICT (user_id) WHERE channel = 'EMAIL' DO UPDATE \
                 SET address = excluded.address, disabled_at = NULL, disabled_reason = NULL",
                [
                    id.into(),
                    address.clone().into(),
                    instant(txn.get_database_backend(), now),
                ],
            ))
            .await?;
        }
    }
    Ok(())
}

/// Creates or updates groups, all or none; their members must exist.
pub async fn upsert_groups(db: &Database, groups: &[GroupUpsert]) -> Result<(), NotificationError> {
    let mut violations = Vec::new();
    for (i, input) in groups.iter().enumerate() {
        let mut wrong = |field: &str, message: &str| {
            violations.push(Violation::new(format!("groups[{i}].{field}"), message));
        };
        if let Some(fault) = fault_of_key(&input.key) {
            wrong("key", fault);
        }
        if let Some(fault) = input.name.as_deref().and_then(fault_of_name) {
            wrong("name", fault);
        }
        for (place, member) in input.members.iter().flatten().enumerate() {
            if let Some(fault) = fault_of_key(member) {
                wrong(&format!("members[{place}]"), fault);
            }
        }
        if groups[..i].iter().any(|other| other.key == input.key) {
            wrong("key", "this group is given twice");
        }
    }
    NotificationError::check(violations)?;
    let mut order: Vec<(usize, &GroupUpsert)> = groups.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
    again(|| async {
        let txn = db.begin().await?;
        for &(i, input) in &order {
            if let Err(error) = write_group(&txn, i, input).await {
                txn.rollback().await;
                return Err(error);
            }
        }
        Ok(txn.commit().await?)
    })
    .await
}

async fn write_group(
    txn: &Transaction,
    i: usize,
    input: &GroupUpsert,
) -> Result<(), NotificationError> {
    let backend = txn.get_database_backend();
    let row = txn
        .query_one_raw(sql(
            txn,
            "INSERT INTO user_group (key, name) VALUES ($1, coalesce($2, $1)) \
             ON CONFLICT (key) DO UPDATE SET name = coalesce($2, user_group.name) RETURNING id",
            [input.key.clone().into(), input.name.clone().into()],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("a group that was just written".into()))?;
    let id: i64 = row.try_get("", "id")?;
    let Some(members) = &input.members else {
        return Ok(());
    };
    require_keys(
        txn,
        "user_account",
        "user",
        members,
        &format!("groups[{i}].members"),
    )
    .await?;
    txn.execute_raw(sql(
        txn,
        "DELETE FROM user_group_member WHERE group_id = $1",
        [id.into()],
    ))
    .await?;
    txn.execute_raw(sql(
        txn,
        format!(
            "INSERT INTO user_group_member (group_id, user_id) \
             SELECT $1, id FROM user_account WHERE key IN {} ORDER BY id",
            texts(backend, "$2")
        ),
        [id.into(), json_list(members)],
    ))
    .await?;
    Ok(())
}

/// An error that names the first of `keys` that `table` does not have.
pub(crate) async fn require_keys(
    txn: &Transaction,
    table: &str,
    what: &str,
    keys: &[String],
    path: &str,
) -> Result<(), NotificationError> {
    if keys.is_empty() {
        return Ok(());
    }
    let rows = txn
        .query_all_raw(sql(
            txn,
            format!(
                "SELECT key FROM {table} WHERE key IN {}",
                texts(txn.get_database_backend(), "$1")
            ),
            [json_list(keys)],
        ))
        .await?;
    let known: HashSet<String> = rows
        .iter()
        .map(|row| row.try_get("", "key"))
        .collect::<Result<_, DbErr>>()?;
    match keys
        .iter()
        .enumerate()
        .find(|(_, key)| !known.contains(*key))
    {
        Some((place, key)) => Err(NotificationError::unknown(
            format!("{what} {}", quote(key)),
            format!("{path}[{place}]"),
        )),
        None => Ok(()),
    }
}

/// The topics that a user asked for, in order.
pub async fn topics(db: &impl ConnectionTrait, user_id: i64) -> Result<Vec<String>, DbErr> {
    db.query_all_raw(sql(
        db,
        "SELECT topic FROM topic_subscription WHERE user_id = $1 ORDER BY topic",
        [user_id.into()],
    ))
    .await?
    .iter()
    .map(|row| row.try_get("", "topic"))
    .collect()
}
