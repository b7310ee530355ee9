//! Streams of forecasts.

mod changed;
mod live;

pub use changed::{ForecastEvent, ForecastFilter, changed};
pub use live::{CurveUpdate, Difference, LiveOptions, Update, live};
