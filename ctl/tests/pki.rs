//! The authority and what it issues, read back by another parser and by the fabric's own identity check.

#![allow(clippy::disallowed_methods, reason = "the program under test is started")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use lastseen_runtime::identity::{Identity, Role};
use lastseen_runtime::tls::Pki;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

fn ctl(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctl")).current_dir(dir).args(line.split(' ')).output().unwrap()
}

fn succeed(dir: &Path, line: &str) -> String {
    let output = ctl(dir, line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn fail(dir: &Path, line: &str, expected: &str) {
    let output = ctl(dir, line);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && err.starts_with("error: ") && err.contains(expected),
        "{line}: {err}"
    );
}

fn inspect<T>(path: &Path, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let bytes = fs::read(path).unwrap();
    let (_, pem) = parse_x509_pem(&bytes).unwrap();
    look(&pem.parse_x509().unwrap())
}

fn names(path: &Path) -> Vec<String> {
    inspect(path, |certificate| {
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let name = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => format!("uri {uri}"),
            GeneralName::DNSName(dns) => format!("dns {dns}"),
            GeneralName::IPAddress(ip) => format!("ip {} bytes", ip.len()),
            other => panic!("{other:?}"),
        };
        names.value.general_names.iter().map(name).collect()
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn with_authority() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), "pki init ca --trust-domain prod.example");
    dir
}

#[test]
fn every_role_gets_exactly_its_uri_and_usage() {
    let temp = with_authority();
    let dir = temp.path();
    for (role, uri) in [
        (Role::Agent, "spiffe://prod.example/agent/n-1.example"),
        (Role::Operator, "spiffe://prod.example/operator/n-1.example"),
        (Role::Viewer, "spiffe://prod.example/viewer/n-1.example"),
        (Role::Coordinator, "spiffe://prod.example/coordinator"),
    ] {
        let out = role.as_str();
        let said = succeed(dir, &format!("pki issue ca {out} n-1.example --out {out}"));
        assert!(said.starts_with(&format!("{uri} until ")), "{said}");
        let pki = Pki::open(&dir.join(out)).unwrap();
        assert_eq!(pki.identity(), Identity::from_uri(uri).unwrap());
        let is_coordinator = role == Role::Coordinator;
        let mut expected = vec![format!("uri {uri}")];
        expected.extend(
            ["dns localhost", "ip 4 bytes", "ip 16 bytes"]
                .iter()
                .filter(|_| is_coordinator)
                .map(ToString::to_string),
        );
        assert_eq!(names(&dir.join(out).join("tls.crt")), expected);
        inspect(&dir.join(out).join("tls.crt"), |certificate| {
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.client_auth && usage.server_auth == is_coordinator && !certificate.is_ca());
        });
    }
}

#[test]
fn the_authority_signs_and_says_its_trust_domain() {
    let temp = with_authority();
    let dir = temp.path();
    succeed(dir, "pki issue ca viewer v --out v");
    let ca = fs::read(dir.join("ca/ca.crt")).unwrap();
    let (_, ca) = parse_x509_pem(&ca).unwrap();
    let ca = ca.parse_x509().unwrap();
    assert!(ca.is_ca() && ca.verify_signature(None).is_ok());
    inspect(&dir.join("v/tls.crt"), |leaf| leaf.verify_signature(Some(ca.public_key())).unwrap());
    assert_eq!(names(&dir.join("ca/ca.crt")), ["uri spiffe://prod.example"]);
    assert_eq!(fs::read(dir.join("ca/ca.crt")).unwrap(), fs::read(dir.join("v/ca.crt")).unwrap());
}

#[test]
fn keys_are_private_and_the_authoritys_key_stays_home() {
    let temp = with_authority();
    let dir = temp.path();
    succeed(dir, "pki issue ca agent a --out nested/a");
    assert_eq!([mode(&dir.join("ca/ca.key")), mode(&dir.join("nested/a/tls.key"))], [0o600, 0o600]);
    assert_eq!([mode(&dir.join("ca")), mode(&dir.join("nested/a"))], [0o700, 0o700]);
    let mut files: Vec<_> =
        fs::read_dir(dir.join("nested/a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.crt", "tls.crt", "tls.key"]);
}

#[test]
fn hosts_and_length_of_life_are_as_asked() {
    let temp = with_authority();
    let dir = temp.path();
    succeed(dir, "pki issue ca coordinator c --dns a.example,b.example --ip fd00::1 --valid-for 2d --out c");
    assert_eq!(
        names(&dir.join("c/tls.crt"))[1..],
        ["dns a.example".to_owned(), "dns b.example".into(), "ip 16 bytes".into()]
    );
    inspect(&dir.join("c/tls.crt"), |certificate| {
        let validity = certificate.validity();
        // Two days, and five minutes into the past for machines whose clocks are behind.
        assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 2 * 86_400 + 300);
    });
}

#[test]
fn an_identity_is_renewed_in_place_but_never_replaced_by_another() {
    let temp = with_authority();
    let dir = temp.path();
    succeed(dir, "pki issue ca agent a --out a");
    let before = fs::read(dir.join("a/tls.crt")).unwrap();
    succeed(dir, "pki issue ca agent a --out a");
    assert_ne!(fs::read(dir.join("a/tls.crt")).unwrap(), before);
    assert!(Pki::open(&dir.join("a")).is_ok());
    fail(dir, "pki issue ca agent b --out a", "holds the identity spiffe://prod.example/agent/a");
    assert_eq!(Pki::open(&dir.join("a")).unwrap().identity().name, "a");
}

#[test]
fn mistakes_change_nothing_and_name_the_way_out() {
    let temp = with_authority();
    let dir = temp.path();
    let key = fs::read(dir.join("ca/ca.key")).unwrap();
    fail(dir, "pki init ca", "ca/ca.crt exists");
    fail(dir, "pki init other --trust-domain Prod", "lower-case");
    fail(dir, "pki issue ca agent a/b --out x", "letters, digits");
    fail(dir, "pki issue ca agent a --dns h --out x", "only a coordinator");
    fail(dir, "pki issue ca agent a --valid-for 0d --out x", "longer than 0");
    fail(dir, "pki issue ca agent a --valid-for 5000d --out x", "after the authority itself");
    fail(dir, "pki issue ca agent a --out ca", "take another directory");
    fail(dir, "pki issue nowhere agent a --out x", "ctl pki init nowhere");
    fail(
        dir,
        "pki issue ca king a --out x",
        "<ROLE>: \"king\" is not one of agent, operator, viewer, coordinator",
    );
    assert!(!dir.join("x").exists() && !dir.join("other").exists());
    assert_eq!(fs::read(dir.join("ca/ca.key")).unwrap(), key);
    succeed(dir, "pki init other");
    fs::copy(dir.join("other/ca.key"), dir.join("ca/ca.key")).unwrap();
    fail(dir, "pki issue ca agent a --out x", "ca.key beside it is not its key");
}
