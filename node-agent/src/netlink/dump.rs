//! A dump: everything a kernel has of one kind, include/uapi/linux/netlink.h.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel's datagrams are no longer: it makes them for who asks, and of 32 KiB at most (`netlink_dump`).
const DATAGRAM_BYTES: usize = 64 << 10;
/// How often a kernel that says nothing is given up for late.
const PATIENCE: Duration = Duration::from_millis(200);

/// What to list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// `NETLINK_ROUTE` and so on.
    pub(crate) protocol: isize,
    /// Type of the request.
    pub(crate) kind: u16,
    /// What comes after the header.
    pub(crate) body: &'a [u8],
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was read.
    Whole,
    /// Everything was read while it changed: something may be missing, or be there twice (`NLM_F_DUMP_INTR`).
    Changed,
    /// There was no more time.
    Late,
}

/// Hands over type and body of every message of the answer. The network namespace is the one of the calling thread.
pub(crate) fn dump(
    request: Request<'_>,
    deadline: Instant,
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<End> {
    let mut socket = Socket::new(request.protocol)?;
    socket.bind_auto()?;
    // Nobody but the kernel is heard then.
    socket.connect(&SocketAddr::new(0, 0))?;
    SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
    socket.send(&message(request), 0)?;
    let mut buffer = Vec::with_capacity(DATAGRAM_BYTES);
    let mut is_changed = false;
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, libc::MSG_TRUNC) {
            Ok(bytes) if bytes > DATAGRAM_BYTES => {
                return Err(io::Error::other(format!("the kernel sent {bytes} bytes at once")));
            }
            Ok(_) => match read(&buffer, &mut is_changed, &mut each)? {
                true if is_changed => return Ok(End::Changed),
                true => return Ok(End::Whole),
                false => {}
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Ok(End::Late);
        }
    }
}

fn message(request: Request<'_>) -> Vec<u8> {
    let mut message = ((HEADER + request.body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(request.kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message.resize(HEADER, 0);
    message.extend(request.body);
    message
}

/// Reads the messages of one datagram. True: the dump ends with it.
fn read(datagram: &[u8], is_changed: &mut bool, each: &mut impl FnMut(u16, &[u8])) -> io::Result<bool> {
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let message = rest.get(..length).filter(|message| message.len() >= HEADER);
        let (header, body) = message.ok_or(io::ErrorKind::InvalidData)?.split_at(HEADER);
        let (kind, flags) =
            (u16::from_ne_bytes([header[4], header[5]]), u16::from_ne_bytes([header[6], header[7]]));
        *is_changed |= flags & NLM_F_DUMP_INTR != 0;
        match kind {
            // Both carry an `errno`, in a dump below 0 where it failed on the way.
            DONE | ERROR => match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                Some(code) if code < 0 => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
                _ if kind == DONE => return Ok(true),
                _ => {}
            },
            kind => each(kind, body),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// How it ended, whether anything changed, and what came.
    type Found = (Result<bool, Option<i32>>, bool, Vec<(u16, Vec<u8>)>);

    fn found(datagram: &[u8]) -> Found {
        let (mut is_changed, mut all) = (false, Vec::new());
        let end = read(datagram, &mut is_changed, &mut |kind, body| all.push((kind, body.to_vec())));
        (end.map_err(|error| error.raw_os_error()), is_changed, all)
    }

    #[test]
    fn a_dump_ends_or_fails_or_goes_on() {
        let datagram = [message(20, 0, &[1, 2, 3]), message(DONE, 0, &[0; 4])].concat();
        assert_eq!(found(&datagram), (Ok(true), false, vec![(20, vec![1, 2, 3])]));
        assert_eq!(found(&message(20, NLM_F_DUMP_INTR, &[])), (Ok(false), true, vec![(20, vec![])]));
        for kind in [DONE, ERROR] {
            let refused = message(kind, 0, &(-libc::EPERM).to_ne_bytes());
            assert_eq!(found(&refused), (Err(Some(libc::EPERM)), false, vec![]));
        }
        assert_eq!(found(&message(ERROR, 0, &i32::MIN.to_ne_bytes())).0, Err(Some(i32::MAX)));
        assert_eq!(found(&[]), (Ok(false), false, vec![]));
    }

    #[test]
    fn damaged_datagrams_are_refused_and_never_a_panic() {
        let whole = [message(20, 0, &[7; 9]), message(DONE, 0, &[0; 4])].concat();
        for length in 0..whole.len() {
            let _ = found(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let (_, _, all) = found(&damaged);
                assert!(all.len() <= whole.len() / HEADER);
            }
        }
        assert_eq!(found(&[15, 0, 0, 0, 0, 0]).0, Err(None), "shorter than its own header");
    }
}
