//! Endpoints: where a user is reached on a channel that leaves the server.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Value};
use time::OffsetDateTime;

use super::{Channel, NotificationError, delivery};
use crate::database::{Database, Transaction, again, instant, sql};
use crate::{Violation, json};

/// An endpoint to register. That its address and secret are right is for its
/// channel to say, before.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    pub channel: Channel,
    pub address: String,
    pub secret: serde_json::Value,
}

/// An endpoint of a user, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredEndpoint {
    pub id: i64,
    pub channel: Channel,
    pub address: String,
    pub created_at: OffsetDateTime,
    /// When it was given up: nothing goes there any more.
    pub disabled_at: Option<OffsetDateTime>,
    pub disabled_reason: Option<String>,
}

/// Endpoints of one channel that a user may have.
const MOST: i64 = 50;
/// What an index takes.
const LONGEST_ADDRESS: usize = 2000;

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    channel: String,
    address: String,
    created_at: OffsetDateTime,
    disabled_at: Option<OffsetDateTime>,
    disabled_reason: Option<String>,
}

impl TryFrom<Row> for RegisteredEndpoint {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.id,
            channel: row
                .channel
                .parse()
                .map_err(|error| DbErr::Type(format!("endpoint {}: {error}", row.id)))?,
            address: row.address,
            created_at: row.created_at,
            disabled_at: row.disabled_at,
            disabled_reason: row.disabled_reason,
        })
    }
}

/// Registers an endpoint for a user. One that is registered already is theirs
/// from now on, with what it was registered with last, and no longer disabled.
pub async fn register(
    db: &Database,
    user_id: i64,
    endpoint: &NewEndpoint,
    now: OffsetDateTime,
) -> Result<RegisteredEndpoint, NotificationError> {
    if endpoint.address.len() > LONGEST_ADDRESS {
        let message = format!("an address has at most {LONGEST_ADDRESS} bytes");
        return Err(NotificationError::Invalid(vec![Violation::new(
            "address", message,
        )]));
    }
    again(|| async {
    let txn = db.begin().await?;
    let count = txn
        .query_one_raw(sql(
            &txn,
            "SELECT count(*) AS count FROM endpoint WHERE user_id = $1 AND channel = $2 AND address <> $3",
            [
                user_id.into(),
                endpoint.channel.as_str().into(),
                endpoint.address.clone().into(),
            ],
        ))
        .await?;
    let count: i64 = count.map_or(Ok(0), |row| row.try_get("", "count"))?;
    if count >= MOST {
        txn.rollback().await;
        return Err(NotificationError::Conflict(format!(
            "there are {MOST} endpoints of this channel already: unregister one first"
        )));
    }
    // A browser or device may be somebody else's until now.
    let whose = match endpoint.channel {
        Channel::WebPush | Channel::Fcm => {
            "(channel, address) WHERE channel IN ('WEB_PUSH', 'FCM')"
        }
        Channel::InApp | Channel::Email | Channel::Webhook => {
            "(user_id, address) WHERE channel = 'WEBHOOK'"
        }
    };
    let write = sql(
        &txn,
        format!(
            "INSERT INTO endpoint (user_id, channel, address, secret, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT {whose} DO UPDATE SET user_id = excluded.user_id, secret = excluded.secret, \
                 disabled_at = NULL, disabled_reason = NULL \
             RETURNING id, channel, address, created_at, disabled_at, disabled_reason"
        ),
        [
            user_id.into(),
            endpoint.channel.as_str().into(),
            endpoint.address.clone().into(),
            endpoint.secret.to_string().into(),
            instant(db.backend(), now),
        ],
    );
    let row = Row::find_by_statement(write)
        .one(&txn)
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an endpoint that was just written".into()))?;
    // What still waits for it was for who had it before.
    delivery::cancel(
        &txn,
        "endpoint_id = $1 AND user_id <> $2",
        [row.id.into(), user_id.into()],
        "the device was registered by another user",
        now,
    )
    .await?;
    txn.commit().await?;
    Ok(row.try_into()?)
    })
    .await
}

/// The endpoints of a user, the oldest first.
pub async fn endpoints(
    db: &impl ConnectionTrait,
    user_id: i64,
) -> Result<Vec<RegisteredEndpoint>, DbErr> {
    let statement = sql(
        db,
        "SELECT id, channel, address, created_at, disabled_at, disabled_reason FROM endpoint \
         WHERE user_id = $1 ORDER BY id",
        [user_id.into()],
    );
    let rows = Row::find_by_statement(statement).all(db).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Forgets an endpoint of a user. What waits for it no longer leaves; what became
/// of the rest stays to be looked at.
pub async fn unregister(
    db: &Database,
    user_id: i64,
    id: i64,
    now: OffsetDateTime,
) -> Result<(), NotificationError> {
    again(|| async {
        let txn = db.begin().await?;
        if !remove(
            &txn,
            "id = $1 AND user_id = $2",
            [id.into(), user_id.into()],
            now,
        )
        .await?
        {
            txn.rollback().await;
            return Err(NotificationError::unknown(
                format!("endpoint {id} of yours"),
                "id",
            ));
        }
        Ok(txn.commit().await?)
    })
    .await
}

/// Removes the endpoint that meets a condition, if there is one.
pub(super) async fn remove(
    txn: &Transaction,
    condition: &str,
    parameters: impl IntoIterator<Item = Value>,
    now: OffsetDateTime,
) -> Result<bool, DbErr> {
    let lock = match txn.get_database_backend() {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    };
    let find = format!("SELECT id FROM endpoint WHERE {condition} {lock}");
    let Some(row) = txn.query_one_raw(sql(txn, find, parameters)).await? else {
        return Ok(false);
    };
    let id: i64 = row.try_get("", "id")?;
    let reason = "the endpoint was forgotten";
    delivery::cancel(txn, "endpoint_id = $1", [id.into()], reason, now).await?;
    txn.execute_raw(sql(txn, "DELETE FROM endpoint WHERE id = $1", [id.into()]))
        .await?;
    Ok(true)
}

/// Gives a webhook of a user another secret, before those it has: receivers may
/// go on checking with the old one meanwhile. `make` is given what there is: null
/// if it cannot be read.
pub async fn set_secret(
    db: &Database,
    user_id: i64,
    id: i64,
    make: impl Fn(&serde_json::Value) -> serde_json::Value + Send + Sync,
) -> Result<(), NotificationError> {
    again(|| async {
    let txn = db.begin().await?;
    let lock = match txn.get_database_backend() {
        DbBackend::Postgres => "FOR UPDATE",
        _ => "",
    };
    let row = txn
        .query_one_raw(sql(
            &txn,
            format!(
                "SELECT secret FROM endpoint WHERE id = $1 AND user_id = $2 AND channel = 'WEBHOOK' {lock}"
            ),
            [id.into(), user_id.into()],
        ))
        .await?;
    let Some(row) = row else {
        txn.rollback().await;
        return Err(NotificationError::unknown(
            format!("webhook {id} of yours"),
            "id",
        ));
    };
    let text: String = row.try_get("", "secret")?;
    let secret =
        json::stored(&text, format_args!("the secret of endpoint {id}")).unwrap_or_default();
    txn.execute_raw(sql(
        &txn,
        "UPDATE endpoint SET secret = $2 WHERE id = $1",
        [id.into(), make(&secret).to_string().into()],
    ))
    .await?;
    Ok(txn.commit().await?)
    })
    .await
}
