//! Sends a stream, as fast as it goes or as is asked.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::message::{BYTES, Key, Message, Word};
use super::pace::Pace;
use super::seconds::Seconds;
use super::tcp_info::{self, TcpInfo};
use super::{End, Times, mean};
use crate::clock;
use crate::probe::attempt::{Attempt, Outcome};
use crate::probe::report::{Role, Throughput};
use crate::probe::spec::Flow;
use crate::probe::tcp::{Connection, connect};

/// Bytes of one write.
const PIECE: usize = 128 << 10;
/// Of a paced stream: what a few milliseconds take of most rates.
const PACED_PIECE: usize = 8 << 10;
/// Between two attempts to connect: the receiver may be a little later than we are.
const AGAIN: Duration = Duration::from_millis(100);

/// Connects, sends, and waits until it is acknowledged.
pub(super) async fn run(flow: &Flow, to: SocketAddr, key: Key, times: &Times) -> End {
    sleep_until(times.begin).await;
    let seen = Throughput::of(Role::Sender);
    match call(to, key, times).await {
        Err(attempt) => End { attempt, seen, source: None },
        Ok((mut connection, attempt)) => {
            let stream = &mut connection.0;
            let source = stream.local_addr().ok().map(|own| own.ip());
            let mut sent = Sent::new(flow, stream);
            let ended = sent.send(flow, times).await;
            let detail = ended.map_or_else(String::new, |error| format!("it broke off: {error}"));
            End { attempt: Attempt { detail, ..attempt }, seen: sent.seen(), source }
        }
    }
}

/// A connection to a receiver that knows the token, or what is there in its place.
async fn call(to: SocketAddr, key: Key, times: &Times) -> Result<(Connection, Attempt), Attempt> {
    loop {
        let (sent, began) = (clock::realtime_nanos(), Instant::now());
        let failed = match timeout_at(times.called(), connect(to)).await {
            Err(_) => return Err(Attempt::silent(sent)),
            Ok(Err(failure)) => failure.attempt(sent, began.elapsed()),
            Ok(Ok(mut connection)) => {
                let delay = Some(began.elapsed());
                greet(&mut connection.0, sent, key, times).await?;
                return Ok((
                    connection,
                    Attempt { outcome: Outcome::Answered, delay, ..Attempt::silent(sent) },
                ));
            }
        };
        if failed.outcome != Outcome::Refused || Instant::now() + AGAIN >= times.called() {
            return Err(failed);
        }
        sleep_until(began + AGAIN).await;
    }
}

async fn greet(stream: &mut TcpStream, sent: i64, key: Key, times: &Times) -> Result<(), Attempt> {
    let refused = |detail: &str| Attempt {
        outcome: Outcome::Refused,
        detail: detail.to_owned(),
        ..Attempt::silent(sent)
    };
    let mut answer = [0; BYTES];
    let asking = async {
        stream.write_all(&key.write(Message { word: Word::Call, number: 0, stamp: 0 })).await?;
        stream.read_exact(&mut answer).await
    };
    match timeout_at(times.called(), asking).await {
        Err(_) => Err(refused("connected, and who listens there does not answer the token")),
        Ok(Err(_)) => Err(refused("connected, and who listens there closed at the token")),
        Ok(Ok(_)) => match key.read(&answer) {
            Some(Message { word: Word::Ready, .. }) => Ok(()),
            _ => Err(refused("connected, and who listens there says something else")),
        },
    }
}

/// What went out.
struct Sent<'a> {
    stream: &'a mut TcpStream,
    begin: Instant,
    duration: Duration,
    pace: Option<Pace>,
    piece: Vec<u8>,
    /// Bytes that the kernel took.
    written: u64,
    /// Of those, bytes that count for a second already.
    counted: u64,
    elapsed: Duration,
    info: TcpInfo,
    seconds: Seconds,
}

impl<'a> Sent<'a> {
    fn new(flow: &Flow, stream: &'a mut TcpStream) -> Self {
        let begin = Instant::now();
        let pace = flow.bits_per_second.map(|rate| Pace::new(rate, PACED_PIECE, begin));
        // As good as random: a link that compresses must not seem faster.
        let mut piece = vec![0; if pace.is_some() { PACED_PIECE } else { PIECE }];
        rand::fill(&mut piece[..]);
        let (elapsed, info, seconds) = (Duration::ZERO, TcpInfo::default(), Seconds::default());
        Self {
            stream,
            begin,
            duration: flow.duration,
            pace,
            piece,
            written: 0,
            counted: 0,
            elapsed,
            info,
            seconds,
        }
    }

    /// Until the time, or what may be sent, is over, and then until the receiver has closed. Why it ended before.
    async fn send(&mut self, flow: &Flow, times: &Times) -> Option<io::Error> {
        let end = (self.begin + flow.duration).min(times.over());
        let ended = self.write(flow, end).await.err();
        self.look();
        if ended.is_none() {
            let closed = times.over().min(Instant::now() + times.patience);
            // Who reads nothing does not close: what is acknowledged by then counts.
            let _ = timeout_at(closed, self.close()).await;
        }
        self.look();
        ended
    }

    async fn write(&mut self, flow: &Flow, end: Instant) -> io::Result<()> {
        let mut second = 1;
        while Instant::now() < end && self.written < flow.max_bytes {
            let length = self.piece.len().min((flow.max_bytes - self.written) as usize);
            if let Some(pace) = &mut self.pace
                && pace.room(Instant::now()) < length
            {
                let wait = pace.until(length).max(Duration::from_millis(1));
                sleep_until(end.min(Instant::now() + wait)).await;
                continue;
            }
            let Ok(writable) = timeout_at(end, self.stream.writable()).await else { break };
            writable?;
            match self.stream.try_write(&self.piece[..length]) {
                Ok(written) => {
                    self.written += written as u64;
                    if let Some(pace) = &mut self.pace {
                        pace.take(written);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if self.begin.elapsed() >= Duration::from_secs(second) {
                second += 1;
                self.look();
            }
        }
        Ok(())
    }

    async fn close(&mut self) {
        if self.stream.shutdown().await.is_ok() {
            let mut nothing = [0; 1];
            let _ = self.stream.read(&mut nothing).await;
        }
    }

    /// What was acknowledged since the last look counts for the second before now, or for the last in which was sent.
    fn look(&mut self) {
        self.elapsed = self.begin.elapsed();
        // After a reset the kernel may know nothing any more.
        let Ok(info) = tcp_info::read(self.stream.as_fd()) else { return };
        self.info = info;
        let acknowledged = self.acknowledged();
        let before = self.elapsed.min(self.duration).saturating_sub(Duration::from_millis(1));
        self.seconds.add(before.as_nanos() as u64, acknowledged.saturating_sub(self.counted), 0);
        self.counted = self.counted.max(acknowledged);
    }

    /// Of the data: the call and the one of SYN are no data.
    fn acknowledged(&self) -> u64 {
        self.info.acknowledged.saturating_sub(BYTES as u64 + 1).min(self.written)
    }

    fn seen(self) -> Throughput {
        let bytes = self.acknowledged();
        Throughput {
            bytes,
            bits_per_second: mean(bytes, self.elapsed.as_nanos() as u64),
            duration: self.elapsed,
            retransmits: Some(self.info.retransmits),
            rtt: Some(self.info.rtt),
            seconds: self.seconds.0,
            ..Throughput::of(Role::Sender)
        }
    }
}
