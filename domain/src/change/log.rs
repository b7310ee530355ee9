//! Reading, numbering (on SQLite) and pruning the log.

use entities::{change, tick};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, Statement,
};
use time::OffsetDateTime;

use super::{Change, Epoch, ForecastChange, Operation, Position, Subject};
use crate::database::{Database, instant};
use crate::forecast::SeriesKey;
use crate::notification::NotificationChange;

/// How many changes one read of the log takes.
pub const PAGE: u64 = 1000;

/// What one statement saw of the log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The epoch and head at that moment.
    pub head: Position,
    /// Changes after the position asked for, in order, with the writing
    /// transaction's number where the database has one. A full page has
    /// as many as were asked for.
    pub changes: Vec<(Change, Option<u64>)>,
}

/// The head of the log.
pub async fn read_head(db: &impl ConnectionTrait) -> Result<Position, DbErr> {
    let newest = tick::Entity::find()
        .order_by_desc(tick::Column::Id)
        .one(db)
        .await?
        .ok_or_else(|| DbErr::Custom("the change log has no tick: was it migrated?".into()))?;
    position(newest.epoch, newest.head)
}

/// Reads the changes after `number`, up to `most` of them, together with the
/// epoch and head, in one statement: nothing can come between.
pub async fn read_after(
    db: &impl ConnectionTrait,
    number: u64,
    most: u64,
) -> Result<LogPage, DbErr> {
    let backend = db.get_database_backend();
    let (xid, parameter) = match backend {
        DbBackend::Postgres => ("c.xid::text::bigint", "$1"),
        _ => ("NULL", "?1"),
    };
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(
            backend,
            format!(
                "SELECT t.epoch, t.head, {xid} AS xid, c.position, c.entity, c.operation, c.unit_type, c.unit_number, \
                 c.provider_key, c.resolution, c.series_id, c.run_id, c.range_start, c.range_end, \
                 c.notification_id, c.user_id, c.marked_at, c.changed_at \
                 FROM (SELECT epoch, head FROM tick ORDER BY id DESC LIMIT 1) t \
                 LEFT JOIN change c ON c.position > {parameter} \
                 ORDER BY c.position LIMIT {most}"
            ),
            [i64::try_from(number).unwrap_or(i64::MAX).into()],
        ))
        .await?;
    decode_page(&rows)
}

/// How a tick behaves when another one runs, and how it finds new rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickMode {
    /// Takes its turn: somebody waits for it.
    Wait,
    /// Leaves it to the one that runs.
    Try,
    /// Takes its turn and looks for unnumbered rows the slow way.
    Scan,
}

/// What a tick did.
#[derive(Debug, Clone)]
pub struct Tick {
    pub numbered: u64,
    /// The head it left, and the changes it numbered unless they are more than
    /// a page.
    pub page: LogPage,
}

/// Numbers what has committed before the call. `None` when somebody else is at
/// it and `mode` leaves it to them.
pub async fn tick(db: &Database, mode: TickMode) -> Result<Option<Tick>, DbErr> {
    if db.backend() == DbBackend::Sqlite {
        return number_others(db).await.map(Some);
    }
    let mode = match mode {
        TickMode::Wait => "wait",
        TickMode::Try => "try",
        TickMode::Scan => "scan",
    };
    let rows = db
        .control()
        .query_all_raw(Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT * FROM change_log_tick($1)",
            [mode.into()],
        ))
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let numbered: i64 = first.try_get("", "numbered")?;
    Ok(Some(Tick {
        numbered: u64::try_from(numbered).unwrap_or(0),
        page: decode_page(&rows)?,
    }))
}

/// On SQLite our transactions number their own rows: only other programs leave any.
async fn number_others(db: &Database) -> Result<Tick, DbErr> {
    let (head, numbered) = if is_pending(db.control()).await? {
        let txn = db.begin().await?;
        let numbering = number_pending(&txn).await?;
        txn.commit().await?;
        numbering
    } else {
        (read_head(db.control()).await?, 0)
    };
    let page = LogPage {
        head,
        changes: Vec::new(),
    };
    Ok(Tick { numbered, page })
}

