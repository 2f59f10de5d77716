//! Coordinators that share a Postgres and die or freeze in the middle of a capture: another one ends it with the same
//! report.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::agent::{Agent, Publisher, batch, columns, realtime_nanos};
use crate::common::cluster::Cluster;
use crate::common::emulators::Bucket;
use crate::common::{PATIENCE, is_final, job, until};
use lastseen_coordinator::limits;
use lastseen_proto::v1;
use lastseen_proto::v1::CaptureState::{Armed, Completed, Draining, Running};
use lastseen_proto::v1::coordinator_message::Kind as Told;
use lastseen_proto::v1::fleet_service_client::FleetServiceClient;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::timeout;
use tonic::Code;

/// Where the capture is when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arming,
    Running,
    Draining,
    Correlating,
}

/// What happens to the coordinator that leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT once the other has ended the capture.
    Freeze,
    /// SIGTERM.
    Stop,
    /// SIGKILL of the other one, which has an agent of the capture.
    KillOther,
    /// SIGSTOP of the other one.
    FreezeOther,
}

/// What a capture came to, without what differs between two of the same.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    nodes: Vec<(String, i32, u64, Vec<String>)>,
    report: String,
    flows: Vec<(String, String, u64)>,
    batches: Vec<(String, u64)>,
}

const BATCHES: u64 = 6;

/// A capture of two nodes, each at a coordinator of its own, led by the first.
struct Play {
    cluster: Cluster,
    id: String,
    /// Node `node-a`, which has to go to the other coordinator.
    first: Agent,
    /// Node `node-b`, at the other from the beginning.
    second: Agent,
    /// Who is asked.
    at: usize,
    /// Begin of the window, nanoseconds since 1970.
    begins: i64,
    /// Whether it changed hands at the fault.
    passed: bool,
    /// What is sent again is the same.
    made: HashMap<(String, u64), v1::ObservationBatch>,
}

/// The same for every call of one start.
fn request(millis: i64) -> v1::StartCaptureRequest {
    v1::StartCaptureRequest { request_id: "1b4e28ba".into(), ..job(&["node-a", "node-b"], millis) }
}

/// Begin of the window, whatever else is told before it.
async fn window(agent: &mut Agent) -> i64 {
    loop {
        match agent.told().await.unwrap() {
            Told::CommitWindow(window) => return window.start_unix_nanos,
            Told::ArmCapture(_) | Told::Registered(_) => {}
            other => panic!("{}: expected a window: {other:?}", agent.node),
        }
    }
}

impl Play {
    async fn fault(&mut self, fault: Fault) {
        let struck = self.strike(fault).await;
        self.move_over(struck).await;
    }

    /// Returns whom it struck, and what the capture's token was.
    async fn strike(&mut self, fault: Fault) -> (usize, i64) {
        // On a busy machine it may have changed hands before.
        let (leader, token) = (self.cluster.leader(&self.id).await, self.cluster.lead(&self.id).await.1);
        let victim = if matches!(fault, Fault::KillOther | Fault::FreezeOther) { 1 - leader } else { leader };
        match fault {
            Fault::Kill | Fault::KillOther => self.cluster.kill(victim),
            Fault::Freeze | Fault::FreezeOther => self.cluster.signal(victim, Signal::SIGSTOP),
            Fault::Stop => self.cluster.signal(victim, Signal::SIGTERM),
        }
        self.at = 1 - victim;
        (victim, token)
    }

    /// The agent that lost its coordinator does as agents do once they have noticed.
    async fn move_over(&mut self, (victim, token): (usize, i64)) {
        let moved = if victim == 0 { &mut self.first } else { &mut self.second };
        let node = moved.node.clone();
        *moved = self.cluster.agent(1 - victim, 1 - victim, &node, &[&self.id]).await;
        until("the other one leads", async || self.cluster.leader(&self.id).await == 1 - victim).await;
        self.passed = self.cluster.lead(&self.id).await.1 > token;
    }

