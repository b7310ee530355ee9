//! Providers: who forecasts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use entities::provider;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use thiserror::Error;

use crate::Violation;
use crate::change::{self, Receipt};
use crate::database::{Database, Transaction, again};
use crate::violation::fault_of_name;

/// Names one provider: `provider-a`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderKey(Arc<str>);

/// The text is not a provider key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a provider key has 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, and begins with a letter or digit"
)]
pub struct ParseProviderKeyError;

impl ProviderKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProviderKey {
    type Err = ParseProviderKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=64).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b"._-".contains(&b));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(ParseProviderKeyError)
        }
    }
}

/// Who forecasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub id: i64,
    pub key: ProviderKey,
    pub name: String,
}

/// What to write of a provider; what is absent is left as it is.
#[derive(Debug, Clone)]
pub struct ProviderUpsert {
    pub key: ProviderKey,
    /// The key, for a new provider that gives none.
    pub name: Option<String>,
}

/// Why providers could not be read or written.
#[derive(Debug, Clone, Error)]
pub enum ProviderError {
    #[error("{}; nothing was written", Violation::summary(.0))]
    Invalid(Vec<Violation>),
    #[error("the database failed")]
    Database(#[from] DbErr),
}

fn from_row(row: provider::Model) -> Result<Provider, DbErr> {
    Ok(Provider {
        id: row.id,
        key: row
            .key
            .parse()
            .map_err(|error| DbErr::Type(format!("provider {}: {error}", row.id)))?,
        name: row.name,
    })
}

/// The providers with these keys, those that exist.
pub async fn by_keys(
    db: &impl ConnectionTrait,
    keys: &[ProviderKey],
) -> Result<Vec<Provider>, DbErr> {
    provider::Entity::find()
        .filter(provider::Column::Key.is_in(keys.iter().map(ProviderKey::as_str)))
        .all(db)
        .await?
        .into_iter()
        .map(from_row)
        .collect()
}

/// Up to `limit` providers in order of their keys, after or before a key.
pub async fn page(
    db: &impl ConnectionTrait,
    after: Option<&ProviderKey>,
    before: Option<&ProviderKey>,
    limit: u64,
    from_end: bool,
) -> Result<Vec<Provider>, DbErr> {
    let mut query = provider::Entity::find().limit(limit);
    if let Some(key) = after {
        query = query.filter(provider::Column::Key.gt(key.as_str()));
    }
    if let Some(key) = before {
        query = query.filter(provider::Column::Key.lt(key.as_str()));
    }
    query = if from_end {
        query.order_by_desc(provider::Column::Key)
    } else {
        query.order_by_asc(provider::Column::Key)
    };
    let mut rows = query.all(db).await?;
    if from_end {
        rows.reverse();
    }
    rows.into_iter().map(from_row).collect()
}

/// Creates or updates providers, all or none. A name that is already so changes nothing.
pub async fn upsert(db: &Database, providers: &[ProviderUpsert]) -> Result<Receipt, ProviderError> {
    validate(providers)?;
    again(|| async {
        let txn = db.begin().await?;
        if let Err(error) = write_valid(&txn, providers).await {
            txn.rollback().await;
            return Err(error);
        }
        Ok(change::commit(txn).await?)
    })
    .await
}

fn validate(providers: &[ProviderUpsert]) -> Result<(), ProviderError> {
    let mut violations = Vec::new();
    for (i, input) in providers.iter().enumerate() {
        if let Some(fault) = input.name.as_deref().and_then(fault_of_name) {
            violations.push(Violation::new(format!("providers[{i}].name"), fault));
        }
        if providers[..i].iter().any(|other| other.key == input.key) {
            violations.push(Violation::new(
                format!("providers[{i}].key"),
                format!("{} is given twice", input.key),
            ));
        }
    }
    if !violations.is_empty() {
        violations.truncate(Violation::MOST);
        return Err(ProviderError::Invalid(violations));
    }
    Ok(())
}

/// [`upsert`] inside a transaction, which is to be rolled back after an error.
pub async fn write(txn: &Transaction, providers: &[ProviderUpsert]) -> Result<(), ProviderError> {
    validate(providers)?;
    write_valid(txn, providers).await
}

async fn write_valid(txn: &Transaction, providers: &[ProviderUpsert]) -> Result<(), ProviderError> {
    // In order of their keys, so that two callers cannot wait for each other.
    let mut inputs: Vec<_> = providers.iter().collect();
    inputs.sort_by(|a, b| a.key.cmp(&b.key));
    for input in inputs {
        let row = provider::ActiveModel {
            id: NotSet,
            key: Set(input.key.to_string()),
            name: Set(input.name.clone().unwrap_or_else(|| input.key.to_string())),
        };
        let mut on_conflict = OnConflict::column(provider::Column::Key);
        if input.name.is_some() {
            on_conflict.update_column(provider::Column::Name);
        } else {
            on_conflict.do_nothing();
        }
        provider::Entity::insert(row)
            .on_conflict(on_conflict)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}