/// Rows with the epoch and head in each, and a change in each; without any
/// change, one row.
fn decode_page(rows: &[QueryResult]) -> Result<LogPage, DbErr> {
    let first = rows
        .first()
        .ok_or_else(|| DbErr::Custom("the change log has no tick: was it migrated?".into()))?;
    let head = position(first.try_get("", "epoch")?, first.try_get("", "head")?)?;
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(number) = row.try_get::<Option<i64>>("", "position")? {
            let at = position(i64::from(head.epoch.0), number)?;
            let xid: Option<i64> = row.try_get("", "xid")?;
            changes.push((
                decode(row, at)?,
                xid.and_then(|xid| u64::try_from(xid).ok()),
            ));
        }
    }
    Ok(LogPage { head, changes })
}

fn position(epoch: i64, number: i64) -> Result<Position, DbErr> {
    match (u32::try_from(epoch), u64::try_from(number)) {
        (Ok(epoch), Ok(number)) => Ok(Position {
            epoch: Epoch(epoch),
            number,
        }),
        _ => Err(DbErr::Type(format!(
            "{epoch}.{number} is not a position of the change log"
        ))),
    }
}

fn decode(row: &QueryResult, position: Position) -> Result<Change, DbErr> {
    let operation: String = row.try_get("", "operation")?;
    let operation = match operation.as_str() {
        "INSERT" => Operation::Insert,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        "RESYNC" => Operation::Resync,
        other => return Err(DbErr::Type(format!("unknown operation {other}"))),
    };
    let malformed = |error: &dyn std::fmt::Display| {
        DbErr::Type(format!("change {position} is malformed: {error}"))
    };
    let unit = || -> Result<_, DbErr> {
        let unit_type: String = row.try_get("", "unit_type")?;
        let number: i64 = row.try_get("", "unit_number")?;
        let unit_type = unit_type.parse().map_err(|error| malformed(&error))?;
        crate::unit::UnitKey::new(unit_type, number).map_err(|error| malformed(&error))
    };
    let provider = || -> Result<_, DbErr> {
        let key: String = row.try_get("", "provider_key")?;
        key.parse().map_err(|error| malformed(&error))
    };
    let entity: String = row.try_get("", "entity")?;
    let subject = match (operation, entity.as_str()) {
        (Operation::Resync, _) => Subject::Everything,
        (_, "UNIT") => Subject::Unit(unit()?),
        (_, "PROVIDER") => Subject::Provider(provider()?),
        (_, "FORECAST") => {
            let resolution: String = row.try_get("", "resolution")?;
            Subject::Forecast(ForecastChange {
                series: SeriesKey {
                    unit: unit()?,
                    provider: provider()?,
                    resolution: resolution.parse().map_err(|error| malformed(&error))?,
                },
                series_id: row.try_get("", "series_id")?,
                run_id: row.try_get("", "run_id")?,
                from: row.try_get("", "range_start")?,
                to: row.try_get("", "range_end")?,
            })
        }
        (_, "NOTIFICATION") => Subject::Notification(NotificationChange {
            notification_id: row.try_get("", "notification_id")?,
            user_id: row.try_get("", "user_id")?,
            marked_at: row.try_get("", "marked_at")?,
        }),
        (_, other) => Subject::Other(other.to_owned()),
    };
    Ok(Change {
        position,
        operation,
        changed_at: row.try_get("", "changed_at")?,
        subject,
    })
}

