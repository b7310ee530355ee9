//! Entities are held against a freshly migrated database, column by column and by
//! a row in each table, so that entities and migrations cannot drift apart.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use entities::{
    alert_cursor, alert_rule, alert_state, api_key, change, delivery, endpoint, forecast_curve,
    forecast_run, idempotency_key, notification, notification_attachment, notification_preference,
    notification_recipient, notification_throttle, provider, series, server_secret, tick,
    topic_subscription, unit, unit_capacity, user_account, user_group, user_group_member,
};
use migration::testing::TestDatabase;
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, IdenStatic,
    Iterable, Statement,
};

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

/// A column as far as both databases and entities say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    kind: &'static str,
    is_null: bool,
}

type Tables = BTreeMap<String, BTreeMap<String, Column>>;

/// What only the database's own functions use.
const WITHOUT_ENTITY: [&str; 2] = ["seaql_migrations", "touched_forecast_curve"];
const WITHOUT_FIELD: [(&str, &str); 3] =
    [("change", "xid"), ("tick", "snapshot"), ("tick", "history")];

fn add<E: EntityTrait>(tables: &mut Tables, backend: DbBackend) {
    let columns = E::Column::iter().map(|column| {
        let definition = column.def();
        let kind = match (backend, definition.get_column_type()) {
            (DbBackend::Sqlite, kind) => match kind {
                ColumnType::BigInteger | ColumnType::Integer | ColumnType::SmallInteger => {
                    "INTEGER"
                }
                ColumnType::Boolean => "INTEGER",
                ColumnType::Double => "REAL",
                ColumnType::VarBinary(_) | ColumnType::Binary(_) | ColumnType::Blob => "BLOB",
                _ => "TEXT",
            },
            (_, kind) => match kind {
                ColumnType::BigInteger => "int8",
                ColumnType::Integer => "int4",
                ColumnType::SmallInteger => "int2",
                ColumnType::Boolean => "bool",
                ColumnType::Double => "float8",
                ColumnType::VarBinary(_) | ColumnType::Binary(_) | ColumnType::Blob => "bytea",
                ColumnType::TimestampWithTimeZone => "timestamptz",
                ColumnType::Date => "date",
                ColumnType::Json => "json",
                ColumnType::String(_) | ColumnType::Text => "text",
                other => panic!("{other:?} is not known to this test"),
            },
        };
        let is_null = definition.is_null();
        (column.as_str().to_owned(), Column { kind, is_null })
    });
    tables.insert(E::default().table_name().to_owned(), columns.collect());
}

/// Every entity there is.
fn of_entities(backend: DbBackend) -> Tables {
    let mut tables = Tables::new();
    macro_rules! add_each {
        ($($table:ident)*) => { $( add::<$table::Entity>(&mut tables, backend); )* };
    }
    add_each!(
        alert_cursor alert_rule alert_state api_key change delivery endpoint forecast_curve
        forecast_run idempotency_key notification notification_attachment notification_preference
        notification_recipient notification_throttle provider series server_secret tick
        topic_subscription unit unit_capacity user_account user_group user_group_member
    );
    tables
}

/// Every table there is.
async fn of_database(db: &DatabaseConnection) -> Tables {
    let backend = db.get_database_backend();
    let text = match backend {
        DbBackend::Sqlite => {
            "SELECT t.name AS \"table\", c.name AS \"column\", c.type AS kind, \
                 c.\"notnull\" = 0 AND c.pk = 0 AS is_null \
             FROM sqlite_master t JOIN pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"
        }
        _ => {
            "SELECT c.table_name::text AS \"table\", c.column_name::text AS \"column\", c.udt_name::text AS kind, \
                 c.is_nullable = 'YES' AS is_null \
             FROM information_schema.columns c \
             JOIN information_schema.tables t USING (table_schema, table_name) \
             WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'"
        }
    };
    let mut tables = Tables::new();
    for row in db
        .query_all_raw(Statement::from_string(backend, text))
        .await
        .unwrap()
    {
        let get = |column: &str| -> String { row.try_get("", column).unwrap() };
        let column = Column {
            kind: get("kind").leak(),
            is_null: row.try_get("", "is_null").unwrap(),
        };
        let columns = tables.entry(get("table")).or_default();
        columns.insert(get("column"), column);
    }
    tables
}

