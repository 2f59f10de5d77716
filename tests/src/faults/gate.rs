//! A way between two programs that can be cut or go dead: bytes pass as they are, so that TLS is theirs alone.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Whether bytes get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing gets through and nobody is told, as behind a switch that died.
    Dead,
}

/// A listening port that leads to another address. Ends when it is dropped, with its connections.
#[derive(Debug)]
pub struct Gate {
    /// Where to connect to instead.
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    /// Cancelled to reset what is connected.
    connected: watch::Sender<CancellationToken>,
    _ends: DropGuard,
}

impl Gate {
    /// A way to `to`, which need not listen yet.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("bind a gate")?;
        let address = listener.local_addr()?;
        let (way, _) = watch::channel(Way::Open);
        let ended = CancellationToken::new();
        let (connected, current) = watch::channel(CancellationToken::new());
        let passing = pass_all(listener, to, way.subscribe(), current);
        let ending = ended.clone();
        tokio::spawn(async move { ending.run_until_cancelled(passing).await });
        Ok(Self { address, way, connected, _ends: ended.drop_guard() })
    }

    /// From now on nothing gets through; connections stay as they are.
    pub fn die(&self) {
        self.way.send_replace(Way::Dead);
    }

    /// Bytes get through again.
    pub fn live(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.connected.send_replace(CancellationToken::new()).cancel();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn pass_all(
    listener: TcpListener,
    to: SocketAddr,
    way: watch::Receiver<Way>,
    current: watch::Receiver<CancellationToken>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let (way, token) = (way.clone(), current.borrow().clone());
        tokio::spawn(async move { token.run_until_cancelled(pass(near, to, way)).await });
    }
}

async fn pass(near: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>) {
    if way.wait_for(|way| *way == Way::Open).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // Whichever side ends first ends the other, as the kernel's reset does.
    tokio::select! {
        () = copy(near_in, far_out, way.clone()) => {}
        () = copy(far_in, near_out, way) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let is_open = way.wait_for(|way| *way == Way::Open).await.is_ok();
        if !is_open || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
