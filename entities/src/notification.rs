//! What was sent.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub sender: String,
    pub title: String,
    pub body: String,
    pub severity: String,
    pub category: String,
    /// A JSON object.
    pub data: Option<String>,
    pub link: Option<String>,
    /// A JSON array of channels.
    pub channels: String,
    pub template: Option<String>,
    /// A JSON object.
    pub variables: Option<String>,
    pub group_key: Option<String>,
    pub throttle_seconds: Option<i64>,
    pub created_at: TimeDateTimeWithTimeZone,
    pub not_before: Option<TimeDateTimeWithTimeZone>,
    pub expires_at: Option<TimeDateTimeWithTimeZone>,
    pub published_at: Option<TimeDateTimeWithTimeZone>,
    pub withdrawn_at: Option<TimeDateTimeWithTimeZone>,
    pub withdrawal: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