    /// Both send these, and are told that they are stored.
    async fn publish(&mut self, sequences: std::ops::Range<u64>) {
        for agent in [&mut self.first, &mut self.second] {
            let make = |sequence: u64| {
                let at = self.begins + (20 + sequence as i64) * 1_000_000;
                let made = || batch(&self.id, 1, sequence, at, &columns(4, at, sequence));
                self.made.entry((agent.node.clone(), sequence)).or_insert_with(made).clone()
            };
            let batches = sequences.clone().map(make).collect();
            let mut publisher = agent.publish().await;
            let (stored, refused) = publisher.send(batches).await;
            assert_eq!((stored, refused), (sequences.clone().collect(), vec![]));
        }
    }

    async fn say(&self, state: v1::CaptureState, batches: u64) {
        for agent in [&self.first, &self.second] {
            agent.status(&self.id, state, "", batches).await;
        }
    }

    async fn outcome(&self) -> Outcome {
        let capture = self.cluster.get(self.at, &self.id).await;
        let mut analysis = self.cluster.analysis(self.at).await;
        let ask = v1::DiffNodesRequest { capture_id: self.id.clone(), ..Default::default() };
        let report = analysis.diff_nodes(ask).await.unwrap().into_inner();
        let hops = report.paths.iter().map(|path| {
            let seen = path.hops.iter().map(|hop| (hop.node.clone(), hop.interface.clone(), hop.seen));
            (path.source.clone(), path.destination.clone(), seen.collect::<Vec<_>>())
        });
        let report = format!("{:?} {:?} {:?}", report.verdict(), report.totals, hops.collect::<Vec<_>>());
        let ask = v1::ListFlowsRequest { capture_id: self.id.clone(), ..Default::default() };
        let flows = analysis.list_flows(ask).await.unwrap().into_inner().flows;
        let store = self.cluster.data.store().await;
        let batches = store.batches(&self.id).await.unwrap();
        let outcome = Outcome {
            nodes: capture
                .nodes
                .iter()
                .map(|node| (node.node.clone(), node.state, node.packets, node.coverage.clone()))
                .collect(),
            report,
            flows: flows
                .iter()
                .map(|flow| {
                    (flow.node.clone(), format!("{:?}", flow.source_address), flow.packet_delta_count)
                })
                .collect(),
            batches: batches.into_iter().map(|batch| (batch.node, batch.sequence)).collect(),
        };
        store.close().await;
        assert_eq!((capture.state(), capture.reason.as_str()), (Completed, ""));
        outcome
    }
}

/// The capture's first observation file, out of its reader's reach: whoever opens it waits.
struct Blocked {
    pipe: PathBuf,
    kept: PathBuf,
}

impl Blocked {
    fn new(data: &Path, id: &str) -> Self {
        let files = data.join("observations").join(id).read_dir().unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        names.sort();
        let (pipe, kept) = (names.swap_remove(0), data.join("kept"));
        std::fs::rename(&pipe, &kept).unwrap();
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        Self { pipe, kept }
    }

    /// Who comes now finds the file. Who waited finds nothing in the pipe, which stays as long as the result lives.
    fn replace(self) -> File {
        let pipe = OpenOptions::new().read(true).write(true).open(&self.pipe).unwrap();
        std::fs::rename(&self.kept, &self.pipe).unwrap();
        pipe
    }
}

