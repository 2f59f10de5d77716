//! The largest packet that a path takes: what routers say of one that is too large (RFC 1191, RFC 8201), and where they say
//! nothing, sizes alone (RFC 4821 §7, RFC 8899 §5).

use std::io;
use std::net::{IpAddr, SocketAddr};

use lastseen_proto::limits::PROBE_MTU_STEPS;
use tokio::time::Instant;

use super::attempt::{Attempt, Outcome, trouble};
use super::datagrams::Datagrams;
use super::icmp::{self, Echo};
use super::report::{Method, PathMtu};
use super::spec::Schedule;
use super::train;
use super::way::way;

/// What every link takes: RFC 791 §3.2, RFC 8200 §5.
const LEAST: [u16; 2] = [68, 1280];
/// IP and ICMP header, of IPv4 and IPv6.
const HEADERS: [u16; 2] = [20 + 8, 40 + 8];

/// Routers in a row that are believed.
const HINTS: u8 = 2;

/// Looks for it between `begin` and so many steps later.
pub(super) async fn run(
    to: IpAddr,
    max_size: Option<u16>,
    schedule: &Schedule,
    begin: Instant,
) -> Result<(Vec<Attempt>, Option<PathMtu>), String> {
    let interface_mtu = way(to).await?.link.interface.mtu;
    let is_v6 = usize::from(to.is_ipv6());
    let most = interface_mtu.min(max_size.unwrap_or(u16::MAX).into()) as u16;
    if most < LEAST[is_v6] {
        let least = LEAST[is_v6];
        return Err(format!(
            "the largest packet to try is one of {most} bytes, and every link takes {least}"
        ));
    }
    let socket = open(to).map_err(|error| trouble(&error))?;
    let mut search = Search::new(LEAST[is_v6], most);
    let (mut attempts, mut begin) = (Vec::new(), begin.max(Instant::now()));
    for _ in 0..PROBE_MTU_STEPS {
        let Some(size) = search.next() else { break };
        let echo = Echo::new(to.is_ipv6(), vec![usize::from(size - HEADERS[is_v6])]);
        let mut step = train::run(&socket, &echo, to, schedule, begin).await;
        for attempt in &mut step {
            attempt.size = Some(size);
        }
        let result = judged(&step);
        attempts.append(&mut step);
        match result {
            Some(result) => search.tell(size, result),
            // No size has anything to do with it.
            None => return Ok((attempts, None)),
        }
        begin = Instant::now();
    }
    let (mtu, mut method, limited_by) = search.found();
    if method == Method::Interface && max_size.is_some_and(|asked| u32::from(asked) < interface_mtu) {
        method = Method::Asked;
    }
    Ok((attempts, Some(PathMtu { mtu, method, limited_by, interface_mtu })))
}

fn open(to: IpAddr) -> io::Result<Datagrams> {
    let socket = icmp::open(SocketAddr::new(to, 0))?;
    socket.may_fragment(to.is_ipv6(), false)?;
    Ok(socket)
}

/// What became of packets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// One came through.
    Through,
    /// Somebody says that they are too large, and perhaps what is not.
    TooLarge { by: Option<IpAddr>, next_mtu: Option<u16> },
    /// Nothing.
    Nothing,
}

/// None: they end for another reason.
fn judged(step: &[Attempt]) -> Option<Said> {
    if step.iter().any(|attempt| attempt.outcome == Outcome::Answered) {
        return Some(Said::Through);
    }
    if let Some(attempt) = step.iter().find(|attempt| attempt.is_too_large) {
        let next_mtu = attempt.next_mtu.and_then(|mtu| mtu.try_into().ok());
        return Some(Said::TooLarge { by: attempt.responder, next_mtu });
    }
    let is_silent = step.iter().all(|attempt| attempt.outcome == Outcome::Silent);
    is_silent.then_some(Said::Nothing)
}

/// Between a size that comes through and one that does not.
#[derive(Debug)]
struct Search {
    least: u16,
    most: u16,
    /// The largest that came through.
    through: Option<u16>,
    /// The smallest that did not, and what was said of it.
    stuck: Option<(u16, Said)>,
    /// What somebody said would come through.
    hint: Option<u16>,
    /// How often somebody said so: one who names a little less each time would never end.
    hints: u8,
}

impl Search {
    fn new(least: u16, most: u16) -> Self {
        Self { least, most, through: None, stuck: None, hint: None, hints: 0 }
    }

    /// The size to try next: the largest first, since most paths take it; then what somebody named; then the smallest, without
    /// which no other says anything; then halves.
    fn next(&mut self) -> Option<u16> {
        let Some((stuck, _)) = self.stuck else {
            return self.through.is_none().then_some(self.most);
        };
        if let Some(hint) = self.hint.take() {
            return Some(hint);
        }
        match self.through {
            None if stuck == self.least => None,
            None => Some(self.least),
            Some(through) if stuck - through <= 1 => None,
            Some(through) => Some(through + (stuck - through) / 2),
        }
    }

