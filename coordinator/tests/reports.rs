//! Reports: of a capture that still runs, and of a part of the paths.

use crate::common;
use crate::common::agent::Agent;
use crate::common::{Fabric, job, running};
use lastseen_proto::v1;
use tonic::{Code, Status};

async fn diff(fabric: &Fabric, request: v1::DiffNodesRequest) -> Result<v1::DiffReport, Status> {
    fabric.analysis().await.diff_nodes(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_running_capture_is_reported_on_in_part() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 60_000).await;
    let request = v1::DiffNodesRequest { capture_id: id.clone(), ..Default::default() };
    let status = diff(&fabric, request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("has only begun; a first report is possible after 20"), "{status}");
    let mut publisher = agent.publish().await;
    assert_eq!(publisher.send(vec![agent.batch(&id, 0)]).await.0, [0]);
    // What came first has passed the guard some seconds from now.
    let report = loop {
        match diff(&fabric, request.clone()).await {
            Ok(report) => break report,
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!((report.capture_id, report.partial), (id.clone(), true));
    let capture = fabric.get(&id).await;
    assert_eq!(capture.state(), v1::CaptureState::Running, "and it goes on");
    let judged = lastseen_proto::convert::nanos(&report.window.unwrap().end.unwrap());
    assert!(judged < lastseen_proto::convert::nanos(&capture.window_end.unwrap()));
    fabric.stop().await;
}

#[tokio::test]
async fn an_end_of_a_path_that_cannot_be_is_refused() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let _other = Agent::connect(&fabric, "node-b", 1, &[]).await;
    let id = running(&fabric, &mut agent, 200).await;
    agent.status(&id, v1::CaptureState::Completed, "", 0).await;
    fabric.follow(&id, common::is_final).await;
    let request = |from: &str, to: &str| v1::DiffNodesRequest {
        capture_id: id.clone(),
        from: from.into(),
        to: to.into(),
        min_loss_ratio: None,
    };
    for (from, to, field, value) in [
        ("nope", "", "from", "nope"),
        ("", "node-b", "to", "node-b"),
        ("node-a", "10.0.0.0/8", "to", "10.0.0.0/8"),
    ] {
        let status = diff(&fabric, request(from, to)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let expected =
            format!("{field}: {value:?} is neither a node of capture {id} nor an address; its nodes: node-a");
        assert_eq!(status.message(), expected);
    }
    let ends = [("node-a", "10.244.2.10"), ("10.244.1.2:40000", "2001:DB8::1"), ("", "[2001:db8::1]:80")];
    for (from, to) in ends {
        let report = diff(&fabric, request(from, to)).await.unwrap();
        assert!(
            !report.notes.iter().any(|note| note.contains("DB8")),
            "as reports write it: {:?}",
            report.notes
        );
    }
    fabric.stop().await;
}

#[tokio::test]
async fn a_newer_capture_without_a_report_is_not_passed_over_in_silence() {
    let (fabric, mut agent) = Fabric::with_one().await;
    let id = running(&fabric, &mut agent, 200).await;
    agent.status(&id, v1::CaptureState::Completed, "", 0).await;
    fabric.follow(&id, common::is_final).await;
    let newest = async || diff(&fabric, v1::DiffNodesRequest::default()).await.unwrap();
    assert_eq!(agent.end().await.capture_id, id);
    let before = newest().await;
    let mut client = fabric.captures().await;
    let starting = tokio::spawn(async move { client.start_capture(job(&["node-a"], 200)).await });
    let failed = agent.arm().await.capture_id;
    agent.status(&failed, v1::CaptureState::Failed, "interface: veth9 does not exist", 0).await;
    starting.await.unwrap().unwrap_err();
    let mut after = newest().await;
    let note = after.notes.pop().unwrap();
    assert!(
        note.starts_with(&format!("this is not the newest capture: {failed} has no report, it failed ("))
            && note.contains("veth9"),
        "{note}"
    );
    assert_eq!(after, before);
    fabric.stop().await;
}

#[tokio::test]
async fn the_topology_of_a_capture_is_what_its_nodes_said() {
    let fabric = Fabric::start().await;
    let topology = async |id: &str| {
        let request = v1::GetTopologyRequest { capture_id: id.into() };
        fabric.analysis().await.get_topology(request).await.map(tonic::Response::into_inner)
    };
    let none = topology("").await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound, "{none}");
    let mut agent = Agent::connect(&fabric, "node-a", 1, &[]).await;
    agent.network("eth7").await;
    let id = running(&fabric, &mut agent, 200).await;
    agent.status(&id, v1::CaptureState::Completed, "", 0).await;
    fabric.follow(&id, common::is_final).await;
    for asked in [id.as_str(), ""] {
        let found = topology(asked).await.unwrap();
        assert_eq!((found.capture_id.as_str(), found.nodes.len()), (id.as_str(), 1));
        let node = &found.nodes[0];
        let interfaces = &node.topology.as_ref().unwrap().interfaces;
        assert_eq!((node.node.as_str(), interfaces[0].name.as_str()), ("node-a", "eth7"));
    }
    let unknown = topology("c-nope").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    fabric.stop().await;
}
