//! What the kernel keeps of the network, as rows of text: one table of the network namespace of the calling thread.
//!
//! Everything is read by netlink, `getsockopt` and /proc, and nothing is changed: where reading would make the kernel set
//! something up (legacy iptables makes a table that is asked for), only what is there already is read.

mod conntrack;
mod counters;
mod fdb;
mod filters;
mod interfaces;
mod listing;
mod neighbors;
mod owners;
mod routes;
mod rules;
mod settings;
mod sockets;
mod words;

use std::io;
use std::time::Instant;

use lastseen_proto::table::NodeTable;

use self::listing::Listing;
use crate::probe::report::Table;

/// Reads a table, or says why it cannot be read and what to do. It ends soon after `deadline`, with what it has then.
pub(crate) fn read(table: NodeTable, deadline: Instant) -> Result<Table, String> {
    let of = |columns| Listing::new(columns, deadline);
    let listing = match table {
        NodeTable::Sockets => sockets::read(of(&sockets::COLUMNS)),
        NodeTable::Routes => routes::read(of(&routes::COLUMNS)),
        NodeTable::Rules => rules::read(of(&rules::COLUMNS)),
        NodeTable::Neighbors => neighbors::read(of(&neighbors::COLUMNS)),
        NodeTable::Interfaces => interfaces::read(of(&interfaces::COLUMNS)),
        NodeTable::Conntrack => conntrack::read(of(&conntrack::COLUMNS)),
        NodeTable::Fdb => fdb::read(of(&fdb::COLUMNS)),
        NodeTable::Filters => filters::read(of(&filters::COLUMNS)),
        NodeTable::Settings => settings::read(of(&settings::COLUMNS)),
        NodeTable::Counters => counters::read(of(&counters::COLUMNS)),
    }?;
    let Listing { columns, rows, total, notes, .. } = listing;
    Ok(Table { table, columns, rows, total, notes })
}

/// Why something cannot be read, in words with the next step.
fn trouble(what: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "{what} cannot be read: the agent lacks NET_ADMIN there; add it to its container, or run it as root"
        ),
        // What is built as a module may be missing, by any of these words.
        Some(
            libc::ENOENT
            | libc::EINVAL
            | libc::EPROTONOSUPPORT
            | libc::EOPNOTSUPP
            | libc::EAFNOSUPPORT
            | libc::ENOPROTOOPT,
        ) => {
            format!(
                "{what} cannot be read: this node's kernel has no such thing, or its module is not loaded"
            )
        }
        _ => format!("{what} cannot be read: {error}; try again"),
    }
}