/// Plays it through, with a fault at a stage or without, on a directory or a bucket.
async fn play(fault: Option<(Stage, Fault)>, bucket: Option<Bucket>) -> Outcome {
    let at = |stage| fault.and_then(|(when, fault)| (when == stage).then_some(fault));
    let cluster = Cluster::start_on(bucket, 2).await;
    let (mut first, mut second) =
        (cluster.agent(0, 0, "node-a", &[]).await, cluster.agent(1, 0, "node-b", &[]).await);
    let millis = if at(Stage::Draining).is_some() { 1_000 } else { 60_000 };
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(request(millis)).await });
    let id = first.arm().await.capture_id;
    assert_eq!(second.arm().await.capture_id, id);
    let mut play = Play { cluster, id, first, second, at: 0, begins: 0, passed: false, made: HashMap::new() };
    if let Some(fault) = at(Stage::Arming) {
        // One has answered before, and says it again if it has to move.
        play.second.status(&play.id, Armed, "", 0).await;
        play.fault(fault).await;
        play.say(Armed, 0).await;
    } else {
        play.say(Armed, 0).await;
    }
    // Whoever lost its call makes it again, and comes to the same capture.
    let again = play.cluster.captures(play.at).await.start_capture(request(millis)).await.unwrap();
    assert_eq!(again.into_inner().capture.unwrap().id, play.id);
    if at(Stage::Arming).is_none() {
        assert_eq!(starting.await.unwrap().unwrap().into_inner().capture.unwrap().id, play.id);
    }
    play.begins = window(&mut play.first).await;
    assert_eq!(window(&mut play.second).await, play.begins);
    play.say(Running, 0).await;
    play.publish(0..4).await;
    if let Some(fault) = at(Stage::Running) {
        play.fault(fault).await;
        play.say(Running, 4).await;
    }
    if let Some(fault) = at(Stage::Draining) {
        play.say(Draining, BATCHES).await;
        play.cluster.wait(play.at, &play.id, |capture| capture.state() == Draining).await;
        play.fault(fault).await;
    }
    // What was seen was seen inside the window.
    until("the window", async || realtime_nanos() > play.begins + 100_000_000).await;
    let mut held = None;
    // The last that was stored comes again: its acknowledgement may have been lost.
    play.publish(3..BATCHES).await;
    if let Some(fault) = at(Stage::Correlating) {
        let blocked = Blocked::new(play.cluster.data.path(), &play.id);
        play.say(Completed, BATCHES).await;
        let mut sql = play.cluster.sql().await;
        let runs = format!("SELECT runs FROM captures WHERE id = '{}'", play.id);
        until("a correlation run", async || sql.number(&runs).await == 1).await;
        let struck = play.strike(fault).await;
        held = Some(blocked.replace());
        play.move_over(struck).await;
    } else {
        play.say(Completed, BATCHES).await;
    }
    play.cluster.wait(play.at, &play.id, is_final).await;
    let is_leader = |fault| !matches!(fault, Fault::KillOther | Fault::FreezeOther);
    assert!(fault.is_none_or(|(_, fault)| !is_leader(fault) || play.passed));
    let outcome = play.outcome().await;
    if fault.is_some_and(|(_, fault)| matches!(fault, Fault::Freeze)) {
        wake(&play, 1 - play.at, held, &outcome).await;
    }
    outcome
}

/// The former leader wakes and finds that it leads nothing: nothing changes.
async fn wake(play: &Play, victim: usize, held: Option<File>, outcome: &Outcome) {
    let mut sql = play.cluster.sql().await;
    let row = format!(
        "SELECT id || state || revision || token || owner || reason FROM captures WHERE id = '{}'",
        play.id
    );
    let before = sql.bytes(&format!("SELECT convert_to(({row}), 'UTF8')")).await;
    let report = sql.bytes("SELECT report FROM reports").await;
    play.cluster.signal(victim, Signal::SIGCONT);
    drop(held);
    until("the first coordinator lives", async || {
        sql.number("SELECT COUNT(*) FROM coordinators WHERE alive_until > lastseen_now()").await == 2
    })
    .await;
    let seen = play.cluster.wait(victim, &play.id, is_final).await;
    assert_eq!(seen.state(), Completed);
    let last = play.first.node.clone();
    let mut late = play.cluster.agent(victim, victim, &last, &[]).await;
    let mut publisher: Publisher = late.publish().await;
    let (stored, refused) = publisher.send(vec![late.batch(&play.id, BATCHES)]).await;
    assert!(stored.is_empty() && refused[0].1.contains("does not run"), "{stored:?} {refused:?}");
    assert_eq!(sql.bytes(&format!("SELECT convert_to(({row}), 'UTF8')")).await, before);
    assert_eq!(sql.bytes("SELECT report FROM reports").await, report);
    assert_eq!(play.outcome().await, *outcome);
}

/// As without a fault.
async fn same(stage: Stage, fault: Fault, bucket: Option<Bucket>) {
    let undisturbed = Box::pin(play(None, None));
    let disturbed = Box::pin(play(Some((stage, fault)), bucket));
    let (undisturbed, disturbed) = tokio::join!(undisturbed, disturbed);
    let expected: Vec<_> =
        ["node-a", "node-b"].iter().flat_map(|node| (0..BATCHES).map(|n| ((*node).to_owned(), n))).collect();
    assert_eq!(undisturbed.batches, expected);
    assert_eq!(disturbed, undisturbed);
}

