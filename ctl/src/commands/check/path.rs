//! `check-path`.

use std::io::Write;

use clap::Args;
use lastseen_proto::target::Target;
use lastseen_proto::v1::check_spec::What;
use lastseen_proto::v1::{self, PathCheck};

use super::Options;
use crate::context::Context;
use crate::{Outcome, probe};

/// Look at the usual things between one place and a target, both ways, and say what is well and what is not.
///
/// FROM is a node, a network namespace of one (NODE:NETNS, NODE:PID), or the address of a pod or a node. TO is an address or a
/// name, with a port if it must accept connections. Exits with 0 if all is well, with 1 if anything is not, with 3 if
/// something could not be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ctl check-path 10.244.1.10 10.244.2.10
  ctl check-path node-a:4711 web.default.svc:80 --name web.default.svc.cluster.local
  ctl check-path node-a 10.244.2.10:80 -o json")]
pub struct Arguments {
    /// Whence: NODE, NODE:NETNS, NODE:PID or an address.
    from: String,
    /// Whither: an address or a name, perhaps with a port.
    to: Target,
    /// The IPv4 address of a name.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// The IPv6 address of a name.
    #[arg(short = '6', long)]
    ipv6: bool,
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(arguments: Arguments, context: &Context, out: &mut dyn Write) -> Outcome {
    let Arguments { from, to, ipv4, ipv6, options } = arguments;
    let family = match (ipv4, ipv6) {
        (true, _) => v1::IpFamily::Ipv4,
        (_, true) => v1::IpFamily::Ipv6,
        _ => v1::IpFamily::Any,
    };
    let from = Some(probe::source_of(&from));
    let what = What::Path(PathCheck { from, to: to.to_string(), family: family.into() });
    super::run(what, options, context, out).await
}
