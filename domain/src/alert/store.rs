//! Rules in the database.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult, Value};
use time::{Duration, OffsetDateTime};

use super::AlertError;
use super::firing::Firing;
use super::rule::{Condition, Definition, Rule, State};
use super::team::Root;
use crate::change::{Epoch, Position, read_head};
use crate::database::{
    Database, Transaction, again, instant, instant_or_null, json_list, numbers, sql,
};
use crate::forecast::Resolution;
use crate::notification::{Target, require_keys};
use crate::unit::UnitKey;
use crate::{json, provider, quote, unit};

/// Rules that one user may have.
const MOST: i64 = 500;

/// A rule with what only an evaluation needs.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) rule: Rule,
    pub(super) root: Root,
    pub(super) state: State,
    /// The head of the log when it was made.
    pub(super) since: Position,
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    owner: String,
    name: String,
    unit_id: i64,
    unit_type: String,
    unit_number: i64,
    provider_id: i64,
    provider: String,
    resolution: String,
    parameters: String,
    recipients: String,
    channels: String,
    severity: String,
    throttle_seconds: Option<i64>,
    muted_until: Option<OffsetDateTime>,
    enabled: bool,
    since_epoch: i64,
    since_position: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    state: Option<String>,
    firings: Option<i64>,
    last_fired_at: Option<OffsetDateTime>,
}

const SELECT: &str = "SELECT r.id, a.key AS owner, r.name, r.unit_id, u.unit_type, u.unit_number, r.provider_id, \
     p.key AS provider, r.resolution, r.parameters, r.recipients, r.channels, r.severity, r.throttle_seconds, \
     r.muted_until, r.enabled, r.since_epoch, r.since_position, r.created_at, r.updated_at, s.state, s.firings, s.last_fired_at \
     FROM alert_rule r JOIN user_account a ON a.id = r.owner_id JOIN unit u ON u.id = r.unit_id \
     JOIN provider p ON p.id = r.provider_id LEFT JOIN alert_state s ON s.rule_id = r.id";

/// The kinds that this version knows: during an upgrade there may be others.
const KNOWN: &str = "r.kind IN ('REVISION', 'THRESHOLD', 'LATE')";

impl TryFrom<Row> for Stored {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let id = row.id;
        let malformed =
            |error: &dyn std::fmt::Display| DbErr::Type(format!("alert rule {id}: {error}"));
        let unit = row
            .unit_type
            .parse()
            .and_then(|unit_type| UnitKey::new(unit_type, row.unit_number))
            .map_err(|error| malformed(&error))?;
        let resolution: Resolution = row.resolution.parse().map_err(|error| malformed(&error))?;
        let condition: Condition =
            serde_json::from_str(&row.parameters).map_err(|error| malformed(&error))?;
        let definition = Definition {
            name: row.name,
            unit,
            provider: row.provider.parse().map_err(|error| malformed(&error))?,
            resolution,
            condition,
            to: serde_json::from_str(&row.recipients).map_err(|error| malformed(&error))?,
            channels: serde_json::from_str(&row.channels).map_err(|error| malformed(&error))?,
            severity: row.severity.parse().map_err(|error| malformed(&error))?,
            throttle: row.throttle_seconds.map(Duration::seconds),
            muted_until: row.muted_until,
            enabled: row.enabled,
        };
        let what = format_args!("the memory of alert rule {id}");
        let state = row.state.and_then(|state| json::stored(&state, what));
        Ok(Self {
            rule: Rule {
                id,
                owner: row.owner,
                definition,
                created_at: row.created_at,
                updated_at: row.updated_at,
                firings: row.firings.unwrap_or(0),
                last_fired_at: row.last_fired_at,
            },
            root: Root {
                unit_id: row.unit_id,
                provider_id: row.provider_id,
                resolution,
            },
            state: state.unwrap_or_default(),
            since: position(row.since_epoch, row.since_position),
        })
    }
}

fn position(epoch: i64, number: i64) -> Position {
    Position {
        epoch: Epoch(u32::try_from(epoch).unwrap_or(0)),
        number: u64::try_from(number).unwrap_or(0),
    }
}

