//! Legacy iptables and ip6tables, `linux/netfilter_ipv4/ip_tables.h` and `linux/netfilter_ipv6/ip6_tables.h`. Asking the
//! kernel for a table makes it, so only those are asked for that the namespace has.

mod entry;
mod socket;
mod walk;

use std::fs;
use std::io;

use self::walk::{Line, walk};
use super::super::listing::Listing;
use super::super::trouble;
use super::LEGACY;

/// Bytes of a table that are read; a rule has some hundred.
const TABLE_BYTES: u32 = 32 << 20;
/// Times that a table is asked for whose length changes meanwhile.
const READS: usize = 5;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Adds a row for each chain, followed by those of its rules.
pub(super) fn read(listing: &mut Listing) -> Result<(), String> {
    for (family, names) in [(Family::V4, "ip_tables_names"), (Family::V6, "ip6_tables_names")] {
        for name in tables(names)? {
            if listing.is_late("legacy iptables") {
                return Ok(());
            }
            table(listing, family, &name)?;
        }
    }
    Ok(())
}

/// Those that this thread's namespace has; none where the kernel has no legacy iptables.
fn tables(names: &str) -> Result<Vec<String>, String> {
    match fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!(
            "rules of legacy iptables cannot be read: /proc/net/{names}: {error}; run the agent as root"
        )),
    }
}

fn table(listing: &mut Listing, family: Family, name: &str) -> Result<(), String> {
    let what = || format!("the legacy table {name}");
    for _ in 0..READS {
        let info = socket::info(family, name).map_err(|error| trouble(&what(), &error))?;
        if info.bytes > TABLE_BYTES {
            let (bytes, rules) = (info.bytes, info.entries);
            listing.total += u64::from(rules);
            listing.note(format!("{} has {rules} rules in {bytes} bytes: too many to be read", what()));
            return Ok(());
        }
        match socket::entries(family, name, info.bytes) {
            Ok(entries) => {
                let mut lines = Lines { listing, family, table: name };
                if walk(family, &info, &entries, &mut |line| lines.add(line)).is_none() {
                    listing.note(format!("{} is written in a way this agent does not know", what()));
                }
                return Ok(());
            }
            // It is longer or shorter now.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL)) => {}
            Err(error) => return Err(trouble(&what(), &error)),
        }
    }
    listing.note(format!("{} changed each of the {READS} times it was asked for; it is left out", what()));
    Ok(())
}

/// Makes rows of what a table has.
struct Lines<'a> {
    listing: &'a mut Listing,
    family: Family,
    table: &'a str,
}

impl Lines<'_> {
    fn add(&mut self, line: Line) {
        let family = if self.family == Family::V6 { "ip6" } else { "ip" };
        let table = self.table;
        self.listing.row(|_| {
            let Line { chain, hook, policy, number, counters, text, action, comment } = line;
            let count = |of: Option<u64>| super::text(of);
            [
                LEGACY.to_owned(),
                family.to_owned(),
                table.to_owned(),
                chain,
                String::new(),
                hook.to_owned(),
                String::new(),
                policy,
                super::text(number),
                count(counters.map(|counters| counters.packets)),
                count(counters.map(|counters| counters.bytes)),
                text,
                action,
                comment,
            ]
        });
    }
}
