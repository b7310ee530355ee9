//! Keys in the database.

use entities::api_key;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Statement, Value,
};
use time::{OffsetDateTime, UtcOffset};

use super::{
    AccessError, ApiKey, Hash, NewApiKey, Roles, Secret, fault_of_companies, fault_of_user,
};
use crate::Violation;
use crate::database::{Database, instant};
use crate::unit::UnitKey;
use crate::violation::fault_of_name;

fn from_row(row: api_key::Model) -> Result<ApiKey, DbErr> {
    let bad = |what: &str| DbErr::Type(format!("API key {}: {what}", row.id));
    let companies = row
        .companies
        .split(',')
        .filter(|key| !key.is_empty())
        .map(|key| key.parse().map_err(|_| bad("a company is none")))
        .collect::<Result<_, _>>()?;
    Ok(ApiKey {
        hash: Hash::read(&row.hash).ok_or_else(|| bad("the hash is none"))?,
        roles: Roles::of_words(row.roles.split(',')),
        companies,
        id: row.id,
        name: row.name,
        user: row.user_key,
        prefix: row.prefix,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
        last_used_at: row.last_used_at,
    })
}

async fn by_id(db: &impl ConnectionTrait, id: i64) -> Result<ApiKey, AccessError> {
    let row = api_key::Entity::find_by_id(id).one(db).await?;
    let row = row.ok_or(AccessError::UnknownKey(id))?;
    Ok(from_row(row)?)
}

/// The key whose secret has this hash, revoked or not.
pub async fn by_hash(db: &impl ConnectionTrait, hash: &Hash) -> Result<Option<ApiKey>, DbErr> {
    api_key::Entity::find()
        .filter(api_key::Column::Hash.eq(hash.to_string()))
        .one(db)
        .await?
        .map(from_row)
        .transpose()
}

/// Which of these keys are there and not revoked.
pub async fn unrevoked(db: &impl ConnectionTrait, ids: &[i64]) -> Result<Vec<i64>, DbErr> {
    api_key::Entity::find()
        .select_only()
        .column(api_key::Column::Id)
        .filter(api_key::Column::Id.is_in(ids.iter().copied()))
        .filter(api_key::Column::RevokedAt.is_null())
        .into_tuple()
        .all(db)
        .await
}

/// Up to `limit` keys in order of their ids, after or before one.
pub async fn page(
    db: &impl ConnectionTrait,
    after: Option<i64>,
    before: Option<i64>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<ApiKey>, DbErr> {
    let mut query = api_key::Entity::find().limit(limit);
    if let Some(id) = after {
        query = query.filter(api_key::Column::Id.gt(id));
    }
    if let Some(id) = before {
        query = query.filter(api_key::Column::Id.lt(id));
    }
    query = if from_end {
        query.order_by_desc(api_key::Column::Id)
    } else {
        query.order_by_asc(api_key::Column::Id)
    };
    let mut rows = query.all(db).await?;
    if from_end {
        rows.reverse();
    }
    rows.into_iter().map(from_row).collect()
}

/// Writes a key of this secret.
pub async fn create(
    db: &Database,
    new: &NewApiKey,
    secret: &Secret,
    now: OffsetDateTime,
) -> Result<ApiKey, AccessError> {
    validate(new, now)?;
    let companies: Vec<String> = new.companies.iter().map(UnitKey::to_string).collect();
    let at = |at| instant(db.backend(), at);
    let mut values: Vec<Value> = vec![
        new.name.as_str().into(),
        new.user.as_str().into(),
        new.roles.to_string().into(),
        companies.join(",").into(),
        secret.hash().to_string().into(),
        secret.prefix().into(),
        at(now),
    ];
    let (column, place) = match new.expires_at {
        Some(expires_at) => {
            values.push(at(expires_at));
            (", expires_at", ", $8")
        }
        None => ("", ""),
    };
    let sql = format!(
        "INSERT INTO api_key (name, user_key, roles, companies, hash, prefix, created_at{column}) \
         VALUES ($1, $2, $3, $4, $5, $6, $7{place}) RETURNING id"
    );
    let row = db
        .writer()
        .query_one_raw(Statement::from_sql_and_values(db.backend(), sql, values))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an API key that was just written".into()))?;
    by_id(db.writer(), row.try_get("", "id")?).await
}

fn validate(new: &NewApiKey, now: OffsetDateTime) -> Result<(), AccessError> {
    let faults = [
        ("name", fault_of_name(&new.name)),
        ("user", fault_of_user(&new.user)),
        ("companies", fault_of_companies(&new.companies)),
        (
            "expiresAt",
            new.expires_at
                .is_some_and(|at| at <= now || at.checked_to_offset(UtcOffset::UTC).is_none())
                .then_some("a new key expires later than now, and before the year 10000"),
        ),
    ];
    let violations: Vec<Violation> = faults
        .into_iter()
        .filter_map(|(path, fault)| Some(Violation::new(path, fault?)))
        .collect();
    if violations.is_empty() {
        Ok(())
    } else {
        Err(AccessError::Invalid(violations))
    }
}

/// Takes a key back, for good. One that was revoked stays so, since then.
pub async fn revoke(db: &Database, id: i64, now: OffsetDateTime) -> Result<ApiKey, AccessError> {
    db.writer()
        .execute_raw(Statement::from_sql_and_values(
            db.backend(),
            "UPDATE api_key SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            [instant(db.backend(), now), id.into()],
        ))
        .await?;
    by_id(db.writer(), id).await
}

/// Notes when a key was last used.
pub async fn note_use(db: &Database, id: i64, at: OffsetDateTime) -> Result<(), DbErr> {
    db.writer()
        .execute_raw(Statement::from_sql_and_values(
            db.backend(),
            "UPDATE api_key SET last_used_at = $1 \
             WHERE id = $2 AND (last_used_at IS NULL OR last_used_at < $1)",
            [instant(db.backend(), at), id.into()],
        ))
        .await?;
    Ok(())
}
