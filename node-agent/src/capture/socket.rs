//! The packet socket below a ring: options in the one order the kernel accepts.
#![allow(unsafe_code)] // setsockopt of AF_PACKET's own structures has no safe interface.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::assembler::Instruction;
use super::ring::Geometry;

/// A block with packets in it is handed over after this time even if it is not full, in milliseconds.
const BLOCK_TIMEOUT_MILLIS: u32 = 20;
/// The kernel checks the frame size of a `TPACKET_V3` ring but does not use it.
const FRAME_BYTES: u32 = 2048;

/// A bound packet socket with a ring.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket on interface `index` that keeps of each packet what `filter` returns. It sees nothing until
    /// everything is set.
    pub(crate) fn open(index: u32, geometry: Geometry, filter: &[Instruction]) -> Result<Self, Failure> {
        let socket = Self::prepare(geometry)?;
        socket.attach(filter).map_err(|e| Failure::at("attach the snap filter", e))?;
        socket.bind(index).map_err(|e| Failure::at("bind to the interface", e))?;
        Ok(socket)
    }

    /// A socket with a ring that sees nothing yet.
    pub(crate) fn prepare(geometry: Geometry) -> Result<Self, Failure> {
        let socket = Self(create().map_err(|e| Failure::at("open a packet socket", e))?);
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        socket.set(libc::PACKET_VERSION, &version).map_err(|e| Failure::at("select TPACKET_V3", e))?;
        socket.set(libc::PACKET_VNET_HDR, &1).map_err(|e| Failure::at("enable PACKET_VNET_HDR", e))?;
        socket.set_ring(geometry).map_err(|e| Failure::at("allocate the ring", e))?;
        Ok(socket)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Packets dropped since the last call.
    pub(crate) fn drops(&self) -> io::Result<u64> {
        let statistics: libc::tpacket_stats_v3 = self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
        Ok(u64::from(statistics.tp_drops))
    }

    /// The pending error, which this clears: `ENETDOWN` after the interface went down.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let number: libc::c_int = self.get(libc::SOL_SOCKET, libc::SO_ERROR)?;
        Ok((number != 0).then(|| io::Error::from_raw_os_error(number)))
    }

    fn set_ring(&self, geometry: Geometry) -> io::Result<()> {
        let frames_per_block = (geometry.block_bytes as u32 / FRAME_BYTES).max(1);
        let request = libc::tpacket_req3 {
            tp_block_size: geometry.block_bytes as u32,
            tp_block_nr: geometry.blocks as u32,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: frames_per_block * geometry.blocks as u32,
            tp_retire_blk_tov: BLOCK_TIMEOUT_MILLIS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        self.set(libc::PACKET_RX_RING, &request)
    }

    fn attach(&self, filter: &[Instruction]) -> io::Result<()> {
        // The kernel copies the instructions and does not write to them.
        let program =
            libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_ptr().cast_mut() };
        self.set_at(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn bind(&self, index: u32) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as libc::c_int;
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives for the call and `length` is its size.
        check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) })
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_PACKET, option, value)
    }

    fn set_at<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the value lives for the call and `length` is its size; each caller passes the option's own type.
        check(unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
        })
    }

    fn get<T: Copy>(&self, level: libc::c_int, option: libc::c_int) -> io::Result<T> {
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
        check(unsafe {
            libc::getsockopt(self.0.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length)
        })?;
        // SAFETY: zeroed before and possibly overwritten since; both callers use plain integers.
        Ok(unsafe { value.assume_init() })
    }
}

/// Whether interface `name` is up, in the network namespace of `socket`; netdevice(7).
pub(crate) fn is_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the request outlives the call, and the kernel writes within it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: `SIOCGIFFLAGS` filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

/// What could not be done to a socket.
#[derive(Debug)]
pub(crate) struct Failure {
    step: &'static str,
    error: io::Error,
}

impl Failure {
    fn at(step: &'static str, error: io::Error) -> Self {
        Self { step, error }
    }

    /// One line with the next step for the errors a user can do something about.
    pub(crate) fn explain(&self, geometry: Geometry) -> String {
        let Self { step, error } = self;
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                format!("cannot {step}: NET_RAW is missing; add the capability")
            }
            Some(libc::ENOMEM) => {
                format!("cannot {step} of {} bytes: out of memory; lower --ring-bytes", geometry.bytes())
            }
            Some(libc::ENODEV | libc::ENXIO) => format!("cannot {step}: it is gone"),
            _ => format!("cannot {step}: {error}"),
        }
    }
}

fn create() -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    // Without a protocol the socket receives nothing before `bind`.
    Ok(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
