//! Attributes of netlink messages: `struct nlattr`, include/uapi/linux/netlink.h.

use netlink_packet_core::NlasIterator;

/// `struct nlattr`.
const HEADER: usize = 4;

/// Kind and value of each attribute, up to the first that does not hold together.
pub(crate) fn each(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).map_while(Result::ok).map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        (kind, attribute.into_inner().get(HEADER..length).unwrap_or_default())
    })
}

/// The value of the first attribute of a kind.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    each(attributes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in network byte order.
pub(crate) fn be_u16(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A number in network byte order.
pub(crate) fn be_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A number in network byte order.
pub(crate) fn be_u64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Text that ends with the value or with a zero byte. What is no UTF-8 shows as U+FFFD.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}
