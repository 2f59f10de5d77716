//! Whom a place asks for names, and which names it asks for: resolv.conf(5).

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{SocketAddr, SocketAddrV6};
use std::path::Path;

use hickory_proto::rr::Name;
use lastseen_proto::limits::{PROBE_OWN_SERVERS, PROBE_SEARCH};
use lastseen_proto::place::Place;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::net::if_::if_nametoindex;
use resolv_conf::{Config, ScopedIp};

/// No such file is longer.
const FILE_BYTES: u64 = 64 << 10;
/// RFC 1035 §4.2.
const PORT: u16 = 53;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolver {
    /// In the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// Where short names are looked for.
    pub(super) search: Vec<Name>,
    /// A name with so many dots is looked for as it is first.
    pub(super) ndots: u32,
}

impl Resolver {
    /// That of a place, whose network namespace this thread is in.
    pub(super) fn of(place: &Place) -> Result<Self, String> {
        let (path, text) = match place {
            // Whose files those are is not known where only an address is.
            Place::Host | Place::Holder(_) => read("/", "etc/resolv.conf"),
            // As `ip netns exec` has it, ip-netns(8).
            Place::Named(name) => {
                let (path, text) = read("/", &format!("etc/netns/{name}/resolv.conf"));
                if is_absent(&text) { read("/", "etc/resolv.conf") } else { (path, text) }
            }
            Place::Process(process) => read(&format!("/proc/{process}/root"), "etc/resolv.conf"),
        };
        text.map(|text| Self::parse(&text)).map_err(|error| format!("{path} cannot be read: {error}"))
    }

    fn parse(text: &[u8]) -> Self {
        // What is wrong in it resolvers leave out too.
        let (config, _) = Config::parse_with_errors(text);
        let server = |server: &ScopedIp| match server {
            ScopedIp::V4(address) => SocketAddr::new((*address).into(), PORT),
            ScopedIp::V6(address, scope) => {
                let scope = scope.as_deref().map_or(0, |name| {
                    name.parse().ok().or_else(|| if_nametoindex(name).ok()).unwrap_or_default()
                });
                SocketAddr::V6(SocketAddrV6::new(*address, PORT, 0, scope))
            }
        };
        let search = config.get_last_search_or_domain();
        Self {
            servers: config.get_nameservers_or_local().iter().take(PROBE_OWN_SERVERS).map(server).collect(),
            // A container's owner writes this file, and every domain is a question more.
            search: search
                .take(PROBE_SEARCH)
                .filter_map(|domain| Name::from_str_relaxed(domain).ok())
                .collect(),
            ndots: config.ndots,
        }
    }

    /// The names under which resolvers look for one, in their order.
    pub(super) fn names(&self, name: &str) -> Result<Vec<Name>, String> {
        let wrong = |error| format!("{name} is no name: {error}");
        let mut as_it_is = Name::from_str_relaxed(name).map_err(wrong)?;
        let is_whole = name.ends_with('.');
        as_it_is.set_fqdn(true);
        if is_whole {
            return Ok(vec![as_it_is]);
        }
        let short = Name::from_str_relaxed(name).map_err(wrong)?;
        let mut names: Vec<Name> =
            self.search.iter().filter_map(|domain| short.clone().append_domain(domain).ok()).collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let at = if dots >= self.ndots as usize { 0 } else { names.len() };
        names.insert(at, as_it_is);
        Ok(names)
    }
}

fn is_absent(text: &io::Result<Vec<u8>>) -> bool {
    text.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A file below `root`, whatever links a container's owner has put there.
fn read(root: &str, path: &str) -> (String, io::Result<Vec<u8>>) {
    let whole = Path::new(root).join(path).display().to_string();
    let text = || {
        let root = File::open(root)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let file = File::from(openat2(root, path, how)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    (whole, text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(resolver: &Resolver, name: &str) -> Vec<String> {
        resolver.names(name).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pods_file_says_whom_to_ask_and_where_to_look() {
        let text = b"search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver fd00::10\noptions ndots:5\nnonsense\n";
        let resolver = Resolver::parse(text);
        let servers: Vec<String> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::10]:53"]);
        assert_eq!(
            names(&resolver, "web"),
            ["web.default.svc.cluster.local.", "web.svc.cluster.local.", "web."]
        );
        assert_eq!(names(&resolver, "web."), ["web."]);
        let many = "nameserver 10.0.0.1\n".repeat(PROBE_OWN_SERVERS + 1);
        assert_eq!(Resolver::parse(many.as_bytes()).servers.len(), PROBE_OWN_SERVERS);
        let wide = format!("search {}", "a.example ".repeat(7_000));
        assert_eq!(Resolver::parse(wide.as_bytes()).search.len(), PROBE_SEARCH);
        assert_eq!(names(&resolver, "a.b.c.d.e.f")[0], "a.b.c.d.e.f.");
        assert!(resolver.names(&"a".repeat(64)).is_err());
    }

    #[test]
    fn an_empty_file_asks_this_host_and_looks_nowhere() {
        let resolver = Resolver::parse(b"");
        assert_eq!(resolver.servers[0].ip().to_string(), "127.0.0.1");
        assert_eq!(names(&resolver, "web.example"), ["web.example."]);
    }

    #[test]
    fn a_link_that_leads_out_of_a_container_stays_in_it() {
        let root = tempfile::tempdir().unwrap();
        let (inside, of) = (root.path().join("etc"), |name: &str| root.path().join(name));
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", inside.join("resolv.conf")).unwrap();
        let read = || read(root.path().to_str().unwrap(), "etc/resolv.conf").1;
        assert!(is_absent(&read()), "not the host's");
        std::fs::write(of("etc/passwd"), "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(read().unwrap(), b"nameserver 10.0.0.1\n");
        std::fs::remove_file(inside.join("resolv.conf")).unwrap();
        nix::unistd::mkfifo(&inside.join("resolv.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read().is_err(), "a pipe would be waited for");
    }
}
