//! The schema's history on SQLite and PostgreSQL.
//!
//! A migration is plain SQL, one file for each database, because what matters
//! here (triggers, checks, views, server-side functions) has no portable form.
//! Migrations mention no entity and are never edited once released: one that
//! did would change its meaning whenever the entity does.

mod m20261121_000001_reference;
mod m20261121_000002_change_log;
mod m20261121_000003_forecast;
mod m20261121_000004_api_key;
mod m20261121_000005_notification;
mod m20261121_000006_alert;
mod script;
#[cfg(feature = "testing")]
pub mod testing;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

/// Runs the migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261121_000001_reference::Migration),
            Box::new(m20261121_000002_change_log::Migration),
            Box::new(m20261121_000003_forecast::Migration),
            Box::new(m20261121_000004_api_key::Migration),
            Box::new(m20261121_000005_notification::Migration),
            Box::new(m20261121_000006_alert::Migration),
        ]
    }
}
