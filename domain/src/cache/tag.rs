//! Invalidation tags as the cache keeps them: hashes.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

/// Names what an entry was made from. Two names may share a tag: that only
/// invalidates more than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(u64);

impl Tag {
    /// The tag of a named thing; `kind` keeps keys of different caches apart.
    pub fn of(kind: &'static str, key: &impl Hash) -> Self {
        let mut hasher = FxHasher::default();
        kind.hash(&mut hasher);
        key.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Its place among `stripes` (a power of two).
    pub(super) fn stripe(self, stripes: usize) -> usize {
        // The high bits of this hash are the well mixed ones.
        let high = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        usize::try_from(high).unwrap_or(0) & (stripes - 1)
    }
}
