//! What an agent refuses for want of sense, room or rights, and how it says so.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::program::{Agent, Lab, agent, arm, command, commit, on_eth0, on_node};
use lastseen_node_agent::clock::monotonic_nanos;
use lastseen_proto::v1::CaptureState::{Armed, Cancelled, Completed, Failed, Running};
use lastseen_proto::v1::coordinator_message::Kind as Down;
use lastseen_proto::v1::{CaptureSpec, EndCapture};

#[test]
fn jobs_that_cannot_be_done_say_why_and_leave_the_agent_running() {
    on_node(|mut coordinator, client| async move {
        let _agent = agent(&client, coordinator.port, &[]);
        coordinator.register().await;
        let spec = |change: fn(&mut CaptureSpec)| {
            let mut spec = on_eth0();
            change(&mut spec);
            spec
        };
        let cases = [
            ("c-filter", spec(|s| s.filter = "tcp prot 80".into()), "filter: "),
            (
                "c-interface",
                spec(|s| s.interfaces = vec!["veth9".into()]),
                "interface: veth9 does not exist on node node-a; it has: eth0",
            ),
            (
                "c-any",
                spec(|s| s.interfaces = vec!["any".into()]),
                "interface: \"any\" sees one packet many times",
            ),
            ("c-snap", spec(|s| s.snap_length = Some(10)), "snap_length: 10 is not within 64 and 65535"),
        ];
        for (capture, spec, reason) in cases {
            coordinator.send(arm(capture, spec)).await;
            let status = coordinator.status(capture, &[Armed, Failed]).await;
            assert_eq!(status.state(), Failed, "{capture}");
            assert!(status.reason.starts_with(reason), "{}", status.reason);
        }
        for number in 0..5 {
            coordinator.send(arm(&format!("c-{number}"), on_eth0())).await;
        }
        let fifth = coordinator.status("c-4", &[Armed, Failed]).await;
        assert_eq!(fifth.reason, "node node-a: 4 captures are running, the limit; stop one or wait");

        // A window that is over, one that is told to end, one that is forgotten.
        coordinator.send(commit("c-0", -3000, 1000)).await;
        assert!(coordinator.status("c-0", &[Failed]).await.reason.contains("ago"));
        coordinator
            .send(Down::EndCapture(EndCapture { capture_id: "c-1".into(), end_monotonic_nanos: None }))
            .await;
        assert_eq!(coordinator.status("c-1", &[Cancelled]).await.reason, "stopped before it started");
        coordinator.send(commit("c-2", 0, 600_000)).await;
        coordinator.status("c-2", &[Running]).await;
        let now = Some(monotonic_nanos());
        coordinator
            .send(Down::EndCapture(EndCapture { capture_id: "c-2".into(), end_monotonic_nanos: now }))
            .await;
        let stopped = coordinator.status("c-2", &[Completed, Failed]).await;
        assert_eq!(stopped.state(), Completed);
        let early = stopped.reason.strip_prefix("stopped ").and_then(|early| early.split_once(" s before"));
        let early: Option<f64> = early.and_then(|(seconds, _)| seconds.parse().ok());
        assert!(early.is_some_and(|early| (500.0..=600.0).contains(&early)), "{}", stopped.reason);
    });
}

/// Bytes of the rings that a process has mapped.
fn mapped_rings(agent: &Agent) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", agent.0.id())).unwrap();
    let length = |line: &str| {
        let (begin, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(usize::from_str_radix(end, 16).ok()? - usize::from_str_radix(begin, 16).ok()?)
    };
    maps.lines().filter(|line| line.contains("socket:[")).filter_map(length).sum()
}

#[test]
fn rings_keep_to_the_nodes_budget_and_are_given_back() {
    on_node(|mut coordinator, client| async move {
        let settings = client.join("agent.toml");
        std::fs::write(&settings, "ring-max-bytes = 3145728\n").unwrap();
        let agent = agent(&client, coordinator.port, &["--config", settings.to_str().unwrap()]);
        coordinator.register().await;
        let end = |capture: &str| {
            Down::EndCapture(EndCapture { capture_id: capture.into(), end_monotonic_nanos: None })
        };
        // Two rings of 4 MiB are wanted: 3 MiB hold two of 1 MiB, then two of half that, then none.
        for (capture, mapped) in [("c-1", 2 << 20), ("c-2", 3 << 20)] {
            coordinator.send(arm(capture, on_eth0())).await;
            let armed = coordinator.status(capture, &[Armed, Failed]).await;
            assert_eq!((armed.state(), mapped_rings(&agent)), (Armed, mapped), "{}", armed.reason);
        }
        coordinator.send(arm("c-3", on_eth0())).await;
        assert_eq!(
            coordinator.status("c-3", &[Armed, Failed]).await.reason,
            "node node-a: ring memory: 2 rings need at least 524288 bytes, and of the 3145728 bytes of \
             --ring-max-bytes 3145728 are in use; name fewer interfaces, wait for other captures to end, or give the \
             agent a larger --ring-max-bytes"
        );
        coordinator.send(end("c-1")).await;
        coordinator.status("c-1", &[Cancelled]).await;
        assert_eq!(mapped_rings(&agent), 1 << 20);
        coordinator.send(arm("c-4", on_eth0())).await;
        let armed = coordinator.status("c-4", &[Armed, Failed]).await;
        assert_eq!((armed.state(), mapped_rings(&agent)), (Armed, 3 << 20), "{}", armed.reason);
    });
}

