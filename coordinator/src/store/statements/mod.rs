//! SQL that reads and writes a row at a time, the same text for both backends: each compiles this folder for itself,
//! with its own `Connection`, `Row` and `bulk`. Columns are named one by one, because a `SELECT *` that a connection
//! has prepared fails in Postgres once a newer coordinator has added a column.

pub(in crate::store) mod audit;
pub(in crate::store) mod captures;
pub(in crate::store) mod flows;
pub(in crate::store) mod ledger;
pub(in crate::store) mod nodes;
pub(in crate::store) mod probes;
pub(in crate::store) mod results;

use super::{Connection, Row, bulk};
