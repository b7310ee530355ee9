//! Each entity is selected from a freshly migrated database, so that entities
//! and migrations cannot drift apart.
#![cfg(test)]

use entities::{
    api_key, change, forecast_curve, forecast_run, idempotency_key, provider, series, tick, unit,
    unit_capacity,
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
    ] {
        db.execute_unprepared(sql).await.unwrap();
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
    assert_eq!(tick::Entity::find().all(&db).await.unwrap().len(), 1);
    // On SQLite the touched curve is a change once it is numbered.
    let changes = change::Entity::find().all(&db).await.unwrap();
    let curve = usize::from(db.get_database_backend() == DbBackend::Postgres);
    assert_eq!(
        changes.len(),
        3 + curve,
        "unit, its capacity, provider, curve: {changes:?}"
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
