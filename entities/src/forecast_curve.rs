//! Versions of day curves: what one run gave for one UTC day of one series.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "forecast_curve")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub series_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: TimeDate,
    /// The issue time of its run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub issued_at: TimeDateTimeWithTimeZone,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: i64,
    /// The period of the day, from 0, that the first value is for.
    pub first_period: i16,
    /// MWh per delivery period; a null says nothing about its period.
    #[sea_orm(column_type = "Json")]
    pub values: PeriodValues,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The JSON array in `values`: MWh per delivery period, or null.
#[derive(
    Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, sea_orm::FromJsonQueryResult,
)]
pub struct PeriodValues(pub Vec<Option<f64>>);