async fn select(
    db: &impl ConnectionTrait,
    condition: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Row>, DbErr> {
    let statement = sql(
        db,
        format!("{SELECT} WHERE {KNOWN} AND {condition}"),
        values,
    );
    Row::find_by_statement(statement).all(db).await
}

/// Without those that cannot be read: one must not keep the others from firing,
/// or from being listed.
fn readable(rows: Vec<Row>) -> impl Iterator<Item = Stored> {
    rows.into_iter().filter_map(|row| {
        let stored = Stored::try_from(row);
        if let Err(error) = &stored {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "an alert rule is passed over: it cannot be read"
            );
        }
        stored.ok()
    })
}

/// The rule of a number.
pub async fn rule(db: &impl ConnectionTrait, id: i64) -> Result<Option<Rule>, DbErr> {
    let found = select(db, "r.id = $1", [id.into()]).await?;
    Ok(readable(found).next().map(|stored| stored.rule))
}

/// Up to `limit` rules by number, of one user or of all, after or before one.
pub async fn rules(
    db: &impl ConnectionTrait,
    owner: Option<&str>,
    mut after: Option<i64>,
    mut before: Option<i64>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<Rule>, DbErr> {
    let order = if from_end { "DESC" } else { "ASC" };
    let mut found = Vec::new();
    loop {
        let wanted = limit - found.len() as u64;
        let rows = select(
            db,
            &format!(
                "($1 IS NULL OR a.key = $1) AND ($2 IS NULL OR r.id > $2) AND ($3 IS NULL OR r.id < $3) \
                 ORDER BY r.id {order} LIMIT {wanted}"
            ),
            [
                owner.map(str::to_owned).into(),
                after.into(),
                before.into(),
            ],
        )
        .await?;
        let last = rows.last().map(|row| row.id);
        let is_end = (rows.len() as u64) < wanted;
        found.extend(readable(rows).map(|stored| stored.rule));
        // More only where some could not be read: a short page would end the list.
        if is_end || found.len() as u64 == limit {
            break;
        }
        *if from_end { &mut before } else { &mut after } = last;
    }
    if from_end {
        found.reverse();
    }
    Ok(found)
}

/// Rules on forecasts of units that some series belong to, or of what stands
/// above those.
pub(super) async fn touched(
    db: &impl ConnectionTrait,
    series: &HashSet<i64>,
) -> Result<Vec<Stored>, DbErr> {
    let series: Vec<i64> = series.iter().copied().collect();
    let list = numbers(db.get_database_backend(), "$1");
    // A circle of parents ends, since UNION gives each unit once.
    let condition = format!(
        "r.kind <> 'LATE' AND r.unit_id IN ( \
             WITH RECURSIVE above (id) AS ( \
                 SELECT unit_id FROM series WHERE id IN {list} \
                 UNION SELECT u.parent_id FROM above b JOIN unit u ON u.id = b.id WHERE u.parent_id IS NOT NULL) \
             SELECT id FROM above) \
         AND r.provider_id IN (SELECT provider_id FROM series WHERE id IN {list})"
    );
    let rows = select(db, &condition, [json_list(&series)]).await?;
    Ok(readable(rows).collect())
}

/// Rules that go by the clock.
pub(super) async fn timed(db: &impl ConnectionTrait) -> Result<Vec<Stored>, DbErr> {
    let rows = select(db, "r.kind IN ('LATE', 'THRESHOLD')", []).await?;
    Ok(readable(rows).collect())
}

/// Where evaluation stands, for all replicas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    pub(super) position: Position,
    pub(super) version: i64,
    pub(super) checked_at: OffsetDateTime,
    pub(super) has_rules: bool,
}

