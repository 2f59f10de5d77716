//! Bytes in and out: variable-length integers and a cursor that never runs over.

use super::BatchError;

/// Appends `value` in LEB128.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small magnitudes of either sign to small numbers.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A cursor over untrusted bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], BatchError> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(BatchError::Truncated(what))?;
        self.bytes = tail;
        Ok(head)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, BatchError> {
        self.take(1, what).map(|bytes| bytes[0])
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BatchError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or(BatchError::Truncated(what))?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[[u8; 4]; N], BatchError> {
        let mut words = [[0; 4]; N];
        for word in &mut words {
            *word = self.bytes(what)?;
        }
        Ok(words)
    }

    pub(super) fn varint(&mut self, what: &'static str) -> Result<u64, BatchError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit.
                return if shift == 63 && byte > 1 { Err(BatchError::Value(what)) } else { Ok(value) };
            }
        }
        Err(BatchError::Value(what))
    }

    pub(super) fn varint_u32(&mut self, what: &'static str) -> Result<u32, BatchError> {
        self.varint(what)?.try_into().map_err(|_| BatchError::Value(what))
    }
}
