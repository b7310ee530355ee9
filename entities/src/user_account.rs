//! Who can be notified.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user_account")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub key: String,
    pub name: String,
    pub locale: Option<String>,
    pub time_zone: String,
    /// Minutes of the local day, from and until when only what is critical leaves.
    pub quiet_from: Option<i16>,
    pub quiet_until: Option<i16>,
    pub critical_overrides: bool,
    /// Kept by triggers.
    pub unread_count: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