pub(super) async fn cursor(db: &impl ConnectionTrait) -> Result<Cursor, DbErr> {
    let row = db
        .query_one_raw(sql(
            db,
            "SELECT epoch, position, version, checked_at, \
                 CASE WHEN EXISTS (SELECT 1 FROM alert_rule) THEN 1 ELSE 0 END AS has_rules \
             FROM alert_cursor WHERE id = 1",
            [],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("the cursor of alert rules".into()))?;
    let number = |column: &str| -> Result<i64, DbErr> { row.try_get("", column) };
    let has_rules: i32 = row.try_get("", "has_rules")?;
    Ok(Cursor {
        position: position(number("epoch")?, number("position")?),
        version: number("version")?,
        checked_at: row.try_get("", "checked_at")?,
        has_rules: has_rules != 0,
    })
}

/// Moves the cursor, unless somebody has written it or a rule since it was read:
/// then nothing may be written that was worked out from it.
pub(super) async fn advance(
    txn: &Transaction,
    read: &Cursor,
    to: Position,
    checked_at: OffsetDateTime,
) -> Result<bool, DbErr> {
    let moved = txn
        .execute_raw(sql(
            txn,
            "UPDATE alert_cursor SET epoch = $1, position = $2, checked_at = $3, version = version + 1 \
             WHERE version = $4",
            [
                i64::from(to.epoch.0).into(),
                i64::try_from(to.number).unwrap_or(i64::MAX).into(),
                instant(txn.get_database_backend(), checked_at),
                read.version.into(),
            ],
        ))
        .await?;
    Ok(moved.rows_affected() == 1)
}

/// Keeps what a rule remembers, and that it fired if it told somebody.
pub(super) async fn remember(
    txn: &Transaction,
    rule_id: i64,
    state: &State,
    told: Option<(&Firing, OffsetDateTime)>,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    let state = serde_json::to_string(state).map_err(|error| DbErr::Json(error.to_string()))?;
    txn.execute_raw(sql(
        txn,
        "INSERT INTO alert_state (rule_id, state, firings, last_fired_at, last_value) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (rule_id) DO UPDATE SET state = excluded.state, \
             firings = alert_state.firings + excluded.firings, \
             last_fired_at = coalesce(excluded.last_fired_at, alert_state.last_fired_at), \
             last_value = coalesce(excluded.last_value, alert_state.last_value)",
        [
            rule_id.into(),
            state.into(),
            i64::from(told.is_some()).into(),
            instant_or_null(backend, told.map(|(_, at)| at)),
            told.and_then(|(firing, _)| firing.after).into(),
        ],
    ))
    .await?;
    Ok(())
}

/// Makes a rule of a user.
pub async fn create(
    db: &Database,
    owner: &str,
    definition: &Definition,
    now: OffsetDateTime,
) -> Result<Rule, AlertError> {
    definition.check()?;
    again(|| async {
        let txn = db.begin().await?;
        match insert(&txn, owner, definition, now).await {
            Ok(rule) => {
                txn.commit().await?;
                Ok(rule)
            }
            Err(error) => {
                txn.rollback().await;
                Err(error)
            }
        }
    })
    .await
}

/// Gives a rule the definition that `revise` makes of the present one. Nobody
/// else changes the rule meanwhile, so that what `revise` keeps is not out of
/// date. The rule forgets what it remembers if it is about something else now.
pub async fn update<E: From<AlertError>>(
    db: &Database,
    id: i64,
    revise: impl Fn(&Rule) -> Result<Definition, E> + Sync,
    now: OffsetDateTime,
) -> Result<Rule, E> {
    again(|| async {
        let txn = db.begin().await?;
        match rewrite(&txn, id, &revise, now).await {
            Ok(Ok(rule)) => {
                txn.commit().await?;
                Ok(Ok(rule))
            }
            refused => {
                txn.rollback().await;
                refused
            }
        }
    })
    .await?
}

/// Keeps a rule from telling anybody until then, or lets it tell again.
pub async fn mute(
    db: &Database,
    id: i64,
    until: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<Rule, AlertError> {
    let mute = |rule: &Rule| {
        Ok(Definition {
            muted_until: until,
            ..rule.definition.clone()
        })
    };
    update(db, id, mute, now).await
}

/// Removes a rule. What it told stays.
pub async fn delete(db: &Database, id: i64) -> Result<(), AlertError> {
    again(|| async {
        let txn = db.begin().await?;
        supersede(&txn).await?;
        let statement = sql(&txn, "DELETE FROM alert_rule WHERE id = $1", [id.into()]);
        let gone = txn.execute_raw(statement).await?.rows_affected();
        if gone == 0 {
            txn.rollback().await;
            return Err(unknown_rule(id));
        }
        txn.commit().await?;
        Ok(())
    })
    .await
}

fn unknown_rule(id: i64) -> AlertError {
    AlertError::unknown(format!("alert rule {id}"), "id")
}

/// What is being worked out from the rules as they were counts for nothing from
/// here on. A cursor of another history is put at the head: what comes after a
/// rule is made is looked at.
async fn supersede(txn: &Transaction) -> Result<(), DbErr> {
    txn.execute_raw(sql(
        txn,
        "UPDATE alert_cursor SET version = version + 1, epoch = t.epoch, \
             position = CASE WHEN alert_cursor.epoch = t.epoch THEN alert_cursor.position ELSE t.head END \
         FROM (SELECT epoch, head FROM tick ORDER BY id DESC LIMIT 1) t",
        [],
    ))
    .await?;
    Ok(())
}

async fn insert(
    txn: &Transaction,
    owner: &str,
    definition: &Definition,
    now: OffsetDateTime,
) -> Result<Rule, AlertError> {
    supersede(txn).await?;
    let row = txn
        .query_one_raw(sql(
            txn,
            "SELECT a.id, (SELECT count(*) FROM alert_rule r WHERE r.owner_id = a.id) AS rules \
             FROM user_account a WHERE a.key = $1",
            [owner.into()],
        ))
        .await?
        .ok_or_else(|| AlertError::unknown(format!("user {}", quote(owner)), "owner"))?;
    let rules: i64 = row.try_get("", "rules")?;
    if rules >= MOST {
        return Err(AlertError::Full(format!(
            "a user has at most {MOST} alert rules: delete one first"
        )));
    }
    let owner_id: i64 = row.try_get("", "id")?;
    let mut values = vec![owner_id.into()];
    values.extend(columns(txn, owner, definition, now).await?);
    let backend = txn.get_database_backend();
    values.push(instant(backend, now));
    let head = read_head(txn).await?;
    values.push(i64::from(head.epoch.0).into());
    values.push(i64::try_from(head.number).unwrap_or(i64::MAX).into());
    let row = txn
        .query_one_raw(sql(
            txn,
            "INSERT INTO alert_rule (owner_id, name, unit_id, provider_id, resolution, kind, parameters, recipients, \
                 channels, severity, throttle_seconds, muted_until, enabled, updated_at, created_at, since_epoch, since_position) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) RETURNING id",
            values,
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an alert rule that was just written".into()))?;
    written(txn, &row).await
}

async fn rewrite<E>(
    txn: &Transaction,
    id: i64,
    revise: &(impl Fn(&Rule) -> Result<Definition, E> + Sync),
    now: OffsetDateTime,
) -> Result<Result<Rule, E>, AlertError> {
    // It locks the cursor: whoever else writes a rule waits, and reads it after.
    supersede(txn).await?;
    let old = rule(txn, id).await?.ok_or_else(|| unknown_rule(id))?;
    let definition = match revise(&old) {
        Ok(definition) => definition,
        Err(error) => return Ok(Err(error)),
    };
    definition.check()?;
    Ok(Ok(overwrite(txn, &old, &definition, now).await?))
}

async fn overwrite(
    txn: &Transaction,
    old: &Rule,
    definition: &Definition,
    now: OffsetDateTime,
) -> Result<Rule, AlertError> {
    let id = old.id;
    let mut values: Vec<Value> = vec![id.into()];
    values.extend(columns(txn, &old.owner, definition, now).await?);
    let row = txn
        .query_one_raw(sql(
            txn,
            "UPDATE alert_rule SET name = $2, unit_id = $3, provider_id = $4, resolution = $5, kind = $6, \
                 parameters = $7, recipients = $8, channels = $9, severity = $10, throttle_seconds = $11, \
                 muted_until = $12, enabled = $13, updated_at = $14 WHERE id = $1 RETURNING id",
            values,
        ))
        .await?
        .ok_or_else(|| unknown_rule(id))?;
    let about = |of: &Definition| {
        (
            of.unit,
            of.provider.clone(),
            of.resolution,
            of.condition.clone(),
        )
    };
    if about(&old.definition) != about(definition) {
        txn.execute_raw(sql(
            txn,
            "UPDATE alert_state SET state = '{}' WHERE rule_id = $1",
            [id.into()],
        ))
        .await?;
    }
    written(txn, &row).await
}

async fn written(txn: &Transaction, row: &QueryResult) -> Result<Rule, AlertError> {
    let id: i64 = row.try_get("", "id")?;
    rule(txn, id).await?.ok_or_else(|| unknown_rule(id))
}

/// What a definition is written as, from `name` to `updated_at`. What it names
/// must exist.
async fn columns(
    txn: &Transaction,
    owner: &str,
    definition: &Definition,
    now: OffsetDateTime,
) -> Result<Vec<Value>, AlertError> {
    let root = root_of(txn, definition).await?;
    let to = match &definition.to {
        nobody if *nobody == Target::default() => Target {
            users: vec![owner.to_owned()],
            ..Target::default()
        },
        some => some.clone(),
    };
    require_keys(txn, "user_account", "user", &to.users, "to.users").await?;
    require_keys(txn, "user_group", "group", &to.groups, "to.groups").await?;
    let written =
        |value: serde_json::Result<String>| value.map_err(|error| DbErr::Json(error.to_string()));
    let backend = txn.get_database_backend();
    Ok(vec![
        definition.name.clone().into(),
        root.unit_id.into(),
        root.provider_id.into(),
        root.resolution.as_str().into(),
        definition.condition.kind().into(),
        written(serde_json::to_string(&definition.condition))?.into(),
        written(serde_json::to_string(&to))?.into(),
        json_list(&definition.channels),
        definition.severity.as_str().into(),
        definition.throttle.map(Duration::whole_seconds).into(),
        instant_or_null(backend, definition.muted_until),
        definition.enabled.into(),
        instant(backend, now),
    ])
}

/// The ids of what a definition is about.
pub(super) async fn root_of(
    db: &impl ConnectionTrait,
    definition: &Definition,
) -> Result<Root, AlertError> {
    let units = unit::by_keys(db, &[definition.unit]).await?;
    let unit = units
        .first()
        .ok_or_else(|| AlertError::unknown(format!("unit {}", definition.unit), "unit"))?;
    let key = &definition.provider;
    let providers = provider::by_keys(db, std::slice::from_ref(key)).await?;
    let provider = providers
        .first()
        .ok_or_else(|| AlertError::unknown(format!("provider {key}"), "provider"))?;
    Ok(Root {
        unit_id: unit.id,
        provider_id: provider.id,
        resolution: definition.resolution,
    })
}

/// Takes the rows of all recipients in one order before notifications count what
/// is unread there: others who send meanwhile wait their turn, and none of them
/// for each other.
pub(super) async fn lock_recipients<'a>(
    txn: &Transaction,
    targets: impl Iterator<Item = &'a Target>,
) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(());
    }
    let mut all = Target::default();
    for target in targets {
        all.users.extend_from_slice(&target.users);
        all.groups.extend_from_slice(&target.groups);
        all.topics.extend_from_slice(&target.topics);
    }
    use crate::database::texts;
    txn.query_all_raw(sql(
        txn,
        format!(
            "SELECT u.id FROM user_account u WHERE u.key IN {users} \
                 OR u.id IN (SELECT m.user_id FROM user_group_member m JOIN user_group g ON g.id = m.group_id \
                             WHERE g.key IN {groups}) \
                 OR u.id IN (SELECT user_id FROM topic_subscription WHERE topic IN {topics}) \
             ORDER BY u.id FOR NO KEY UPDATE OF u",
            users = texts(backend, "$1"),
            groups = texts(backend, "$2"),
            topics = texts(backend, "$3"),
        ),
        [
            json_list(&all.users),
            json_list(&all.groups),
            json_list(&all.topics),
        ],
    ))
    .await?;
    Ok(())
}
