use sea_orm_migration::prelude::*;

use crate::script;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Two triggers refuse the same: SQLite has no functions in SQL.
        let sqlite = include_str!("sql/sqlite/0003_forecast.sql").replace(
            "{malformed}",
            include_str!("sql/sqlite/0003_malformed_curve.sql"),
        );
        script::run(
            manager,
            include_str!("sql/postgres/0003_forecast.sql"),
            &sqlite,
        )
        .await
    }
}
