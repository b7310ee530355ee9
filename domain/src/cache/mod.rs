//! Answers kept in memory, and the rule that makes a stale one impossible.
//!
//! A load remembers the position this replica had itself read from the
//! database *before* its read began ([`Clock::stamp`]); each invalidation tag
//! remembers the position of its last change. An entry is valid only while its
//! tag's position is not above its own. It is checked when an entry is stored
//! and each time it is used: no clock on the wall, no luck with timing.
//!
//! Few loads of a cache run at once. What is missed meanwhile waits and is loaded
//! together, so that a thousand reads of a thousand keys are a handful of loads.

mod clock;
mod coalesced;
#[cfg(test)]
mod model_test;
mod tag;

pub use clock::{Clock, Stamp};
pub use coalesced::{Cache, CacheCounter, CacheMetrics, CacheSettings, Load, LoadError, Loaded};
pub use tag::Tag;