/// Numbers everything that has no position yet; for SQLite, inside a write
/// transaction, where nobody else can be writing. What triggers have noted of
/// touched day curves becomes changes here. Returns the head and how many were
/// numbered.
pub async fn number_pending(db: &impl ConnectionTrait) -> Result<(Position, u64), DbErr> {
    const NUMBER: &str = "UPDATE change SET position = (SELECT head FROM tick) + pending.ordinal \
         FROM (SELECT id, row_number() OVER (ORDER BY id) AS ordinal FROM change WHERE position IS NULL {which}) AS pending \
         WHERE change.id = pending.id";
    const FOLD: &str = "INSERT INTO change (position, entity, operation, unit_type, unit_number, provider_key, resolution, \
                             series_id, run_id, range_start, range_end, changed_at) \
         SELECT (SELECT head FROM tick) + ordinal, 'FORECAST', operation, unit_type, unit_number, provider_key, resolution, \
                series_id, run_id, range_start, range_end, changed_at \
         FROM touched_forecast_range";
    let mut numbered = 0;
    for sql in [
        &NUMBER.replace("{which}", "AND operation <> 'RESYNC'"),
        FOLD,
        // It voids what came before it: it comes last.
        &NUMBER.replace("{which}", ""),
    ] {
        let rows = db.execute_unprepared(sql).await?.rows_affected();
        if rows > 0 {
            advance_head(db, rows).await?;
            numbered += rows;
        }
    }
    db.execute_unprepared("DELETE FROM touched_forecast_curve")
        .await?;
    Ok((read_head(db).await?, numbered))
}

/// Whether somebody left changes without a position, on SQLite.
async fn is_pending(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let row = db
        .query_one_raw(Statement::from_string(
            DbBackend::Sqlite,
            "SELECT EXISTS (SELECT 1 FROM change WHERE position IS NULL) \
             OR EXISTS (SELECT 1 FROM touched_forecast_curve) AS pending",
        ))
        .await?;
    match row {
        Some(row) => row.try_get("", "pending"),
        None => Ok(false),
    }
}

async fn advance_head(db: &impl ConnectionTrait, numbered: u64) -> Result<(), DbErr> {
    let numbered = i64::try_from(numbered).unwrap_or(i64::MAX);
    db.execute_raw(Statement::from_sql_and_values(
        DbBackend::Sqlite,
        "UPDATE tick SET head = head + ?1, ticked_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')",
        [numbered.into()],
    ))
    .await?;
    Ok(())
}

/// Begins another epoch on SQLite, in a database that was put in place of
/// another. The numbered part of the log goes: nobody can resume from it.
pub async fn begin_epoch(db: &Database) -> Result<Position, DbErr> {
    let txn = db.begin().await?;
    for sql in [
        "DELETE FROM change WHERE position IS NOT NULL",
        "UPDATE tick SET epoch = random() & 2147483647",
    ] {
        txn.execute_unprepared(sql).await?;
    }
    let head = read_head(&txn).await?;
    txn.commit().await?;
    Ok(head)
}

/// Removes the oldest changes that were made before `before`, at most a page
/// of them, and the ticks that only they needed. Returns how many changes went.
pub async fn prune(db: &impl ConnectionTrait, before: OffsetDateTime) -> Result<u64, DbErr> {
    let backend = db.get_database_backend();
    let oldest: Vec<(i64, OffsetDateTime)> = change::Entity::find()
        .select_only()
        .columns([change::Column::Position, change::Column::ChangedAt])
        .filter(change::Column::Position.is_not_null())
        .order_by_asc(change::Column::Position)
        .limit(PAGE)
        .into_tuple()
        .all(db)
        .await?;
    let Some((last, _)) = oldest
        .into_iter()
        .take_while(|(_, changed_at)| *changed_at < before)
        .last()
    else {
        return Ok(0);
    };
    let gone = change::Entity::delete_many()
        .filter(change::Column::Position.lte(last))
        .exec(db)
        .await?
        .rows_affected;
    if backend == DbBackend::Postgres {
        db.execute_raw(Statement::from_sql_and_values(
            backend,
            "DELETE FROM tick WHERE ticked_at < $1 AND id < (SELECT max(id) FROM tick)",
            [instant(backend, before)],
        ))
        .await?;
    }
    Ok(gone)
}
