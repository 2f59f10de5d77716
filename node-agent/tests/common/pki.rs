//! An authority and certificates in directories, as the programs read them.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        // Readable for an agent that does not run as root.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).unwrap();
        Self { issuer: Issuer::new(params, key), pem, dir }
    }

    /// A directory with a certificate for `spiffe://test/PATH` and 127.0.0.1.
    pub fn issue(&self, path: &str) -> PathBuf {
        self.issue_until(path, 4096)
    }

    /// As [`Authority::issue`], in the same directory, with the year it ends in.
    pub fn issue_until(&self, path: &str, year: i32) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.subject_alt_names = vec![
            SanType::URI(format!("spiffe://test/{path}").try_into().unwrap()),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let dir = self.dir.path().join(path.replace('/', "-"));
        std::fs::create_dir_all(&dir).unwrap();
        write(&dir, "ca.crt", &self.pem);
        write(&dir, "tls.crt", &certificate.pem());
        write(&dir, "tls.key", &key.serialize_pem());
        dir
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}
