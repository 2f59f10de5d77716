//! The receiver drops what its connection tracking calls invalid, and has not seen how connections began: everything
//! after the handshake is lost between `flannel.1` and `cni0`.

use anyhow::Result;

use super::nft::Rule;
use super::{Cast, Injected, to_receiver};

/// Whether tracking takes up connections in the middle.
const LOOSE: &str = "net/netfilter/nf_conntrack_tcp_loose";

pub(super) fn inject(cast: Cast<'_>) -> Result<Injected<'_>> {
    let netns = &cast.receiver.netns;
    let expression = to_receiver(cast, "ct state invalid");
    // As if the first packet had come another way.
    let beside = format!(
        "chain unseen {{\n\
         type filter hook prerouting priority raw;\n\
         {} notrack\n\
         }}",
        to_receiver(cast, "tcp flags & (syn | ack) == syn")
    );
    let rule = Rule { beside: &beside, ..Rule::dropping("hook forward priority 0", &expression) };
    let dropping = rule.inject(netns)?;
    netns.sysctl(LOOSE, "0")?;
    Ok(dropping.undone_by(move || netns.sysctl(LOOSE, "1")))
}