/// What entities and a database do not agree on, by table and column.
async fn differences(db: &DatabaseConnection) -> Vec<String> {
    let ours = of_entities(db.get_database_backend());
    let theirs = of_database(db).await;
    let names = |tables: &Tables| -> BTreeSet<(String, String)> {
        let columns = tables.iter().flat_map(|(table, columns)| {
            columns.keys().map(|column| (table.clone(), column.clone()))
        });
        columns.collect()
    };
    let mut found = Vec::new();
    for (table, column) in names(&ours).union(&names(&theirs)) {
        let is_known = WITHOUT_ENTITY.contains(&table.as_str())
            || WITHOUT_FIELD.contains(&(table.as_str(), column.as_str()));
        let of = |tables: &Tables| tables.get(table).and_then(|of| of.get(column)).copied();
        match (of(&ours), of(&theirs)) {
            (None, Some(_)) if is_known => {}
            (Some(_), None) => found.push(format!("{table}.{column} is not in the database")),
            (None, Some(_)) => found.push(format!("{table}.{column} is in no entity")),
            (ours, theirs) if ours != theirs => found.push(format!(
                "{table}.{column} is {theirs:?} in the database and {ours:?} in its entity"
            )),
            _ => {}
        }
    }
    found
}

async fn entities_are_what_is_migrated(database: TestDatabase) {
    let db = Database::connect(database.url()).await.unwrap();
    assert_eq!(differences(&db).await, [""; 0]);
}

/// The test of the test: each kind of difference is seen.
async fn a_difference_is_seen(database: TestDatabase) {
    let db = Database::connect(database.url()).await.unwrap();
    let sqlite = db.get_database_backend() == DbBackend::Sqlite;
    let retype = if sqlite {
        "ALTER TABLE user_group DROP COLUMN name; ALTER TABLE user_group ADD COLUMN name INTEGER NOT NULL DEFAULT 0"
    } else {
        "ALTER TABLE user_group ALTER COLUMN name TYPE varchar"
    };
    let make_null = if sqlite {
        "ALTER TABLE server_secret DROP COLUMN value; ALTER TABLE server_secret ADD COLUMN value TEXT"
    } else {
        "ALTER TABLE server_secret ALTER COLUMN value DROP NOT NULL"
    };
    for sql in [
        "CREATE TABLE surplus (id INTEGER PRIMARY KEY)",
        "ALTER TABLE provider ADD COLUMN surplus INTEGER",
        "ALTER TABLE endpoint DROP COLUMN disabled_reason",
        "DROP TABLE alert_cursor",
        retype,
        make_null,
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    let found = differences(&db).await;
    for expect in [
        "surplus.id is in no entity",
        "provider.surplus is in no entity",
        "endpoint.disabled_reason is not in the database",
        "alert_cursor.id is not in the database",
        "user_group.name is Some",
        "server_secret.value is Some",
    ] {
        assert!(
            found
                .iter()
                .any(|difference| difference.starts_with(expect)),
            "{expect} is not seen: {found:#?}"
        );
    }
}

#[tokio::test]
async fn entities_are_what_is_migrated_on_sqlite() {
    entities_are_what_is_migrated(TestDatabase::sqlite().await).await;
}

#[tokio::test]
async fn entities_are_what_is_migrated_on_postgres() {
    entities_are_what_is_migrated(TestDatabase::postgres().await).await;
}

#[tokio::test]
async fn a_difference_is_seen_on_sqlite() {
    a_difference_is_seen(TestDatabase::sqlite().await).await;
}

#[tokio::test]
async fn a_difference_is_seen_on_postgres() {
    a_difference_is_seen(TestDatabase::postgres().await).await;
}
