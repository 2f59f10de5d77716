//! A report as `JUnit` XML, as CI systems read it: a test case per path. A loss is a failure; what cannot be told is an
//! error, because a case that is skipped passes.

use lastseen_proto::v1::diff_report::Verdict;
use lastseen_proto::v1::{DiffReport, PathReport};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Options, path, plural};
use crate::output::{escape, names, units};

/// Share of a path's segments that may go unobserved before nothing can be said of it.
const UNOBSERVED_RATIO: f64 = 0.01;

/// The document. A path's loss is a failure from `min_loss_ratio` of its segments.
pub fn text(report: &DiffReport, min_loss_ratio: f64) -> anyhow::Result<String> {
    let mut suite = TestSuite::new(format!("capture {}", report.capture_id));
    for path in &report.paths {
        suite.add_test_case(case(path, min_loss_ratio));
    }
    let is_open = report.verdict == Verdict::Inconclusive as i32;
    if is_open && suite.errors == 0 {
        suite.add_test_case(observation(report));
    }
    suite.set_system_out(
        report.notes.iter().map(|note| format!("{}\n", escape::line(note))).collect::<String>(),
    );
    let mut document = Report::new("lastseen");
    document.add_test_suite(suite);
    Ok(document.to_string()?)
}

fn case(path: &PathReport, min_loss_ratio: f64) -> TestCase {
    let totals = path.totals.unwrap_or_default();
    let unseen = totals.not_observable + totals.ambiguous;
    let (lost, total) =
        path.in_pieces.map_or((totals.lost, totals.segments), |bytes| (bytes.lost, bytes.total));
    let is_lost = totals.lost > 0 && lost as f64 >= min_loss_ratio * total as f64;
    let is_open = path.hops.len() < 2 || unseen as f64 > UNOBSERVED_RATIO * totals.segments as f64;
    let all = plural(totals.segments, path::unit(path.in_pieces.as_ref()));
    let status = if is_lost {
        let legs: Vec<String> = path.losses.iter().map(leg).collect();
        let message = format!("lost {} of {all}: {}", units::count(totals.lost), legs.join("; "));
        finding(NonSuccessKind::Failure, "LOST", &message, path)
    } else if is_open {
        let message = match path.hops.len() {
            0 | 1 => "seen at one point only: nothing to compare".to_owned(),
            _ => format!("{} of {all} not observable or ambiguous", units::count(unseen)),
        };
        finding(NonSuccessKind::Error, "INCONCLUSIVE", &message, path)
    } else {
        TestCaseStatus::success()
    };
    let name = format!("{} → {} {}", path.source, path.destination, path.protocol);
    let name =
        path.overlay.as_ref().map_or(name.clone(), |overlay| format!("{name} {}", names::overlay(overlay)));
    let mut case = TestCase::new(escape::line(&name).into_owned(), status);
    case.set_classname("lastseen.path");
    case
}

fn finding(kind: NonSuccessKind, class: &str, message: &str, path: &PathReport) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(class).set_message(escape::line(message).into_owned());
    status.set_description(path::text(path, Options { wide: true, ..Options::default() }));
    status
}

/// `node-a eth0 → node-b eth0 37`.
fn leg(loss: &lastseen_proto::v1::Loss) -> String {
    let point = |point: Option<&_>| point.map_or_else(|| "unknown".to_owned(), names::point);
    format!("{} → {} {}", point(loss.from.as_ref()), point(loss.to.as_ref()), units::count(loss.count))
}

/// What keeps the whole report open where no path tells it.
fn observation(report: &DiffReport) -> TestCase {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    let reason = report.notes.first().map_or("too much could not be observed", String::as_str);
    status.set_type("INCONCLUSIVE").set_message(escape::line(reason).into_owned());
    let mut case = TestCase::new("observation", status);
    case.set_classname("lastseen.capture");
    case
}
