//! The part of the list that is about probes.

use std::collections::BTreeMap;

use lastseen_coordinator::probes::model::{Family, Kind, News, Part, Probe, Source, Spec, State, What};
use lastseen_coordinator::store::probes::Reports;
use lastseen_coordinator::store::{Cursor, StoreError};

use super::Home;

fn source(node: &str, netns: &str) -> Source {
    Source { node: node.into(), netns: netns.into() }
}

fn probe(id: &str, created_at_nanos: i64) -> Probe {
    Probe {
        id: id.into(),
        spec: Spec {
            name: "ünï".into(),
            labels: BTreeMap::from([("k".into(), "v".into())]),
            all_nodes: false,
            targets: vec!["10.0.0.1:80".into()],
            kind: Kind::Udp { payload: vec![0, 255] },
            count: 5,
            interval_nanos: 1,
            timeout_nanos: i64::MAX,
            family: Family::V6,
            every_nanos: Some(7),
            mesh: None,
        },
        created_at_nanos,
        created_by: "who".into(),
        start_nanos: -3,
        ended_at_nanos: None,
        stopped: String::new(),
        parts: vec![Part::new(source("node-b", "blue")), Part::new(source("node-a", ""))],
    }
}

fn report(probe: &str, source: Source, run: u64) -> (News, u64) {
    let content = format!("{} {run}", source.node).into_bytes();
    (News { probe: probe.into(), source, what: What::Report { run, content } }, KEEP)
}

fn news(probe: &str, source: Source, what: What) -> (News, u64) {
    (News { probe: probe.into(), source, what }, KEEP)
}

const MOST: usize = 10;
const KEEP: u64 = 3;
const ROOM: usize = 1 << 20;

pub(crate) async fn probes_come_back_as_they_were_and_once_for_each_call(home: Home) {
    let store = home.open().await;
    let first = probe("p-1", 100);
    assert_eq!(store.create_probe(&first, Some("call"), MOST).await.unwrap(), None);
    let again = store.create_probe(&probe("p-2", 101), Some("call"), MOST).await.unwrap();
    assert_eq!(again.as_deref(), Some("p-1"));
    let others = Probe { created_by: "else".into(), ..probe("p-3", 102) };
    assert_eq!(store.create_probe(&others, Some("call"), MOST).await.unwrap(), None, "another's call");
    store.close().await;
    let store = home.open().await;
    assert_eq!(store.probe("p-1").await.unwrap(), Some(first));
    assert_eq!(store.probe("p-2").await.unwrap(), None);
    let open: Vec<String> = store.open_probes().await.unwrap().into_iter().map(|probe| probe.id).collect();
    assert_eq!(open, ["p-1", "p-3"]);
    let refused = store.create_probe(&probe("p-4", 103), None, 2).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::NotAdmitted(reason) if reason.contains("2 have not ended")),
        "{refused}"
    );
    let after = Cursor { created_at_nanos: 102, id: "p-3".into() };
    let page: Vec<String> =
        store.probes(Some(&after), 5).await.unwrap().into_iter().map(|probe| probe.id).collect();
    assert_eq!(page, ["p-1"]);
}

