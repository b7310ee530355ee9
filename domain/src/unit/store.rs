//! Units in the database.

use std::collections::{HashMap, HashSet};

use entities::{unit, unit_capacity};
use sea_orm::sea_query::{Condition, Expr, ExprTrait, LockType, OnConflict};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use time::OffsetDateTime;

use super::{Capacity, Unit, UnitError, UnitKey, UnitType, UnitUpsert};
use crate::change::{self, Receipt};
use crate::database::{self, Database, Transaction, again, instant, json_list};
use crate::violation::fault_of_name;
use crate::{Patch, Violation, quote};

/// Which units; what is absent matches all.
#[derive(Debug, Clone, Default)]
pub struct UnitFilter {
    pub keys: Option<Vec<UnitKey>>,
    pub unit_types: Option<Vec<UnitType>>,
    pub parent: Option<UnitKey>,
    /// A part of the name, in any case.
    pub name_contains: Option<String>,
}

/// By what a list of units is sorted. The unit's key settles ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitSort {
    Key,
    Name,
}

/// The units of these keys, in one parameter for each type: statements have a
/// limit of parameters.
fn any_key<'a>(backend: DbBackend, keys: impl IntoIterator<Item = &'a UnitKey>) -> Condition {
    let mut numbers: HashMap<UnitType, Vec<i64>> = HashMap::new();
    for key in keys {
        numbers
            .entry(key.unit_type())
            .or_default()
            .push(key.number());
    }
    // PostgreSQL uses the index below an OR for an array, and not for a subquery.
    let is_one_of = match backend {
        DbBackend::Postgres => {
            let given = database::numbers(backend, "$1");
            format!("\"unit\".\"unit_number\" = ANY(ARRAY{given})")
        }
        _ => {
            let given = database::numbers(backend, "?");
            format!("\"unit\".\"unit_number\" IN {given}")
        }
    };
    if numbers.is_empty() {
        return Condition::any().add(Expr::val(1).eq(0));
    }
    let mut any = Condition::any();
    for (unit_type, numbers) in numbers {
        any = any.add(
            unit::Column::UnitType
                .eq(unit_type.as_str())
                .and(Expr::cust_with_values(
                    is_one_of.clone(),
                    [json_list(&numbers)],
                )),
        );
    }
    any
}

fn key_of(row: &unit::Model) -> Result<UnitKey, DbErr> {
    row.unit_type
        .parse()
        .and_then(|unit_type| UnitKey::new(unit_type, row.unit_number))
        .map_err(|error| DbErr::Type(format!("unit {}: {error}", row.id)))
}

/// Adds what stands in other tables: the parent's key and the capacity history.
async fn complete(db: &impl ConnectionTrait, rows: Vec<unit::Model>) -> Result<Vec<Unit>, DbErr> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let parents: HashSet<i64> = rows.iter().filter_map(|row| row.parent_id).collect();
    let mut parent_keys = HashMap::new();
    if !parents.is_empty() {
        for row in unit::Entity::find()
            .filter(unit::Column::Id.is_in(parents))
            .all(db)
            .await?
        {
            parent_keys.insert(row.id, key_of(&row)?);
        }
    }
    let mut capacity: HashMap<i64, Vec<Capacity>> = HashMap::new();
    for row in unit_capacity::Entity::find()
        .filter(unit_capacity::Column::UnitId.is_in(rows.iter().map(|row| row.id)))
        .order_by_asc(unit_capacity::Column::ValidFrom)
        .all(db)
        .await?
    {
        capacity.entry(row.unit_id).or_default().push(Capacity {
            valid_from: row.valid_from,
            capacity_mw: row.capacity_mw,
        });
    }
    rows.into_iter()
        .map(|row| {
            Ok(Unit {
                id: row.id,
                key: key_of(&row)?,
                parent: row.parent_id.and_then(|id| parent_keys.get(&id).copied()),
                capacity: capacity.remove(&row.id).unwrap_or_default(),
                name: row.name,
                time_zone: row.time_zone,
            })
        })
        .collect()
}

/// The units with these keys, those that exist, in no order.
pub async fn by_keys(db: &impl ConnectionTrait, keys: &[UnitKey]) -> Result<Vec<Unit>, DbErr> {
    let rows = unit::Entity::find()
        .filter(any_key(db.get_database_backend(), keys))
        .all(db)
        .await?;
    complete(db, rows).await
}

