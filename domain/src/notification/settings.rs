//! What a user wants to get, and how, set at once.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Value};
use time::OffsetDateTime;

use super::preference::{self, fault_of_category};
use super::user::{fault_of_key, fault_of_locale, fault_of_zone};
use super::{NotificationError, Preference, QuietHours, delivery};
use crate::database::{Database, Transaction, again, json_list, sql, texts};
use crate::{Patch, Violation};

/// What a user wants from now on; what is absent is left as it is.
#[derive(Debug, Clone, Default)]
pub struct SettingsUpdate {
    pub preferences: Vec<Preference>,
    pub quiet_hours: Patch<QuietHours>,
    /// Whether what is critical comes although a preference says no.
    pub critical_overrides: Option<bool>,
    /// Topics to be added.
    pub subscribe: Vec<String>,
    /// Topics to be taken off.
    pub unsubscribe: Vec<String>,
    pub locale: Patch<String>,
    pub time_zone: Option<String>,
}

/// Sets all that is given, or nothing.
pub async fn update_settings(
    db: &Database,
    user_id: i64,
    update: &SettingsUpdate,
    now: OffsetDateTime,
) -> Result<(), NotificationError> {
    NotificationError::check(faults(update))?;
    again(|| async {
        let txn = db.begin().await?;
        lock_user(&txn, user_id).await?;
        set_user(&txn, user_id, update).await?;
        for preference in &update.preferences {
            preference::set(&txn, user_id, preference).await?;
            if let (Some(category), Some(channel), Some(false)) =
                (&preference.category, preference.channel, preference.enabled)
            {
                // What waits is what the user no longer wants.
                delivery::cancel(
                    &txn,
                    "user_id = $1 AND channel = $2 AND EXISTS \
                 (SELECT 1 FROM notification n WHERE n.id = notification_id AND n.category = $3)",
                    [
                        user_id.into(),
                        channel.as_str().into(),
                        category.clone().into(),
                    ],
                    "the user does not want it any more",
                    now,
                )
                .await?;
            }
        }
        set_topics(&txn, user_id, update).await?;
        Ok(txn.commit().await?)
    })
    .await
}

fn faults(update: &SettingsUpdate) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut wrong = |path: String, fault: &str| violations.push(Violation::new(path, fault));
    for (i, preference) in update.preferences.iter().enumerate() {
        if let Some(fault) = preference.category.as_deref().and_then(fault_of_category) {
            wrong(format!("preferences[{i}].category"), fault);
        }
    }
    if let Patch::Set(QuietHours { from, until }) = update.quiet_hours
        && (from == until || from >= 1440 || until >= 1440)
    {
        wrong(
            "quietHours".into(),
            "quiet hours begin and end at different minutes of the day, 00:00 to 23:59",
        );
    }
    for (field, topics) in [
        ("subscribe", &update.subscribe),
        ("unsubscribe", &update.unsubscribe),
    ] {
        for (i, topic) in topics.iter().enumerate() {
            if let Some(fault) = fault_of_key(topic) {
                wrong(format!("{field}[{i}]"), fault);
            }
        }
    }
    if let Patch::Set(locale) = &update.locale
        && let Some(fault) = fault_of_locale(locale)
    {
        wrong("locale".into(), fault);
    }
    if let Some(fault) = update.time_zone.as_deref().and_then(fault_of_zone) {
        wrong("timeZone".into(), fault);
    }
    violations
}

/// Two updates of one user wait for each other's end, in whatever order they name
/// preferences and topics.
async fn lock_user(txn: &Transaction, user_id: i64) -> Result<(), DbErr> {
    if txn.get_database_backend() == DbBackend::Postgres {
        let text = "SELECT id FROM user_account WHERE id = $1 FOR NO KEY UPDATE";
        txn.query_one_raw(sql(txn, text, [user_id.into()])).await?;
    }
    Ok(())
}

async fn set_user(txn: &Transaction, user_id: i64, update: &SettingsUpdate) -> Result<(), DbErr> {
    let mut values: Vec<Value> = vec![user_id.into()];
    let mut assignments = Vec::new();
    let mut assign = |column: &str, value: Value| {
        values.push(value);
        assignments.push(format!("{column} = ${}", values.len()));
    };
    let quiet = match update.quiet_hours {
        Patch::Keep => None,
        Patch::Clear => Some((None, None)),
        Patch::Set(QuietHours { from, until }) => Some((Some(from), Some(until))),
    };
    if let Some((from, until)) = quiet {
        let minute = |value: Option<u16>| value.and_then(|value| i16::try_from(value).ok());
        assign("quiet_from", minute(from).into());
        assign("quiet_until", minute(until).into());
    }
    if let Some(overrides) = update.critical_overrides {
        assign("critical_overrides", overrides.into());
    }
    match &update.locale {
        Patch::Keep => {}
        Patch::Clear => assign("locale", None::<String>.into()),
        Patch::Set(locale) => assign("locale", locale.clone().into()),
    }
    if let Some(zone) = &update.time_zone {
        assign("time_zone", zone.clone().into());
    }
    if assignments.is_empty() {
        return Ok(());
    }
    let text = format!(
        "UPDATE user_account SET {} WHERE id = $1",
        assignments.join(", ")
    );
    txn.execute_raw(sql(txn, text, values)).await?;
    Ok(())
}

async fn set_topics(txn: &Transaction, user_id: i64, update: &SettingsUpdate) -> Result<(), DbErr> {
    let backend = txn.get_database_backend();
    if !update.subscribe.is_empty() {
        let listed = match backend {
            DbBackend::Sqlite => "SELECT value, $2 FROM json_each($1)",
            _ => "SELECT json_array_elements_text($1::json), $2",
        };
        txn.execute_raw(sql(
            txn,
            // Without a condition SQLite would take ON for that of a join.
            format!(
                "INSERT INTO topic_subscription (topic, user_id) {listed} WHERE true ON CONFLICT DO NOTHING"
            ),
            [json_list(&update.subscribe), user_id.into()],
        ))
        .await?;
    }
    if !update.unsubscribe.is_empty() {
        txn.execute_raw(sql(
            txn,
            format!(
                "DELETE FROM topic_subscription WHERE user_id = $2 AND topic IN {}",
                texts(backend, "$1")
            ),
            [json_list(&update.unsubscribe), user_id.into()],
        ))
        .await?;
    }
    Ok(())
}