pub(crate) async fn reports_of_probes_are_stored_once_and_the_newest_runs_stay(home: Home) {
    let store = home.open().await;
    store.create_probe(&probe("p-1", 100), None, MOST).await.unwrap();
    let (first, second) = (source("node-b", "blue"), source("node-a", ""));
    let told = [
        news("p-1", first.clone(), What::Armed),
        news("p-1", second.clone(), What::Failed("why".into())),
        report("p-1", first.clone(), 0),
        report("p-1", first.clone(), 0),
        report("p-1", second.clone(), 0),
        report("p-1", source("node-b", ""), 0),
        report("p-9", first.clone(), 0),
    ];
    store.save_probe_news(&told).await.unwrap();
    let parts = store.probe("p-1").await.unwrap().unwrap().parts;
    let shown = |part: &Part| (part.state, part.reason.clone(), part.runs, part.last_run);
    assert_eq!(shown(&parts[0]), (State::Armed, String::new(), 1, Some(0)));
    assert_eq!(shown(&parts[1]), (State::Failed, "why".into(), 1, Some(0)));
    for run in 1..=5 {
        store.save_probe_news(&[report("p-1", first.clone(), run)]).await.unwrap();
    }
    let text = |reports: Reports| -> Vec<String> {
        reports.reports.into_iter().map(|report| String::from_utf8(report).unwrap()).collect()
    };
    assert_eq!(text(store.probe_reports("p-1", 2, ROOM).await.unwrap()), ["node-b 5", "node-b 4"]);
    let all = store.probe_reports("p-1", 100, ROOM).await.unwrap();
    assert!(!all.is_cut);
    assert_eq!(text(all), ["node-b 5", "node-b 4", "node-b 3", "node-a 0"], "{KEEP} runs of each");
    let cut = store.probe_reports("p-1", 100, 17).await.unwrap();
    assert!(cut.is_cut);
    assert_eq!(text(cut), ["node-b 5", "node-b 4"]);
    assert_eq!(store.probe_reports("p-9", 5, ROOM).await.unwrap(), Reports::default());
    store.save_probe_news(&[report("p-1", second.clone(), 9)]).await.unwrap();
    assert_eq!(
        text(store.probe_reports("p-1", 100, ROOM).await.unwrap()).len(),
        4,
        "one's runs put out no other's"
    );
    let single = Probe { spec: Spec { every_nanos: None, ..probe("p-2", 101).spec }, ..probe("p-2", 101) };
    store.create_probe(&single, None, MOST).await.unwrap();
    store.save_probe_news(&[report("p-2", first.clone(), 0)]).await.unwrap();
    store.save_probe_news(&[news("p-2", first, What::Failed("too late".into()))]).await.unwrap();
    let parts = store.probe("p-2").await.unwrap().unwrap().parts;
    assert_eq!(shown(&parts[0]), (State::Completed, String::new(), 1, Some(0)), "what ended stays");
    let head = store.probe_head("p-2").await.unwrap().unwrap();
    assert_eq!((head.every_nanos, head.start_nanos, head.ended_at_nanos, head.parts), (None, -3, None, 2));
    assert_eq!(store.probe_head("p-1").await.unwrap().unwrap().every_nanos, Some(7));
    assert_eq!(store.probe_head("p-9").await.unwrap(), None);
}

pub(crate) async fn probes_end_once_and_go_with_all_that_hangs_on_them(home: Home) {
    let store = home.open().await;
    for (id, age) in [("p-1", 100), ("p-2", 200)] {
        store.create_probe(&probe(id, age), None, MOST).await.unwrap();
        let first = report(id, source("node-b", "blue"), 0);
        store.save_probe_news(&[first]).await.unwrap();
    }
    store.end_probe("p-1", 500, Some("somebody")).await.unwrap();
    store.end_probe("p-1", 900, None).await.unwrap();
    store.end_probe("p-9", 900, None).await.unwrap();
    let ended = store.probe("p-1").await.unwrap().unwrap();
    assert_eq!((ended.ended_at_nanos, ended.stopped.as_str()), (Some(500), "somebody"));
    assert_eq!(
        ended.parts.iter().map(|part| part.state).collect::<Vec<_>>(),
        [State::Stopped, State::Stopped]
    );
    assert_eq!(store.open_probes().await.unwrap().len(), 1);
    assert!(!store.delete_probe(500).await.unwrap(), "not before it ended");
    assert!(store.delete_probe(501).await.unwrap());
    assert!(!store.delete_probe(501).await.unwrap(), "the other has not ended");
    assert_eq!(store.probe("p-1").await.unwrap(), None);
    for (table, rows) in [("probes", 1), ("probe_parts", 2), ("probe_reports", 1)] {
        assert_eq!(home.count(table).await, rows, "{table}");
    }
}
