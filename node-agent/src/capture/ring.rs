//! A memory-mapped `TPACKET_V3` receive ring: blocks that the kernel fills and hands over one after the other.
//!
//! Layout: `include/uapi/linux/if_packet.h` and `Documentation/networking/packet_mmap.rst`. Only the mapping itself
//! and the hand-over of a block are unsafe; everything inside a block is read through a bounds-checked slice.
#![allow(unsafe_code)] // A mapping shared with the kernel has no safe interface.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use lastseen_packet::Gso;

use super::backend::Frame;

/// Byte offsets in `struct tpacket_block_desc`.
const BLOCK_STATUS: usize = 8;
const PACKET_COUNT: usize = 12;
const FIRST_PACKET: usize = 16;
/// Byte offsets in `struct tpacket3_hdr`.
const NEXT_OFFSET: usize = 0;
const SECONDS: usize = 4;
const NANOSECONDS: usize = 8;
const CAPTURED: usize = 12;
const LENGTH: usize = 16;
const MAC_OFFSET: usize = 24;
/// `struct virtio_net_hdr`: 10 bytes right before the packet. `gso_type` is its second byte.
const VNET_HEADER: usize = 10;
const GSO_TYPE: usize = 1;
const GSO_SIZE: usize = 4;

/// Size of a ring: `blocks` of `block_bytes` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// A power of two, a multiple of the page size.
    pub(crate) block_bytes: usize,
    /// At least two: one to read, one to fill.
    pub(crate) blocks: usize,
}

impl Geometry {
    /// The largest super-packet and its headers fit in a block of a ring of usual size.
    const BLOCK: usize = 128 << 10;
    const SMALLEST_BLOCK: usize = 4 << 10;

    /// Blocks for at most `bytes` of ring memory, at least two of a page.
    pub(crate) fn for_bytes(bytes: usize) -> Self {
        let mut block_bytes = Self::BLOCK;
        while block_bytes > Self::SMALLEST_BLOCK && bytes / block_bytes < 4 {
            block_bytes /= 2;
        }
        Self { block_bytes, blocks: (bytes / block_bytes).max(2) }
    }

    pub(crate) fn bytes(self) -> usize {
        self.block_bytes * self.blocks
    }
}

/// A mapped ring and the block to read next.
pub(crate) struct Ring {
    map: NonNull<u8>,
    geometry: Geometry,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; the kernel writes only to blocks it owns.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring that was set up on `socket`.
    pub(crate) fn map(socket: BorrowedFd<'_>, geometry: Geometry) -> std::io::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let length = std::num::NonZeroUsize::new(geometry.bytes()).ok_or(std::io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of the length the ring was set up with.
        let map = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, socket, 0) }?;
        Ok(Self { map: map.cast(), geometry, next: 0 })
    }

    /// Hands at most `blocks` filled blocks to `each`, packet by packet, and gives them back to the kernel. Returns
    /// true if it stopped at that bound.
    pub(crate) fn read(&mut self, blocks: usize, each: &mut dyn FnMut(&Frame<'_>)) -> bool {
        for _ in 0..blocks {
            let status = self.status();
            if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return false;
            }
            walk(self.block(), each);
            self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.geometry.blocks;
        }
        true
    }

    fn status(&self) -> &AtomicU32 {
        let offset = self.next * self.geometry.block_bytes + BLOCK_STATUS;
        // SAFETY: `next` is below the number of blocks, so the word lies in the mapping; blocks are page-aligned, so it
        // is aligned; kernel and process only ever access it whole.
        unsafe { AtomicU32::from_ptr(self.map.as_ptr().add(offset).cast()) }
    }

    fn block(&self) -> &[u8] {
        let offset = self.next * self.geometry.block_bytes;
        // SAFETY: in the mapping as above; the caller saw TP_STATUS_USER, so the kernel does not write to the block
        // until it is given back, which `read` does after this borrow ended.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset), self.geometry.block_bytes) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped; no borrow of it outlives `self`.
        let _ = unsafe { nix::sys::mman::munmap(self.map.cast(), self.geometry.bytes()) };
    }
}

/// Every packet of a block. A header that points outside the block ends the walk: the kernel writes none.
fn walk(block: &[u8], each: &mut dyn FnMut(&Frame<'_>)) {
    let Some(count) = u32_at(block, PACKET_COUNT) else { return };
    let mut at = u32_at(block, FIRST_PACKET).unwrap_or(0) as usize;
    for _ in 0..count {
        let Some(header) = block.get(at..) else { return };
        let Some(frame) = frame(header) else { return };
        each(&frame);
        at += u32_at(header, NEXT_OFFSET).unwrap_or(0) as usize;
    }
}

#[inline]
fn frame(header: &[u8]) -> Option<Frame<'_>> {
    let start = u16_at(header, MAC_OFFSET)? as usize;
    let captured = u32_at(header, CAPTURED)? as usize;
    let bytes = header.get(start..start.checked_add(captured)?)?;
    let vnet = header.get(start.checked_sub(VNET_HEADER)?..start)?;
    let seconds = i64::from(u32_at(header, SECONDS)?);
    Some(Frame {
        bytes,
        original_length: u32_at(header, LENGTH)?,
        time_nanos: seconds * 1_000_000_000 + i64::from(u32_at(header, NANOSECONDS)?),
        gso: Gso { kind: vnet[GSO_TYPE], size: u16_at(vnet, GSO_SIZE)? },
    })
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_keep_to_their_budget_and_have_two_blocks() {
        for bytes in [1, 4096, 8192, 131_072, 1 << 20, 4 << 20, (4 << 20) + 1] {
            let geometry = Geometry::for_bytes(bytes);
            assert!(geometry.block_bytes.is_power_of_two() && geometry.blocks >= 2, "{geometry:?}");
            assert!(geometry.bytes() <= bytes.max(8192), "{geometry:?} for {bytes}");
        }
        assert_eq!(Geometry::for_bytes(4 << 20), Geometry { block_bytes: 128 << 10, blocks: 32 });
    }

    #[test]
    fn a_header_that_points_outside_its_block_ends_the_walk() {
        let mut block = vec![0u8; 4096];
        block[PACKET_COUNT..][..4].copy_from_slice(&3u32.to_ne_bytes());
        block[FIRST_PACKET..][..4].copy_from_slice(&48u32.to_ne_bytes());
        let header = &mut block[48..];
        header[MAC_OFFSET..][..2].copy_from_slice(&80u16.to_ne_bytes());
        header[CAPTURED..][..4].copy_from_slice(&60u32.to_ne_bytes());
        header[LENGTH..][..4].copy_from_slice(&1500u32.to_ne_bytes());
        header[NEXT_OFFSET..][..4].copy_from_slice(&9000u32.to_ne_bytes());
        let mut seen = Vec::new();
        walk(&block, &mut |frame| seen.push((frame.bytes.len(), frame.original_length)));
        assert_eq!(seen, [(60, 1500)]);
    }
}
