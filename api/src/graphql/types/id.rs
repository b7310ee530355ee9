//! Global ids: a kind, a colon, and what the kind goes by, such as `run:5307`.

use async_graphql::ID;
use domain::quote;

use crate::error::ApiError;

/// Splits a global id such as `unit:plant:12345` into its kind and key.
pub(crate) fn split_id(id: &ID) -> Option<(&str, &str)> {
    id.split_once(':')
}

/// The number in a global id of a kind; else an error that names the argument and
/// the form.
pub(crate) fn number_of(kind: &str, id: &ID, argument: &str) -> Result<i64, ApiError> {
    split_id(id)
        .filter(|(of, number)| *of == kind && number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|(_, number)| number.parse().ok())
        .ok_or_else(|| {
            let message = format!(
                "`{argument}`: expected an id such as `{kind}:5307`, as the server gave it, not {}",
                quote(id)
            );
            ApiError::violation(argument, message)
        })
}
