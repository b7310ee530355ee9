//! One notification for one user at one endpoint.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub notification_id: i64,
    pub user_id: i64,
    pub channel: String,
    pub endpoint_id: Option<i64>,
    pub state: String,
    pub attempts: i32,
    /// Due from then on, while it waits.
    pub next_attempt_at: TimeDateTimeWithTimeZone,
    pub leased_by: Option<String>,
    pub leased_until: Option<TimeDateTimeWithTimeZone>,
    /// Since when it may be on the wire, where it must not be there twice.
    pub begun_at: Option<TimeDateTimeWithTimeZone>,
    pub created_at: TimeDateTimeWithTimeZone,
    pub finished_at: Option<TimeDateTimeWithTimeZone>,
    pub answer: Option<String>,
    pub last_error: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
