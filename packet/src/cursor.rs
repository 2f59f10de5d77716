//! A position in a frame that knows both what was captured and what was on the wire.

use crate::error::{DecodeError, Layer, Reason};

/// The wire length of a layer that only its own length field can tell: what follows the first fragment of a
/// datagram.
const UNKNOWN: usize = usize::MAX;

/// Reads headers one after the other. Never reads past the captured bytes nor past the current layer.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// The captured bytes of the current layer and all before it.
    frame: &'a [u8],
    /// Where the next header starts.
    offset: usize,
    /// Where the current layer ends on the wire; may lie behind the captured bytes.
    wire_end: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(frame: &'a [u8], original_length: u32) -> Self {
        Self { frame, offset: 0, wire_end: frame.len().max(original_length as usize) }
    }

    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Captured bytes from here to the end of the layer.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.frame[self.offset.min(self.frame.len())..]
    }

    /// Bytes on the wire from here to the end of the layer; what was captured where the wire length is unknown.
    #[inline]
    pub(crate) fn wire_rest(&self) -> usize {
        if self.wire_end == UNKNOWN { self.rest().len() } else { self.wire_end - self.offset }
    }

    #[inline]
    pub(crate) fn error(&self, layer: Layer, reason: Reason) -> DecodeError {
        DecodeError { layer, offset: self.offset as u32, reason }
    }

    /// The next `N` bytes without moving.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self, layer: Layer) -> Result<&'a [u8; N], DecodeError> {
        match self.frame.get(self.offset..).and_then(<[u8]>::first_chunk) {
            Some(header) => Ok(header),
            None => Err(self.missing(N, layer)),
        }
    }

    /// The next `length` bytes without moving.
    #[inline]
    pub(crate) fn peek_slice(&self, length: usize, layer: Layer) -> Result<&'a [u8], DecodeError> {
        match self.frame.get(self.offset..self.offset + length) {
            Some(header) => Ok(header),
            None => Err(self.missing(length, layer)),
        }
    }

    /// Moves on by `length` bytes that a peek has shown to be there.
    #[inline]
    pub(crate) fn advance(&mut self, length: usize) {
        debug_assert!(self.offset + length <= self.frame.len());
        self.offset += length;
    }

    /// The next `N` bytes, moving behind them.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self, layer: Layer) -> Result<&'a [u8; N], DecodeError> {
        let header = self.peek(layer)?;
        self.offset += N;
        Ok(header)
    }

    /// Moves on by `length` bytes of a header of `layer`.
    #[inline]
    pub(crate) fn skip(&mut self, length: usize, layer: Layer) -> Result<(), DecodeError> {
        self.peek_slice(length, layer)?;
        self.offset += length;
        Ok(())
    }

    /// True when the layer is at least `length` bytes from here on the wire.
    #[inline]
    pub(crate) fn holds(&self, length: usize) -> bool {
        self.wire_end - self.offset >= length
    }

    /// Ends the layer `length` bytes from here. What lies behind is padding. False when the enclosing layer is
    /// shorter than that.
    #[inline]
    #[must_use]
    pub(crate) fn narrow(&mut self, length: usize) -> bool {
        if !self.holds(length) {
            return false;
        }
        self.wire_end = self.offset + length;
        self.frame = &self.frame[..self.frame.len().min(self.wire_end)];
        true
    }

    /// From here on the frame holds the beginning of something longer, whose own length field tells how long.
    #[inline]
    pub(crate) fn open_end(&mut self) {
        self.wire_end = UNKNOWN;
    }

    #[cold]
    fn missing(&self, length: usize, layer: Layer) -> DecodeError {
        self.error(layer, if self.holds(length) { Reason::Truncated } else { Reason::TooShort })
    }
}

/// Two bytes of a header in network order.
#[inline]
pub(crate) const fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// Four bytes of a header in network order.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
