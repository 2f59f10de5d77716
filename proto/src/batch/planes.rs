//! Columns as byte planes: the lowest byte of every row, then the next one of every row.
//!
//! The high bytes of small numbers are all zero and compress to nothing, the low bytes of random ones not at all, and
//! neither spoils the entropy table of the other, because a block of the compressed stream ends with its plane.
//!
//! ```text
//! planes u8 │ start varint │ plane, plane, …
//! ```
//! A row is its prediction plus a difference of either sign, modulo the width of the column. A prediction comes from the
//! last value in the row's slot (its flow, or the one slot of the whole column), and every slot begins at `start`.

use super::BatchError;
use super::wire::{Reader, put_varint, unzigzag, zigzag};

/// A block ends with the first plane after this many bytes: fewer do not pay for an entropy table.
const BLOCK_BYTES: usize = 1_024;

/// An unsigned or signed integer of a column.
pub(super) trait Cell: Copy + Default + PartialEq {
    /// Width.
    const BYTES: usize;
    /// The bits of the value, the rest zero.
    fn bits(self) -> u64;
    /// The value of the low bits.
    fn from_bits(bits: u64) -> Self;
}

macro_rules! cells {
    ($($type:ty: $unsigned:ty),+) => {$(
        impl Cell for $type {
            const BYTES: usize = size_of::<$type>();

            fn bits(self) -> u64 {
                u64::from(self as $unsigned)
            }

            fn from_bits(bits: u64) -> Self {
                bits as $type
            }
        }
    )+};
}

cells!(u8: u8, u16: u16, u32: u32, i64: u64);

/// The difference of `bits` from `last`, as a number that is small when it is near zero and has no more bits than `T`.
fn difference<T: Cell>(bits: u64, last: u64) -> u64 {
    let unused = 64 - 8 * T::BYTES as u32;
    zigzag((bits.wrapping_sub(last) << unused).cast_signed() >> unused)
}

/// Where a column's predictions come from.
pub(super) trait Predict {
    /// The slot of a row.
    fn slot(&self, row: usize) -> usize;
    /// What to expect in the slot after `bits` in this row.
    fn next(&self, row: usize, bits: u64) -> u64;
}

/// The row before.
pub(super) struct RowBefore;

impl Predict for RowBefore {
    fn slot(&self, _row: usize) -> usize {
        0
    }

    fn next(&self, _row: usize, bits: u64) -> u64 {
        bits
    }
}

/// The last row of the same flow.
pub(super) struct SameFlow<'a>(pub(super) &'a [u32]);

impl Predict for SameFlow<'_> {
    fn slot(&self, row: usize) -> usize {
        self.0[row] as usize
    }

    fn next(&self, _row: usize, bits: u64) -> u64 {
        bits
    }
}

/// Where the last segment of the same flow ended.
pub(super) struct SegmentEnd<'a> {
    pub(super) flow: &'a [u32],
    pub(super) payload_length: &'a [u32],
}

impl Predict for SegmentEnd<'_> {
    fn slot(&self, row: usize) -> usize {
        self.flow[row] as usize
    }

    fn next(&self, row: usize, bits: u64) -> u64 {
        // Rows of other protocols have no sequence number, and none to expect.
        if bits == 0 { 0 } else { bits.wrapping_add(self.payload_length[row].into()) }
    }
}

/// The uncompressed batch as it grows. Kept from one batch to the next.
#[derive(Default)]
pub(super) struct Planes {
    pub(super) bytes: Vec<u8>,
    /// Where blocks end, rising.
    pub(super) cuts: Vec<usize>,
    values: Vec<u64>,
    slots: Vec<u64>,
}

impl Planes {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.cuts.clear();
    }

    /// Ends the block here if it is large enough.
    pub(super) fn cut(&mut self) {
        self.cut_after(BLOCK_BYTES);
    }

    /// Ends the block here if it has `least` bytes.
    pub(super) fn cut_after(&mut self, least: usize) {
        if self.bytes.len() - self.cuts.last().unwrap_or(&0) >= least {
            self.cuts.push(self.bytes.len());
        }
    }

    /// Appends `column`, predicted out of `slots` slots.
    pub(super) fn put<T: Cell>(&mut self, column: &[T], slots: usize, predict: &impl Predict) {
        let first = column.first().copied().unwrap_or_default();
        // One slot begins where the column does. Flows begin alike only in what never changes.
        let is_constant = column.iter().all(|value| *value == first);
        let start = if slots == 1 || is_constant { first.bits() } else { 0 };
        self.slots.clear();
        self.slots.resize(slots, start);
        self.values.clear();
        let slots = &mut self.slots;
        self.values.extend(column.iter().enumerate().map(|(row, value)| {
            let (bits, last) = (value.bits(), &mut slots[predict.slot(row)]);
            let difference = difference::<T>(bits, *last);
            *last = predict.next(row, bits);
            difference
        }));
        self.put_values(start);
    }

    /// Appends `column` as it is.
    pub(super) fn put_plain(&mut self, column: &[u32]) {
        self.values.clear();
        self.values.extend(column.iter().map(|&value| u64::from(value)));
        self.put_values(0);
    }

    fn put_values(&mut self, start: u64) {
        let all = self.values.iter().fold(0, |all, value| all | value);
        let planes = (64 - all.leading_zeros()).div_ceil(8);
        self.bytes.push(planes as u8);
        put_varint(start, &mut self.bytes);
        for plane in 0..planes {
            self.bytes.extend(self.values.iter().map(|value| (value >> (8 * plane)) as u8));
            self.cut();
        }
    }
}

/// Reads the columns of `rows` rows.
pub(super) struct Columnar<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) rows: usize,
    values: Vec<u64>,
    slots: Vec<u64>,
}

impl<'r, 'a> Columnar<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, rows: usize) -> Self {
        Self { reader, rows, values: Vec::new(), slots: Vec::new() }
    }

    /// The inverse of [`Planes::put`].
    pub(super) fn get<T: Cell>(
        &mut self,
        slots: usize,
        predict: &impl Predict,
        what: &'static str,
    ) -> Result<Vec<T>, BatchError> {
        let start = self.values::<T>(what)?;
        self.slots.clear();
        self.slots.resize(slots, start);
        let (values, slots) = (&self.values, &mut self.slots);
        Ok(values
            .iter()
            .enumerate()
            .map(|(row, &difference)| {
                let last = &mut slots[predict.slot(row)];
                let value = T::from_bits(last.wrapping_add(unzigzag(difference).cast_unsigned()));
                *last = predict.next(row, value.bits());
                value
            })
            .collect())
    }

    /// The inverse of [`Planes::put_plain`].
    pub(super) fn plain(&mut self, what: &'static str) -> Result<Vec<u32>, BatchError> {
        match self.values::<u32>(what)? {
            0 => Ok(self.values.iter().map(|&value| value as u32).collect()),
            _ => Err(BatchError::Value(what)),
        }
    }

    /// Fills `values` from the planes and returns where the slots start.
    fn values<T: Cell>(&mut self, what: &'static str) -> Result<u64, BatchError> {
        let planes = usize::from(self.reader.byte(what)?);
        let start = self.reader.varint(what)?;
        if planes > T::BYTES || T::from_bits(start).bits() != start {
            return Err(BatchError::Value(what));
        }
        self.values.clear();
        self.values.resize(self.rows, 0);
        for plane in 0..planes {
            let bytes = self.reader.take(self.rows, what)?;
            for (value, &byte) in self.values.iter_mut().zip(bytes) {
                *value |= u64::from(byte) << (8 * plane);
            }
        }
        Ok(start)
    }
}