/// Up to `limit` units in order, after or before a unit of the same order (its
/// name and key), from the list's start or its end.
pub async fn page(
    db: &impl ConnectionTrait,
    filter: &UnitFilter,
    (sort, descending): (UnitSort, bool),
    after: Option<(&str, UnitKey)>,
    before: Option<(&str, UnitKey)>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<Unit>, DbErr> {
    if filter
        .name_contains
        .as_ref()
        .is_some_and(|part| part.contains('\0'))
    {
        // No name has a NUL, and PostgreSQL takes none to look for.
        return Ok(Vec::new());
    }
    let mut query = unit::Entity::find().limit(limit);
    if let Some(keys) = &filter.keys {
        query = query.filter(any_key(db.get_database_backend(), keys));
    }
    if let Some(types) = &filter.unit_types {
        query = query.filter(unit::Column::UnitType.is_in(types.iter().map(|t| t.as_str())));
    }
    if let Some(parent) = &filter.parent {
        let ids: Vec<i64> = unit::Entity::find()
            .filter(any_key(db.get_database_backend(), [parent]))
            .all(db)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect();
        query = query.filter(unit::Column::ParentId.is_in(ids));
    }
    if let Some(part) = &filter.name_contains {
        let escaped = part
            .replace('\\', "\\\\")
            .replace('%', "\\%")
            .replace('_', "\\_");
        // The database's own idea of lower case on both sides: SQLite's knows
        // ASCII only, and would never find `Çeşme` in what we make of it.
        let parameter = match db.get_database_backend() {
            DbBackend::Postgres => "$1",
            _ => "?",
        };
        query = query.filter(Expr::cust_with_values(
            format!("lower(name) LIKE lower({parameter}) ESCAPE '\\'"),
            [format!("%{escaped}%")],
        ));
    }
    let bounds = [
        after.map(|bound| (bound, !descending)),
        before.map(|bound| (bound, descending)),
    ];
    for ((name, key), greater) in bounds.into_iter().flatten() {
        query = query.filter(beyond(sort, name, key, greater));
    }
    let ascending = descending == from_end;
    let order = if ascending {
        sea_orm::Order::Asc
    } else {
        sea_orm::Order::Desc
    };
    if sort == UnitSort::Name {
        query = query.order_by(unit::Column::Name, order.clone());
    }
    let mut rows = query
        .order_by(unit::Column::UnitType, order.clone())
        .order_by(unit::Column::UnitNumber, order)
        .all(db)
        .await?;
    if from_end {
        rows.reverse();
    }
    complete(db, rows).await
}

/// The rows strictly beyond a unit in the given order.
fn beyond(sort: UnitSort, name: &str, key: UnitKey, greater: bool) -> Condition {
    let past = |column: unit::Column, value: sea_orm::Value| {
        if greater {
            column.gt(value)
        } else {
            column.lt(value)
        }
    };
    let unit_type = key.unit_type().as_str();
    let by_key = Condition::any()
        .add(past(unit::Column::UnitType, unit_type.into()))
        .add(
            unit::Column::UnitType
                .eq(unit_type)
                .and(past(unit::Column::UnitNumber, key.number().into())),
        );
    match sort {
        UnitSort::Key => by_key,
        UnitSort::Name => Condition::any()
            .add(past(unit::Column::Name, name.into()))
            .add(
                Condition::all()
                    .add(unit::Column::Name.eq(name))
                    .add(by_key),
            ),
    }
}

/// Creates or updates units, all or none; a parent may be created by the same
/// call. What is already so changes nothing and is not in the change log.
pub async fn upsert(db: &Database, units: &[UnitUpsert]) -> Result<Receipt, UnitError> {
    validate(units)?;
    again(|| async {
        let txn = db.begin().await?;
        if let Err(error) = write_valid(&txn, units).await {
            txn.rollback().await;
            return Err(error);
        }
        Ok(change::commit(txn).await?)
    })
    .await
}

/// [`upsert`] inside a transaction, which is to be rolled back after an error.
pub async fn write(txn: &Transaction, units: &[UnitUpsert]) -> Result<(), UnitError> {
    validate(units)?;
    write_valid(txn, units).await
}

fn refuse(mut violations: Vec<Violation>) -> Result<(), UnitError> {
    if violations.is_empty() {
        return Ok(());
    }
    violations.truncate(Violation::MOST);
    Err(UnitError::Invalid(violations))
}

fn validate(units: &[UnitUpsert]) -> Result<(), UnitError> {
    let mut violations = Vec::new();
    let mut seen = HashSet::new();
    for (i, input) in units.iter().enumerate() {
        let mut wrong = |field: &str, message: String| {
            violations.push(Violation::new(format!("units[{i}].{field}"), message));
        };
        if !seen.insert(input.key) {
            wrong("key", format!("{} is given twice", input.key));
        }
        match &input.name {
            Patch::Clear => wrong("name", "a unit has a name".into()),
            Patch::Set(name) => {
                if let Some(fault) = fault_of_name(name) {
                    wrong("name", fault.into());
                }
            }
            Patch::Keep => {}
        }
        match &input.time_zone {
            Patch::Clear => wrong("timeZone", "a unit has a time zone".into()),
            Patch::Set(zone) if jiff::tz::TimeZone::get(zone).is_err() => wrong(
                "timeZone",
                format!(
                    "{} is not an IANA time zone, such as Europe/Istanbul",
                    quote(zone)
                ),
            ),
            _ => {}
        }
        if let Patch::Set(mw) = input.capacity_mw
            && !(mw.is_finite() && mw >= 0.0)
        {
            wrong(
                "capacityMw",
                "a capacity is a finite number of MW from 0".into(),
            );
        }
        if input.capacity_valid_from.is_some() && !matches!(input.capacity_mw, Patch::Set(_)) {
            wrong("capacityValidFrom", "needs capacityMw beside it".into());
        }
        if input.parent == Patch::Set(input.key) {
            wrong("parent", "a unit is not its own parent".into());
        }
    }
    refuse(violations)
}

async fn write_valid(txn: &Transaction, units: &[UnitUpsert]) -> Result<(), UnitError> {
    let backend = txn.get_database_backend();
    let places = |input: &UnitUpsert| matches!(input.parent, Patch::Set(_));
    if backend == DbBackend::Postgres && units.iter().any(places) {
        // Neither of two callers sees the other's parents before both have
        // committed: together they could close a circle.
        txn.execute_unprepared(
            "SELECT pg_advisory_xact_lock(hashtext('smartpulse'), hashtext('unit_parent'))",
        )
        .await?;
    }
    // All that follows goes in this one order, so that two callers cannot wait for
    // each other.
    let mut order: Vec<&UnitUpsert> = units.iter().collect();
    order.sort_by_key(|input| input.key);
    let mut existing = Vec::new();
    for input in &order {
        if !create_row(txn, input).await? {
            existing.push(input);
        }
    }
    lock_rows(txn, units).await?;
    for input in existing {
        update_row(txn, input).await?;
    }
    let mut named: Vec<UnitKey> = units.iter().map(|input| input.key).collect();
    named.extend(units.iter().filter_map(|input| match input.parent {
        Patch::Set(parent) => Some(parent),
        _ => None,
    }));
    let mut ids = HashMap::new();
    for row in unit::Entity::find()
        .filter(any_key(txn.get_database_backend(), &named))
        .all(txn)
        .await?
    {
        ids.insert(key_of(&row)?, (row.id, row.parent_id));
    }
    let unknown = units.iter().enumerate().filter_map(|(i, input)| {
        let Patch::Set(parent) = input.parent else {
            return None;
        };
        let message = format!("there is no unit {parent}");
        let fault = Violation::new(format!("units[{i}].parent"), message);
        (!ids.contains_key(&parent)).then_some(fault)
    });
    refuse(unknown.collect())?;
    for input in order {
        let (id, old_parent) = ids[&input.key];
        let parent = match input.parent {
            Patch::Keep => old_parent,
            Patch::Clear => None,
            Patch::Set(parent) => Some(ids[&parent].0),
        };
        if parent != old_parent {
            unit::Entity::update_many()
                .col_expr(unit::Column::ParentId, Expr::value(parent))
                .filter(unit::Column::Id.eq(id))
                .exec(txn)
                .await?;
        }
        match input.capacity_mw {
            Patch::Keep => {}
            Patch::Clear => {
                unit_capacity::Entity::delete_many()
                    .filter(unit_capacity::Column::UnitId.eq(id))
                    .exec(txn)
                    .await?;
            }
            Patch::Set(mw) => {
                let from = input
                    .capacity_valid_from
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH);
                txn.execute_raw(Statement::from_sql_and_values(
                    backend,
                    "INSERT INTO unit_capacity (unit_id, valid_from, capacity_mw) VALUES ($1, $2, $3) \
                     ON CONFLICT (unit_id, valid_from) DO UPDATE SET capacity_mw = excluded.capacity_mw",
                    [id.into(), instant(backend, from), mw.into()],
                ))
                .await?;
            }
        }
    }
    refuse(cycles(txn, units, &ids).await?)
}

