//! What somebody wants to be told of.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alert_rule")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub owner_id: i64,
    pub name: String,
    pub unit_id: i64,
    pub provider_id: i64,
    pub resolution: String,
    pub kind: String,
    /// A JSON object.
    pub parameters: String,
    /// A JSON object.
    pub recipients: String,
    /// A JSON array of channels.
    pub channels: String,
    pub severity: String,
    pub throttle_seconds: Option<i64>,
    pub muted_until: Option<TimeDateTimeWithTimeZone>,
    pub enabled: bool,
    pub since_epoch: i64,
    pub since_position: i64,
    pub created_at: TimeDateTimeWithTimeZone,
    pub updated_at: TimeDateTimeWithTimeZone,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
