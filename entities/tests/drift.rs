//! Each entity is selected from a freshly migrated database, so that entities
//! and migrations cannot drift apart.
#![cfg(test)]

use entities::{
    alert_cursor, alert_rule, alert_state, api_key, change, delivery, endpoint, forecast_curve,
    forecast_run, idempotency_key, notification, notification_attachment, notification_preference,
    notification_recipient, notification_throttle, provider, series, server_secret, tick,
    topic_subscription, unit, unit_capacity, user_account, user_group, user_group_member,
};
use migration::testing::TestDatabase;
use sea_orm::{ConnectionTrait, Database, DbBackend, EntityTrait};

async fn every_entity_selects(database: TestDatabase) {
    let db = Database::connect(database.url()).await.unwrap();
    // One row in each table, by plain SQL as another program would write it:
    // a column type that does not decode shows only with a row.
    for sql in [
        "INSERT INTO unit (unit_type, unit_number, name, time_zone) VALUES ('PLANT', 1, 'One', 'UTC')",
        "INSERT INTO unit_capacity (unit_id, valid_from, capacity_mw) VALUES (1, '2024-01-01T00:00:00.000000Z', 5.5)",
        "INSERT INTO provider (key, name) VALUES ('p', 'P')",
        "INSERT INTO series (unit_id, provider_id, resolution) VALUES (1, 1, 'PT1H')",
        "INSERT INTO forecast_run (provider_id, issued_at) VALUES (1, '2024-01-01T00:00:00.500000Z')",
        "INSERT INTO forecast_curve (series_id, day, issued_at, run_id, first_period, \"values\") \
         VALUES (1, '2024-01-02', '2024-01-01T00:00:00.500000Z', 1, 3, '[1, 2.5, null]')",
        "INSERT INTO api_key (name, user_key, roles, companies, hash, prefix, created_at, expires_at) \
         VALUES ('n', 'u', 'ADMIN', '', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'sp_abc', \
         '2024-01-01T00:00:00.000000Z', '2024-01-02T00:00:00.000000Z')",
        "INSERT INTO idempotency_key VALUES ('v', 'k', 'h', '{}', '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO server_secret VALUES ('n', 'v')",
        "INSERT INTO user_account (key, name) VALUES ('ada', 'Ada')",
        "INSERT INTO user_group (key, name) VALUES ('g', 'G')",
        "INSERT INTO user_group_member VALUES (1, 1)",
        "INSERT INTO topic_subscription VALUES ('t', 1)",
        "INSERT INTO notification_preference VALUES (1, '', 'EMAIL', false)",
        "INSERT INTO notification_throttle VALUES (1, 'g', '2024-01-01T00:00:00.000000Z', 1)",
        "INSERT INTO endpoint (user_id, channel, address, created_at) VALUES (1, 'EMAIL', 'a@b', '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO notification (sender, title, body, severity, category, channels, created_at) \
         VALUES ('s', 'T', 'B', 'INFO', 'c', '[]', '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO notification_attachment SELECT 1, 0, 'f', 'text/plain', CAST('x' AS {blob})",
        "INSERT INTO notification_recipient (notification_id, user_id, arrived_at) VALUES (1, 1, '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO delivery (notification_id, user_id, channel, endpoint_id, state, next_attempt_at, created_at) \
         VALUES (1, 1, 'EMAIL', 1, 'QUEUED', '2024-01-01T00:00:00.000000Z', '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO alert_rule (owner_id, name, unit_id, provider_id, resolution, kind, parameters, recipients, channels, \
         severity, muted_until, since_epoch, since_position, created_at, updated_at) \
         VALUES (1, 'R', 1, 1, 'PT1H', 'LATE', '{}', '{}', '[]', 'INFO', '2024-01-01T00:00:00.000000Z', 1, 0, \
         '2024-01-01T00:00:00.000000Z', '2024-01-01T00:00:00.000000Z')",
        "INSERT INTO alert_state VALUES (1, '{}', 1, '2024-01-01T00:00:00.000000Z', 2.5)",
    ] {
        let blob = match db.get_database_backend() {
            DbBackend::Postgres => "bytea",
            _ => "BLOB",
        };
        db.execute_unprepared(&sql.replace("{blob}", blob))
            .await
            .unwrap();
    }
    assert_eq!(unit::Entity::find().all(&db).await.unwrap().len(), 1);
    assert_eq!(
        unit_capacity::Entity::find().all(&db).await.unwrap().len(),
        1
    );
    assert_eq!(provider::Entity::find().all(&db).await.unwrap().len(), 1);
    assert_eq!(series::Entity::find().all(&db).await.unwrap().len(), 1);
    assert_eq!(
        forecast_run::Entity::find().all(&db).await.unwrap().len(),
        1
    );
    let curves = forecast_curve::Entity::find().all(&db).await.unwrap();
    assert_eq!(curves[0].values.0, [Some(1.0), Some(2.5), None]);
    assert_eq!(
        idempotency_key::Entity::find()
            .all(&db)
            .await
            .unwrap()
            .len(),
        1
    );
    let keys = api_key::Entity::find().all(&db).await.unwrap();
    assert!(keys[0].expires_at.is_some() && keys[0].revoked_at.is_none());
    macro_rules! one_of_each {
        ($($table:ident)*) => { $(
            let rows = $table::Entity::find().all(&db).await.unwrap();
            assert_eq!(rows.len(), 1, stringify!($table));
        )* };
    }
    one_of_each!(
        user_group user_group_member topic_subscription notification_preference notification_throttle
        endpoint notification notification_attachment notification_recipient delivery server_secret
        alert_rule alert_state alert_cursor
    );
    let users = user_account::Entity::find().all(&db).await.unwrap();
    assert_eq!(users[0].unread_count, 1, "by a trigger");
    assert_eq!(tick::Entity::find().all(&db).await.unwrap().len(), 1);
    // On SQLite the touched curve is a change once it is numbered.
    let changes = change::Entity::find().all(&db).await.unwrap();
    let curve = usize::from(db.get_database_backend() == DbBackend::Postgres);
    assert_eq!(
        changes.len(),
        4 + curve,
        "unit, its capacity, provider, curve, notification: {changes:?}"
    );
}

#[tokio::test]
async fn every_entity_selects_on_sqlite() {
    every_entity_selects(TestDatabase::sqlite().await).await;
}

#[tokio::test]
async fn every_entity_selects_on_postgres() {
    every_entity_selects(TestDatabase::postgres().await).await;
}