/// Creates a unit, and says whether it did: one that exists is neither written
/// nor locked.
async fn create_row(txn: &Transaction, input: &UnitUpsert) -> Result<bool, DbErr> {
    let given = |patch: &Patch<String>| match patch {
        Patch::Set(value) => Some(value.clone()),
        Patch::Keep | Patch::Clear => None,
    };
    let row = unit::ActiveModel {
        id: NotSet,
        unit_type: Set(input.key.unit_type().as_str().to_owned()),
        unit_number: Set(input.key.number()),
        name: Set(given(&input.name).unwrap_or_else(|| input.key.to_string())),
        time_zone: Set(given(&input.time_zone).unwrap_or_else(|| "UTC".to_owned())),
        parent_id: NotSet,
    };
    let mut on_conflict = OnConflict::columns([unit::Column::UnitType, unit::Column::UnitNumber]);
    let created = unit::Entity::insert(row)
        .on_conflict(on_conflict.do_nothing().to_owned())
        .exec_without_returning(txn)
        .await?;
    Ok(created == 1)
}

/// Locks the units before anything of them is written: a row that only later
/// statements touch would be locked out of order.
async fn lock_rows(txn: &Transaction, units: &[UnitUpsert]) -> Result<(), DbErr> {
    if txn.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let keys = units.iter().map(|input| &input.key);
    unit::Entity::find()
        .select_only()
        .column(unit::Column::Id)
        .filter(any_key(txn.get_database_backend(), keys))
        .order_by_asc(unit::Column::UnitType)
        .order_by_asc(unit::Column::UnitNumber)
        .lock(LockType::NoKeyUpdate)
        .into_tuple::<i64>()
        .all(txn)
        .await?;
    Ok(())
}

