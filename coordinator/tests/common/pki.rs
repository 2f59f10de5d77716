//! A certificate authority of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use lastseen_runtime::tls::Pki;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    string::Ia5String,
};
use tempfile::TempDir;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem, dir: TempDir::new().unwrap() }
    }

    pub fn coordinator(&self) -> Pki {
        self.issue("spiffe://lastseen/coordinator")
    }

    pub fn identity(&self, role: &str, name: &str) -> Pki {
        self.issue(&format!("spiffe://lastseen/{role}/{name}"))
    }

    pub fn issue(&self, uri: &str) -> Pki {
        self.issue_until(uri, rcgen::date_time_ymd(4096, 1, 1))
    }

    pub fn issue_until(&self, uri: &str, not_after: time::OffsetDateTime) -> Pki {
        Pki::open(&self.write(uri, |params| params.not_after = not_after)).unwrap()
    }

    /// The three files of a certificate that is not as it should be.
    pub fn write(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
        let dir = TempDir::new_in(self.dir.path()).unwrap().keep();
        self.renew(&dir, uri, change);
        fs::write(dir.join("ca.crt"), &self.pem).unwrap();
        dir
    }

    /// Another certificate of this authority in place of the one in `dir`, whose authorities stay.
    pub fn renew(&self, dir: &Path, uri: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = SanType::URI(Ia5String::try_from(uri).unwrap());
        params.subject_alt_names = vec![uri, SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        fs::write(dir.join("tls.crt"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}
