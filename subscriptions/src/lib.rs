//! What makes SmartPulse live.
//!
//! The change log gets its positions and is tailed ([`change_log`]); each
//! replica distributes what it has applied to its subscribers ([`hub`]);
//! streams of forecasts ([`forecast`]) join the two without a seam: nothing
//! lost, nothing twice, in order.

pub mod change_log;
pub mod forecast;
pub mod hub;