/// Writes the name and time zone that are given.
async fn update_row(txn: &Transaction, input: &UnitUpsert) -> Result<(), DbErr> {
    let columns = [
        (unit::Column::Name, &input.name),
        (unit::Column::TimeZone, &input.time_zone),
    ];
    let mut update = unit::Entity::update_many();
    let mut is_any = false;
    for (column, patch) in columns {
        if let Patch::Set(value) = patch {
            update = update.col_expr(column, Expr::value(value.clone()));
            is_any = true;
        }
    }
    if is_any {
        update
            .filter(unit::Column::UnitType.eq(input.key.unit_type().as_str()))
            .filter(unit::Column::UnitNumber.eq(input.key.number()))
            .exec(txn)
            .await?;
    }
    Ok(())
}

/// Follows each new parent upwards: a unit must not come back to itself.
async fn cycles(
    txn: &Transaction,
    units: &[UnitUpsert],
    ids: &HashMap<UnitKey, (i64, Option<i64>)>,
) -> Result<Vec<Violation>, DbErr> {
    let mut violations = Vec::new();
    for (i, input) in units.iter().enumerate() {
        if !matches!(input.parent, Patch::Set(_)) {
            continue;
        }
        let row = txn
            .query_one_raw(Statement::from_sql_and_values(
                txn.get_database_backend(),
                "WITH RECURSIVE above (id) AS ( \
                     SELECT parent_id FROM unit WHERE id = $1 AND parent_id IS NOT NULL \
                     UNION SELECT u.parent_id FROM unit u JOIN above a ON u.id = a.id WHERE u.parent_id IS NOT NULL) \
                 SELECT 1 AS found FROM above WHERE id = $1",
                [ids[&input.key].0.into()],
            ))
            .await?;
        if row.is_some() {
            violations.push(Violation::new(
                format!("units[{i}].parent"),
                format!("{} would be above itself", input.key),
            ));
        }
    }
    Ok(violations)
}
