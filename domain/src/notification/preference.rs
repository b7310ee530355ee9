//! What a user wants to get, and over which channel.
//!
//! A preference is of everything, of a category, of a channel, or of a category
//! on a channel. The last, if there is one, decides alone. Without it neither
//! the category nor the channel may be off; and where neither has a preference,
//! that of everything decides. Without any, all comes.
//!
//! What is critical comes all the same, unless the user says otherwise: for good,
//! or by a category on a channel that is off. Who has ended mails of a category
//! gets none.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use super::Channel;
use crate::database::{Transaction, sql};

/// Whether a user wants something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// All categories, if absent.
    pub category: Option<String>,
    /// All channels, if absent.
    pub channel: Option<Channel>,
    /// No longer a preference at all, if absent.
    pub enabled: Option<bool>,
}

/// What is wrong with a category, if anything is.
pub(super) fn fault_of_category(category: &str) -> Option<&'static str> {
    let fits =
        (1..=100).contains(&category.chars().count()) && !category.contains(char::is_control);
    (!fits).then_some("a category has 1 to 100 characters, no control characters")
}

/// The preferences of a user.
pub async fn preferences(
    db: &impl ConnectionTrait,
    user_id: i64,
) -> Result<Vec<Preference>, DbErr> {
    let rows = db
        .query_all_raw(sql(
            db,
            "SELECT category, channel, enabled FROM notification_preference WHERE user_id = $1 \
             ORDER BY category, channel",
            [user_id.into()],
        ))
        .await?;
    rows.iter()
        .map(|row| {
            let category: String = row.try_get("", "category")?;
            let channel: String = row.try_get("", "channel")?;
            let channel = match channel.as_str() {
                "" => None,
                name => Some(
                    name.parse()
                        .map_err(|error| DbErr::Type(format!("a preference: {error}")))?,
                ),
            };
            Ok(Preference {
                category: (!category.is_empty()).then_some(category),
                channel,
                enabled: Some(row.try_get("", "enabled")?),
            })
        })
        .collect()
}

/// Sets a preference, or takes it back.
pub(super) async fn set(
    txn: &Transaction,
    user_id: i64,
    preference: &Preference,
) -> Result<(), DbErr> {
    let category = preference.category.clone().unwrap_or_default();
    let channel = preference.channel.map_or("", Channel::as_str);
    let statement = match preference.enabled {
        None => sql(
            txn,
            "DELETE FROM notification_preference WHERE user_id = $1 AND category = $2 AND channel = $3",
            [user_id.into(), category.into(), channel.into()],
        ),
        Some(enabled) => sql(
            txn,
            "INSERT INTO notification_preference (user_id, category, channel, enabled) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_id, category, channel) DO UPDATE SET enabled = excluded.enabled",
            [
                user_id.into(),
                category.into(),
                channel.into(),
                enabled.into(),
            ],
        ),
    };
    txn.execute_raw(statement).await?;
    Ok(())
}

/// An SQL condition: the user `u` wants the notification `n` over a channel,
/// itself an SQL expression.
pub(super) fn wants(backend: DbBackend, channel: &str) -> String {
    let (all, yes) = match backend {
        DbBackend::Sqlite => ("min", "1"),
        _ => ("bool_and", "true"),
    };
    let of = |what: &str, condition: &str| {
        format!(
            "(SELECT {what} FROM notification_preference p WHERE p.user_id = u.id AND {condition})"
        )
    };
    let exact = of(
        "p.enabled",
        &format!("p.category = n.category AND p.channel = {channel}"),
    );
    format!(
        "((n.severity = 'CRITICAL' AND u.critical_overrides AND coalesce({exact}, {yes})) \
          OR coalesce({exact}, {}, {}, {yes}))",
        of(
            &format!("{all}(p.enabled)"),
            &format!(
                "((p.category = n.category AND p.channel = '') OR (p.category = '' AND p.channel = {channel}))"
            )
        ),
        of("p.enabled", "p.category = '' AND p.channel = ''"),
    )
}