    fn tell(&mut self, size: u16, said: Said) {
        match said {
            Said::Through => self.through = self.through.max(Some(size)),
            said => {
                if self.stuck.is_none_or(|(stuck, _)| size <= stuck) {
                    self.stuck = Some((size, said));
                }
            }
        }
        if let Said::TooLarge { next_mtu: Some(mtu), by } = said {
            let is_news = self.hints < HINTS
                && mtu < size
                && mtu >= self.least
                && self.through.is_none_or(|through| mtu > through);
            self.hint = Some(mtu).filter(|_| is_news);
            // What is one byte above it need not be tried.
            if is_news {
                self.hints += 1;
                self.stuck = Some((mtu + 1, Said::TooLarge { by, next_mtu: None }));
            }
        }
    }

    fn found(&self) -> (Option<u16>, Method, Option<IpAddr>) {
        match (self.through, self.stuck) {
            (through, None) => (through, Method::Interface, None),
            (through, Some((_, Said::TooLarge { by, .. }))) => (through, Method::Icmp, by),
            (through, Some(_)) => (through, Method::Probing, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// A path that takes so much, whose router says so (with that number) or not; and the number of steps.
    fn search(mtu: u16, said: impl Fn(u16) -> Said) -> (Option<u16>, Method, Option<IpAddr>, u32) {
        let (mut search, mut steps) = (Search::new(68, 1500), 0);
        while let Some(size) = search.next() {
            search.tell(size, if size <= mtu { Said::Through } else { said(size) });
            steps += 1;
            assert!(steps <= PROBE_MTU_STEPS, "{search:?}");
        }
        let (mtu, method, by) = search.found();
        (mtu, method, by, steps)
    }

    #[test]
    fn it_is_found_whatever_routers_say() {
        let silent = |_| Said::Nothing;
        let honest = |_| Said::TooLarge { by: Some(ROUTER), next_mtu: Some(1450) };
        let mute = |_| Said::TooLarge { by: Some(ROUTER), next_mtu: None };
        assert_eq!(search(1500, silent), (Some(1500), Method::Interface, None, 1));
        assert_eq!(search(1450, honest), (Some(1450), Method::Icmp, Some(ROUTER), 2));
        for mtu in [68, 69, 1280, 1449, 1450, 1498, 1499] {
            let (found, method, ..) = search(mtu, silent);
            assert_eq!((found, method), (Some(mtu), Method::Probing), "silent");
            let (found, method, by, _) = search(mtu, mute);
            assert_eq!((found, method, by), (Some(mtu), Method::Icmp, Some(ROUTER)), "without a number");
        }
        // What it says is too large for a second router, which says nothing.
        let (found, method, ..) = search(1400, |size| if size > 1450 { honest(size) } else { Said::Nothing });
        assert_eq!((found, method), (Some(1400), Method::Probing));
        // A router that says again and again what is not true.
        let (found, ..) = search(1400, |_| Said::TooLarge { by: Some(ROUTER), next_mtu: Some(1450) });
        assert_eq!(found, Some(1400));
        let (found, ..) = search(1400, |_| Said::TooLarge { by: Some(ROUTER), next_mtu: Some(9) });
        assert_eq!(found, Some(1400));
        let (found, method, ..) =
            search(500, |size| Said::TooLarge { by: Some(ROUTER), next_mtu: Some(size - 1) });
        assert_eq!((found, method), (Some(500), Method::Icmp), "one that names a little less each time");
        assert_eq!(search(0, silent), (None, Method::Probing, None, 2));
    }

    #[test]
    fn what_is_too_large_is_known_with_and_without_a_number() {
        let attempt = |outcome, is_too_large, next_mtu| Attempt {
            outcome,
            is_too_large,
            next_mtu,
            ..Attempt::silent(0)
        };
        let too_large = |next_mtu| Some(Said::TooLarge { by: None, next_mtu });
        for (step, said) in [
            (attempt(Outcome::Unreachable, true, Some(1_400)), too_large(Some(1_400))),
            (attempt(Outcome::Unreachable, true, None), too_large(None)),
            (attempt(Outcome::NotSent, true, None), too_large(None)),
            (attempt(Outcome::Unreachable, false, None), None),
            (attempt(Outcome::Silent, false, None), Some(Said::Nothing)),
            (attempt(Outcome::Answered, false, None), Some(Said::Through)),
        ] {
            assert_eq!(judged(&[step]), said);
        }
    }

    #[test]
    fn every_size_is_found_within_the_steps() {
        for mtu in 68..1500 {
            assert_eq!(search(mtu, |_| Said::Nothing).0, Some(mtu));
        }
        for mtu in [68, 1_279, 1_501, 8_999, 32_767, 65_534] {
            let (mut search, mut steps) = (Search::new(68, u16::MAX), 0);
            while let Some(size) = search.next() {
                let worst = Said::TooLarge { by: None, next_mtu: Some(size - 1) };
                search.tell(size, if size <= mtu { Said::Through } else { worst });
                steps += 1;
            }
            assert!(search.found().0 == Some(mtu) && steps <= PROBE_MTU_STEPS, "{mtu} in {steps}");
        }
    }
}
