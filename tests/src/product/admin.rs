//! What an admin port says, as Prometheus or a kubelet would ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::netns::Netns;

/// The coordinator's admin port.
pub const COORDINATOR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7481);
/// An agent's.
pub const AGENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7482);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to a GET, its status line and headers included; HTTP/1.0, so that it ends with the connection.
pub fn get(netns: &Netns, address: SocketAddrV4, path: &str) -> Result<String> {
    netns.enter(|| {
        let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).with_context(|| format!("read {path} of {address}"))?;
        Ok(text)
    })
}
