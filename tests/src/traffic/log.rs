//! What the generators know: ids sent, ids received, and how each connection ended.

use std::collections::HashMap;

use serde::Serialize;

use super::numbering::Numbered;

/// Ids at both ends of a UDP stream, in the order they were sent and received.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UdpLog {
    /// Ids the sender handed to its kernel.
    pub sent: Vec<u64>,
    /// Ids the receiver read.
    pub received: Vec<u64>,
    /// When each of `sent` had been handed over, Unix nanoseconds.
    pub sent_at: Vec<i64>,
    /// One of them as the kernel numbered it; absent where it numbers none, and of several flows.
    pub numbered: Option<Numbered>,
}

impl UdpLog {
    /// Ids that were sent more often than they arrived, once per missing copy.
    pub fn lost(&self) -> Vec<u64> {
        let mut arrived: HashMap<u64, u32> = HashMap::with_capacity(self.received.len());
        for id in &self.received {
            *arrived.entry(*id).or_default() += 1;
        }
        let missing = |id: &&u64| match arrived.get_mut(*id) {
            Some(copies) if *copies > 0 => {
                *copies -= 1;
                false
            }
            _ => true,
        };
        self.sent.iter().filter(missing).copied().collect()
    }
}

/// How one TCP connection went.
#[derive(Debug, Clone, Serialize)]
pub struct TcpLog {
    /// Local port of the sender.
    pub source_port: u16,
    /// Whether every message was answered before the deadline.
    pub completed: bool,
    /// Messages answered.
    pub answered: u32,
    /// Why it did not complete, as the socket said it.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::UdpLog;

    #[test]
    fn a_lost_copy_counts_even_when_another_copy_arrived() {
        let log = UdpLog { sent: vec![1, 2, 2, 3], received: vec![2, 1, 1], ..UdpLog::default() };
        assert_eq!(log.lost(), vec![2, 3]);
    }
}
