//! The change log: one row per committed change.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "change")]
pub struct Model {
    /// Drawn at insert, in no promised order: `position` is the order.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Given after commit; none yet when null.
    pub position: Option<i64>,
    pub entity: String,
    pub operation: String,
    pub unit_type: Option<String>,
    pub unit_number: Option<i64>,
    pub provider_key: Option<String>,
    pub resolution: Option<String>,
    pub series_id: Option<i64>,
    pub run_id: Option<i64>,
    /// The touched delivery range, half-open, within one UTC month.
    pub range_start: Option<TimeDateTimeWithTimeZone>,
    pub range_end: Option<TimeDateTimeWithTimeZone>,
    pub notification_id: Option<i64>,
    /// Whose; of a notification for several, null.
    pub user_id: Option<i64>,
    /// The instant that the touched rows of the user were marked with.
    pub marked_at: Option<TimeDateTimeWithTimeZone>,
    pub changed_at: TimeDateTimeWithTimeZone,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
