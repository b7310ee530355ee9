use sea_orm_migration::prelude::*;

use crate::script;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        script::run(
            manager,
            include_str!("sql/postgres/0006_alert.sql"),
            include_str!("sql/sqlite/0006_alert.sql"),
        )
        .await
    }
}
