//! Values that have no column type of their own.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::model::State;

/// Text as both backends can hold it: Postgres has no NUL in text (its manual, §8.3), so U+FFFD stands for it in all of
/// them. What peers may name is checked where it comes in; this keeps the rest from stopping a transaction forever.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

/// JSON text of a value the coordinator made.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("maps with string keys and numbers always serialise")
}

/// The value of a JSON column.
pub(super) fn from_json<T: DeserializeOwned>(
    table: &'static str,
    column: &'static str,
    row: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| corrupt(table, column, row, &e))
}

/// The state of a row.
pub(super) fn to_state(table: &'static str, row: &str, number: i64) -> Result<State, StoreError> {
    i32::try_from(number)
        .ok()
        .and_then(State::from_number)
        .ok_or_else(|| corrupt(table, "state", row, &format!("unknown state {number}")))
}

/// A value that is not what was written.
pub(super) fn corrupt(
    table: &'static str,
    column: &'static str,
    row: &str,
    reason: &dyn std::fmt::Display,
) -> StoreError {
    StoreError::Corrupt { table, column, row: row.to_owned(), reason: reason.to_string() }
}
