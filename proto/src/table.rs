//! Tables that a kernel keeps of the network, one set in each network namespace.

use std::fmt;
use std::str::FromStr;

use crate::v1;

/// One of them. docs/TABLES.md has its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeTable {
    /// Sockets of TCP and UDP.
    Sockets,
    /// Routes of all routing tables.
    Routes,
    /// Rules that choose a routing table.
    Rules,
    /// Neighbours, ARP and NDP.
    Neighbors,
    /// Interfaces with their counters.
    Interfaces,
    /// Connections that are tracked.
    Conntrack,
    /// Forwarding entries of bridges and VXLAN devices.
    Fdb,
    /// Chains and rules of nftables and of legacy iptables.
    Filters,
    /// Settings that decide about forwarding.
    Settings,
    /// What the kernel counts of each protocol.
    Counters,
}

impl NodeTable {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Sockets,
        Self::Routes,
        Self::Rules,
        Self::Neighbors,
        Self::Interfaces,
        Self::Conntrack,
        Self::Fdb,
        Self::Filters,
        Self::Settings,
        Self::Counters,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Routes => "routes",
            Self::Rules => "rules",
            Self::Neighbors => "neighbors",
            Self::Interfaces => "interfaces",
            Self::Conntrack => "conntrack",
            Self::Fdb => "fdb",
            Self::Filters => "filters",
            Self::Settings => "settings",
            Self::Counters => "counters",
        }
    }

    /// As it is sent.
    pub fn message(self) -> v1::NodeTable {
        match self {
            Self::Sockets => v1::NodeTable::TableSockets,
            Self::Routes => v1::NodeTable::TableRoutes,
            Self::Rules => v1::NodeTable::TableRules,
            Self::Neighbors => v1::NodeTable::TableNeighbors,
            Self::Interfaces => v1::NodeTable::TableInterfaces,
            Self::Conntrack => v1::NodeTable::TableConntrack,
            Self::Fdb => v1::NodeTable::TableFdb,
            Self::Filters => v1::NodeTable::TableFilters,
            Self::Settings => v1::NodeTable::TableSettings,
            Self::Counters => v1::NodeTable::TableCounters,
        }
    }

    /// By the number it has in messages; absent: it has none here.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.message() as i32 == number)
    }
}

impl fmt::Display for NodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NodeTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|table| table.name() == text);
        found.ok_or_else(|| format!("{text:.40} is none of {}", names()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_name_and_a_number() {
        for table in NodeTable::ALL {
            assert_eq!(table.name().parse(), Ok(table));
            assert_eq!(NodeTable::from_number(table.message() as i32), Some(table));
        }
        assert_eq!(NodeTable::from_number(0), None);
        assert_eq!(NodeTable::from_number(11), None);
        assert!("route".parse::<NodeTable>().unwrap_err().contains("sockets, routes"));
    }
}