#[test]
fn without_root_it_captures_with_the_capability_alone_and_names_what_is_missing() {
    on_node(|mut coordinator, client| async move {
        let mut command = command(&client, coordinator.port);
        let raw = caps::Capability::CAP_NET_RAW;
        let drop_root = move || {
            let error = |e: caps::errors::CapsError| std::io::Error::other(e.to_string());
            nix::unistd::setgroups(&[])?;
            caps::securebits::set_keepcaps(true).map_err(error)?;
            nix::unistd::setresgid(65534.into(), 65534.into(), 65534.into())?;
            nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into())?;
            let only = [raw].into();
            for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
                caps::set(None, set, &only).map_err(error)?;
            }
            caps::raise(None, caps::CapSet::Ambient, raw).map_err(error)
        };
        run_as(&mut command, drop_root);
        let _agent = Agent(command.stderr(Stdio::inherit()).spawn().unwrap());
        let capabilities = coordinator.register().await.capabilities;
        let available: BTreeMap<_, _> = capabilities.iter().map(|c| (c.name.as_str(), c.available)).collect();
        assert!(available["capture"] && available["af_packet"] && available["pcap"], "{capabilities:?}");
        assert!(!available["conntrack"], "{capabilities:?}");
        coordinator.send(arm("c-1", on_eth0())).await;
        let armed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(armed.state(), Armed, "{}", armed.reason);
    });
}

#[test]
fn without_any_capability_it_still_reports_the_network() {
    on_node(|mut coordinator, client| async move {
        let mut command = command(&client, coordinator.port);
        command.uid(65534).gid(65534);
        let _agent = Agent(command.stderr(Stdio::inherit()).spawn().unwrap());
        let register = coordinator.register().await;
        assert!(register.topology.unwrap().interfaces.iter().any(|i| i.name == "eth0"));
        let capture = register.capabilities.iter().find(|c| c.name == "capture").unwrap();
        assert!(
            !capture.available && capture.reason.starts_with("NET_RAW is missing: "),
            "{}",
            capture.reason
        );
        coordinator.send(arm("c-1", on_eth0())).await;
        let failed = coordinator.status("c-1", &[Armed, Failed]).await;
        assert_eq!(failed.state(), Failed);
        assert!(failed.reason.contains("NET_RAW is missing"), "{}", failed.reason);
    });
}

#[allow(unsafe_code)] // Dropping privileges between fork and exec has no safe interface.
fn run_as(command: &mut Command, change: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(change) };
}

/// Runs an agent that must not start.
fn fails(lab: &Lab, pki: PathBuf, more: &'static [&'static str]) -> (Option<i32>, String) {
    let output: Output = lab.node.run(move || command(&pki, 1).args(more).output().unwrap());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn bad_settings_are_one_line_and_exit_code_2() {
    let lab = Lab::new();
    let other_node = lab.authority.issue("agent/node-b");
    let viewer = lab.authority.issue("viewer/ann");
    let cases: [(PathBuf, &[&str], &str); 6] = [
        (other_node, &[], "node-name: node-a is not the node of the certificate, node-b"),
        (viewer, &[], "pki-dir: the certificate is for spiffe://test/viewer/ann, not for an agent"),
        (PathBuf::from("/nonexistent"), &[], "pki-dir: cannot read /nonexistent/ca.crt"),
        (lab.agent_pki.clone(), &["--coordinator", "nowhere"], "coordinator: \"nowhere\" is not HOST:PORT"),
        (lab.agent_pki.clone(), &["--ring-bytes", "5"], "--ring-bytes: \"5\" is out of range; give 8192 to"),
        (
            lab.agent_pki.clone(),
            &["--backend", "ebpf"],
            "--backend: \"ebpf\" is not one of auto, af_packet, pcap",
        ),
    ];
    for (pki, more, expected) in cases {
        let (code, text) = fails(&lab, pki, more);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let taken = lab.node.run(|| std::net::TcpListener::bind("127.0.0.1:7482").unwrap());
    let (code, text) = fails(&lab, lab.agent_pki.clone(), &["--admin-listen", "127.0.0.1:7482"]);
    drop(taken);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("admin-listen: cannot listen on 127.0.0.1:7482")
            && text.contains("Choose another port"),
        "{text}"
    );
}
