//! What a report comes to, in a word or two.

use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Of all results and attempts: `answered` if all were, `some` if not all were, or the best of the rest.
pub(super) fn outcome(report: &Value) -> String {
    let results = report["results"].as_array().map_or(&[][..], Vec::as_slice);
    let attempts = results.iter().flat_map(|result| result["attempts"].as_array().into_iter().flatten());
    let outcomes: Vec<&str> = attempts.map(|attempt| text(&attempt["outcome"])).collect();
    let has = |outcome: &str| outcomes.contains(&outcome);
    let all = |outcome: &str| !outcomes.is_empty() && outcomes.iter().all(|one| *one == outcome);
    let word = match () {
        () if all("PROBE_ANSWERED") => "answered",
        () if has("PROBE_ANSWERED") => "some",
        () if has("PROBE_REFUSED") => "refused",
        () if has("PROBE_UNREACHABLE") => "unreachable",
        () if has("PROBE_SILENT") => "silent",
        () if has("PROBE_NOT_SENT") => "not sent",
        () => return results.first().map_or("nothing", |result| text(&result["reason"])).to_owned(),
    };
    word.to_owned()
}

/// `1450 interface`.
pub(super) fn path_mtu(report: &Value) -> String {
    let found = &report["results"][0]["pathMtu"];
    let mtu = found["mtu"].as_u64().unwrap_or(0);
    let method = text(&found["method"]).trim_start_matches("PATH_MTU_").to_lowercase();
    if mtu == 0 { "none".to_owned() } else { format!("{mtu} {method}") }
}

/// `reached`, `refused` by a router, or behind which hop nothing answers.
pub(super) fn trace(report: &Value) -> String {
    let attempts = report["results"][0]["attempts"].as_array().map_or(&[][..], Vec::as_slice);
    let with = |outcome: &str| attempts.iter().any(|attempt| attempt["outcome"] == outcome);
    if with("PROBE_ANSWERED") {
        return "reached".to_owned();
    }
    let expired = attempts.iter().filter(|attempt| attempt["outcome"] == "PROBE_EXPIRED");
    let last = expired.filter_map(|attempt| attempt["hopLimit"].as_u64()).max().unwrap_or(0);
    let end = if with("PROBE_UNREACHABLE") { "unreachable" } else { "silent" };
    format!("{end} after {last}")
}

/// How many have the address.
pub(super) fn neighbor(report: &Value) -> String {
    let count = report["results"][0]["neighbor"]["linkAddresses"].as_array().map_or(0, Vec::len);
    ["nobody", "one", "several"][count.min(2)].to_owned()
}