macro_rules! each {
    ($($name:ident: $stage:ident $fault:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            same(Stage::$stage, Fault::$fault, None).await;
        })*
    };
}

each! {
    a_leader_killed_while_arming: Arming Kill,
    a_leader_killed_while_running: Running Kill,
    a_leader_killed_while_draining: Draining Kill,
    a_leader_killed_while_correlating: Correlating Kill,
    a_leader_frozen_while_arming: Arming Freeze,
    a_leader_frozen_while_running: Running Freeze,
    a_leader_frozen_while_draining: Draining Freeze,
    a_leader_frozen_while_correlating: Correlating Freeze,
    a_leader_told_to_stop_while_running: Running Stop,
    a_leader_told_to_stop_while_correlating: Correlating Stop,
    another_one_killed_while_arming: Arming KillOther,
    another_one_frozen_while_running: Running FreezeOther,
    another_one_killed_while_draining: Draining KillOther,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_while_running_over_a_bucket() {
    same(Stage::Running, Fault::Kill, Some(Bucket::s3().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_frozen_while_draining_over_a_bucket() {
    same(Stage::Draining, Fault::Freeze, Some(Bucket::s3().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_coordinator_shows_watches_stops_and_deletes_what_another_one_leads() {
    let cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(0, 1, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 60_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let mut other = cluster.captures(1).await;
    let watch = v1::WatchCaptureRequest { capture_id: id.clone() };
    let mut watched = other.watch_capture(watch).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().capture.unwrap().state(), Running);
    let delete = v1::DeleteCaptureRequest { capture_id: id.clone() };
    assert_eq!(other.delete_capture(delete.clone()).await.unwrap_err().code(), Code::FailedPrecondition);
    let begins = window(&mut agent).await;
    agent.status(&id, Running, "", 0).await;
    // Before its window begins it would be called off.
    until("the window", async || realtime_nanos() > begins + 100_000_000).await;
    // Four rows a batch, as the agent's double counts.
    agent.status(&id, Running, "", 2).await;
    cluster.wait(1, &id, |capture| capture.nodes[0].packets == 8).await;
    let stopped = other.stop_capture(v1::StopCaptureRequest { capture_id: id.clone() }).await.unwrap();
    assert!(stopped.into_inner().capture.unwrap().reason.starts_with("stopped by "));
    let end = agent.end().await;
    assert!(end.end_monotonic_nanos.is_some());
    agent.status(&id, Completed, "", 0).await;
    let mut last = None;
    while let Some(response) = watched.message().await.unwrap() {
        last = response.capture;
    }
    assert_eq!(last.unwrap().state(), Completed);
    cluster.wait(1, &id, is_final).await;
    other.delete_capture(delete).await.unwrap();
    let gone = cluster.captures(0).await.get_capture(v1::GetCaptureRequest { capture_id: id }).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_hears_the_agents_of_others_and_stores_nothing() {
    let cluster = Cluster::start(2).await;
    let mut here = cluster.agent(0, 0, "node-a", &[]).await;
    let mut there = cluster.agent(1, 0, "node-b", &[]).await;
    let mut client = cluster.captures(0).await;
    let request = v1::StartCaptureRequest { dry_run: true, ..job(&["node-a", "node-b"], 100) };
    let asking = tokio::spawn(async move { client.start_capture(request).await });
    let id = here.arm().await.capture_id;
    assert_eq!(there.arm().await.capture_id, id);
    here.status(&id, Armed, "", 0).await;
    there.status(&id, v1::CaptureState::Failed, "filter: needs a newer libpcap", 0).await;
    let capture = asking.await.unwrap().unwrap().into_inner().capture.unwrap();
    let states: Vec<_> = capture.nodes.iter().map(|node| (node.state(), node.reason.as_str())).collect();
    assert_eq!(states, [(Armed, ""), (v1::CaptureState::Failed, "filter: needs a newer libpcap")]);
    assert_eq!(there.end().await.end_monotonic_nanos, None);
    assert_eq!(cluster.sql().await.number("SELECT COUNT(*) FROM captures").await, 0);
}

/// What `--server a,b` of every program rests on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_several_goes_on_at_the_next_when_one_is_frozen_or_gone() {
    let mut cluster = Cluster::start(2).await;
    let servers = [0, 1].map(|member: usize| cluster.members[member].address.to_string()).join(",");
    let pki = cluster.authority.identity("viewer", "vic");
    let channel = lastseen_runtime::client::connect(&servers, &pki).await.unwrap();
    let mut nodes = FleetServiceClient::new(channel);
    let _agent = cluster.agent(0, 0, "node-a", &[]).await;
    let mut watching = nodes.watch_nodes(v1::WatchNodesRequest {}).await.unwrap().into_inner();
    cluster.signal(0, Signal::SIGSTOP);
    let broken = async { while watching.message().await.is_ok_and(|message| message.is_some()) {} };
    timeout(Duration::from_mins(1), broken).await.expect("the stream breaks");
    let mut lists = async || nodes.list_nodes(v1::ListNodesRequest {}).await.is_ok();
    until("the other answers", &mut lists).await;
    cluster.signal(0, Signal::SIGCONT);
    cluster.kill(1);
    until("the first answers", &mut lists).await;
}

/// Agents begin to send a moment after they hear of the window, whoever else is still to be told.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_come_while_others_are_told_of_the_window_are_taken() {
    let cluster = Cluster::start(2).await;
    let mut here = cluster.agent(0, 0, "node-a", &[]).await;
    let mut there = cluster.agent(1, 0, "node-b", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting =
        tokio::spawn(async move { client.start_capture(job(&["node-a", "node-b"], 60_000)).await });
    let id = here.arm().await.capture_id;
    assert_eq!(there.arm().await.capture_id, id);
    let mut sql = cluster.sql().await;
    sql.run("BEGIN; LOCK TABLE commands").await;
    here.status(&id, Armed, "", 0).await;
    there.status(&id, Armed, "", 0).await;
    here.commit().await;
    let mut stream = here.publish().await;
    assert_eq!(stream.send(vec![here.batch(&id, 0)]).await, (vec![0], vec![]));
    assert!(!starting.is_finished(), "the other node is not told yet");
    sql.run("COMMIT").await;
    there.commit().await;
    starting.await.unwrap().unwrap();
}

/// Its agent stays where it is and does not say again what it said.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_heard_that_is_replaced_alive_reaches_the_next() {
    let cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(0, 0, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 60_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    window(&mut agent).await;
    let mut sql = cluster.sql().await;
    sql.run("BEGIN; SELECT 1 FROM captures FOR UPDATE").await;
    agent.status(&id, Completed, "", 0).await;
    let mut looking = cluster.sql().await;
    let blocked = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND cardinality(pg_blocking_pids(pid)) > 0";
    until("the leader stores it", async || looking.number(blocked).await > 0).await;
    sql.run("UPDATE captures SET token = token + 1, lease_until = 0; COMMIT").await;
    let done = cluster.wait(1, &id, is_final).await;
    assert_eq!((done.state(), done.nodes[0].state()), (Completed, Completed), "{done:?}");
}

/// A row of no capture: who reads it finds that it cannot be read.
const BROKEN: &str =
    "INSERT INTO captures (id, state, reason, spec, identity_key, created_at, created_by, lease_until)
                      VALUES ('c-0', 4, '', '', '', 0, '', 9000000000000000000) ON CONFLICT (id) DO NOTHING";
const MENDED: &str = "DELETE FROM captures WHERE id = 'c-0'";

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_an_agent_whose_coordinator_cannot_see_what_others_lead() {
    let cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(1, 0, "node-a", &[]).await;
    let mut sql = cluster.sql().await;
    sql.at("AFTER INSERT ON commands", BROKEN).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 60_000)).await });
    let taken = "SELECT COUNT(*) - (SELECT COUNT(*) FROM commands) FROM captures WHERE id = 'c-0'";
    until("the command is taken", async || sql.number(taken).await == 1).await;
    sql.run(MENDED).await;
    let armed = timeout(PATIENCE, agent.arm()).await;
    let id = armed.expect("it is armed once more can be seen").capture_id;
    agent.status(&id, Armed, "", 0).await;
    timeout(PATIENCE, window(&mut agent)).await.expect("there is a window while nothing can be seen");
    starting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_is_told_to_forget_what_another_coordinator_may_lead() {
    let cluster = Cluster::start(1).await;
    let mut sql = cluster.sql().await;
    let mut agent = cluster.agent(0, 0, "node-a", &[]).await;
    let refusal = async |agent: &mut Agent| loop {
        match agent.told().await {
            Ok(Told::Registered(_)) => {}
            Ok(other) => panic!("expected an end: {other:?}"),
            Err(status) => return (status.code(), status.message().to_owned()),
        }
    };
    sql.run(BROKEN).await;
    agent.status("c-9", Running, "", 0).await;
    let (code, reason) = refusal(&mut agent).await;
    assert!(code == Code::Unavailable && reason.contains("cannot be looked up"), "{code:?}: {reason}");
    let register = || v1::Register {
        node_name: "node-a".into(),
        protocol_version: lastseen_proto::PROTOCOL_VERSION,
        incarnation: 1,
        capture_ids: vec!["c-9".into()],
        topology: Some(v1::NodeTopology::default()),
        ..Default::default()
    };
    let mut agent = Agent::join(cluster.channel(0, "agent", "node-a").await, register()).await.unwrap();
    assert_eq!(refusal(&mut agent).await.0, Code::Unavailable);
    sql.run(MENDED).await;
    let mut agent = Agent::join(cluster.channel(0, "agent", "node-a").await, register()).await.unwrap();
    assert_eq!(agent.end().await.capture_id, "c-9");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_capture_that_is_gone_when_its_follower_wakes_are_closed() {
    let cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(0, 0, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let mut asking = client.clone();
    let starting = tokio::spawn(async move { asking.start_capture(job(&["node-a"], 60_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let begins = window(&mut agent).await;
    let mut moved = cluster.agent(1, 0, "node-a", &[&id]).await;
    moved.status(&id, Running, "", 0).await;
    until("the window", async || realtime_nanos() > begins + 100_000_000).await;
    let mut publisher = moved.publish().await;
    assert_eq!(publisher.send(vec![moved.batch(&id, 0)]).await.0, [0]);
    assert_eq!(cluster.open_files(1), 1);
    cluster.signal(1, Signal::SIGSTOP);
    let agent = cluster.agent(0, 0, "node-a", &[&id]).await;
    agent.status(&id, Completed, "", 1).await;
    cluster.wait(0, &id, is_final).await;
    client.delete_capture(v1::DeleteCaptureRequest { capture_id: id }).await.unwrap();
    cluster.signal(1, Signal::SIGCONT);
    until("it is closed", async || cluster.open_files(1) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_a_capture_is_told_of_no_more_refused_batches_than_it_tells_apart() {
    let cluster = Cluster::start(2).await;
    let mut agent = cluster.agent(1, 0, "node-a", &[]).await;
    let mut client = cluster.captures(0).await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 60_000)).await });
    let id = agent.arm().await.capture_id;
    agent.status(&id, Armed, "", 0).await;
    starting.await.unwrap().unwrap();
    let mut publisher = agent.publish().await;
    let lie = agent.batch(&id, 0);
    let lie = v1::ObservationBatch { slice_end_nanos: lie.slice_start_nanos - 1, ..lie };
    let lies = (0..=limits::REFUSED_BATCHES as u64).map(|sequence| {
        let key = v1::BatchKey { sequence, ..lie.key.clone().unwrap() };
        v1::ObservationBatch { key: Some(key), ..lie.clone() }
    });
    let lies: Vec<_> = lies.collect();
    for some in lies.chunks(limits::BATCHES_PER_STREAM) {
        assert_eq!(publisher.send(some.to_vec()).await.1.len(), some.len());
    }
    // Told after them. Four rows a batch, as the agent's double counts.
    agent.status(&id, Running, "", 1).await;
    cluster.wait(0, &id, |capture| capture.nodes[0].packets == 4).await;
    let refused = cluster.sql().await.number("SELECT COUNT(*) FROM mail WHERE kind = 'refused'").await;
    assert_eq!(refused, limits::REFUSED_BATCHES as i64);
}
