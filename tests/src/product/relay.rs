//! A relay between an agent and its coordinator whose way back is slow: the control stream's exchange then measures a
//! clock offset that is wrong by half of the delay.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::lab::netns::{Netns, become_part_of};

/// Relays connections from a port of the namespace's loopback to `to`; bytes that come back arrive `delay` later. Lives
/// as long as the program: its connections end with the programs at their ends.
pub fn start(netns: &Netns, to: SocketAddr, delay: Duration) -> Result<SocketAddr> {
    let listener = netns.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the relay"))?;
    let address = listener.local_addr()?;
    let name = netns.name().to_owned();
    thread::spawn(move || {
        // Sockets belong to the namespace of the thread that makes them.
        become_part_of(&name)?;
        for near in listener.incoming().flatten() {
            if let Ok(far) = TcpStream::connect(to) {
                relay(near, far, delay)?;
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    Ok(address)
}

fn relay(near: TcpStream, far: TcpStream, delay: Duration) -> Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_out, far_in) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || pass(near, far, Duration::ZERO));
    thread::spawn(move || pass(far_in, near_out, delay));
    Ok(())
}

/// Passes bytes on, each `delay` after it came, until one side closes.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (queue, waiting) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
    let writer = thread::spawn(move || {
        for (due, bytes) in waiting {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if queue.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(queue);
    let _ = writer.join();
}
