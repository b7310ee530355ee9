//! Pages of Relay connections.

use async_graphql::connection::{Connection, Edge};

use crate::error::ApiError;

/// A page has this many unless asked otherwise.
pub(super) const PAGE: usize = 50;
/// A page has at most this many.
pub(super) const LARGEST_PAGE: usize = 500;

pub(super) fn bad_cursor() -> ApiError {
    ApiError::bad_input("this is not a cursor of this list")
}

pub(super) fn decode_cursor<C: async_graphql::connection::CursorType>(
    cursor: &str,
) -> Result<C, ApiError> {
    C::decode_cursor(cursor).map_err(|_| bad_cursor())
}

/// Which end of a list, and how much of it.
pub(super) struct Page {
    size: usize,
    pub(super) from_end: bool,
}

impl Page {
    pub(super) fn new(first: Option<i32>, last: Option<i32>) -> Result<Self, ApiError> {
        let (size, from_end) = match (first, last) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_input(
                    "give either `first` or `last`, not both",
                ));
            }
            (None, Some(last)) => (last, true),
            (Some(first), None) => (first, false),
            (None, None) => (i32::try_from(PAGE).unwrap_or(i32::MAX), false),
        };
        match usize::try_from(size) {
            Ok(size) if size <= LARGEST_PAGE => Ok(Self { size, from_end }),
            _ => Err(ApiError::bad_input(format!(
                "a page has 0 to {LARGEST_PAGE} items"
            ))),
        }
    }

    /// One more than asked for tells whether there is more.
    pub(super) fn to_read(&self) -> u64 {
        self.size as u64 + 1
    }

    pub(super) fn connect<T, C, N>(
        &self,
        mut items: Vec<T>,
        is_after: bool,
        is_before: bool,
        edge: impl Fn(T) -> Edge<C, N, async_graphql::connection::EmptyFields>,
    ) -> Connection<C, N>
    where
        C: async_graphql::connection::CursorType + Send + Sync,
        N: async_graphql::OutputType,
    {
        let more = items.len() > self.size;
        if more {
            let surplus = if self.from_end { 0 } else { items.len() - 1 };
            items.remove(surplus);
        }
        let (previous, next) = if self.from_end {
            (more, is_before)
        } else {
            (is_after, more)
        };
        let mut connection = Connection::new(previous, next);
        connection.edges.extend(items.into_iter().map(edge));
        connection
    }
}
