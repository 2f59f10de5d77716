//! Rows in the binary format of `COPY … FROM STDIN` (the manual's page on COPY, "Binary Format"), sent as they grow.

use super::Connection;
use crate::store::StoreError;
use crate::store::codec::text;

/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a field count: no rows follow.
const TRAILER: i16 = -1;
/// In place of a field's length.
const NULL: i32 = -1;
/// Rows are sent when there is this much of them.
const CHUNK_BYTES: usize = 1 << 20;

/// Encodes rows of a fixed number of fields.
pub(super) struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    /// Begins a row; as many fields must follow.
    pub(super) fn row(&mut self, fields: i16) -> &mut Self {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        self
    }

    /// A `BIGINT`.
    pub(super) fn number(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A `TEXT`.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(text(value).as_bytes())
    }

    /// A `BYTEA`. No value is longer than a message, far below 2³¹ bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// No value.
    pub(super) fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&NULL.to_be_bytes());
        self
    }
}

/// Runs `statement`, a COPY of binary rows from standard input, on what `encode` makes of each item.
pub(super) async fn copy<T>(
    connection: &mut Connection,
    statement: &str,
    items: impl Iterator<Item = T> + Send,
    mut encode: impl FnMut(&mut Rows, T) + Send,
) -> Result<(), StoreError> {
    let mut sink = connection.copy_in_raw(statement).await?;
    let mut rows = Rows { bytes: HEADER.to_vec() };
    for item in items {
        encode(&mut rows, item);
        if rows.bytes.len() >= CHUNK_BYTES {
            sink.send(rows.bytes.as_slice()).await?;
            rows.bytes.clear();
        }
    }
    rows.row(TRAILER);
    sink.send(rows.bytes).await?;
    sink.finish().await?;
    Ok(())
}
