//! The authority: a self-signed certificate and its key.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files;

/// File name of the authority's certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// File name of the authority's key.
pub const CA_KEY: &str = "ca.key";
/// How long an authority lasts.
const LIFETIME: Duration = Duration::days(3650);

/// An authority that can issue.
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Part before the path in the identities it issues.
    pub trust_domain: String,
    /// When it ends; no certificate it issues may last longer.
    pub not_after: OffsetDateTime,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority for `trust_domain` and writes it to `dir`, which must not hold one.
    pub fn init(dir: &Path, trust_domain: &str) -> anyhow::Result<Self> {
        for file in [CA_CERTIFICATE, CA_KEY] {
            let path = dir.join(file);
            ensure!(
                !path.exists(),
                "{} exists; take another directory, or remove it yourself",
                path.display()
            );
        }
        let key = KeyPair::generate()?;
        let now = OffsetDateTime::now_utc();
        let params = parameters(trust_domain, now)?;
        let certificate = params.self_signed(&key)?.pem();
        files::make_dir(dir)?;
        files::create(&dir.join(CA_KEY), &key.serialize_pem(), files::PRIVATE)?;
        files::create(&dir.join(CA_CERTIFICATE), &certificate, files::PUBLIC)?;
        let not_after = params.not_after;
        Ok(Self {
            certificate,
            trust_domain: trust_domain.to_owned(),
            not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// Loads the authority in `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let read = |file| {
            let path = dir.join(file);
            let failed = || {
                format!(
                    "cannot read {}; make an authority with `ctl pki init {}`",
                    path.display(),
                    dir.display()
                )
            };
            fs::read_to_string(&path).with_context(failed)
        };
        let (certificate, key) = (read(CA_CERTIFICATE)?, read(CA_KEY)?);
        let of = |file| format!("{}", dir.join(file).display());
        let key = KeyPair::from_pem(&key).with_context(|| of(CA_KEY))?;
        let (trust_domain, not_after) = inspect(&certificate, &key).with_context(|| of(CA_CERTIFICATE))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).with_context(|| of(CA_CERTIFICATE))?;
        Ok(Self { certificate, trust_domain, not_after, issuer })
    }
}

fn parameters(trust_domain: &str, now: OffsetDateTime) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Lastseen CA {trust_domain}"));
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - super::leaf::BACKDATE;
    params.not_after = now + LIFETIME;
    Ok(params)
}

/// Trust domain and end of an authority's certificate, which must belong to `key`.
fn inspect(pem: &str, key: &KeyPair) -> anyhow::Result<(String, OffsetDateTime)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("no PEM certificate in it")?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).context("not an X.509 certificate")?;
    ensure!(certificate.is_ca(), "not a certificate of an authority");
    let public_key = certificate.public_key().subject_public_key.as_ref();
    ensure!(public_key == key.public_key_raw(), "{CA_KEY} beside it is not its key");
    let names = certificate.subject_alternative_name().context("its alternative names")?;
    let trust_domain =
        names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
    let trust_domain =
        trust_domain.context("no SAN URI spiffe://<trust-domain>; was it made by `ctl pki init`?")?;
    let trust_domain = super::trust_domain(trust_domain)
        .map_err(|reason| anyhow::anyhow!("trust domain {trust_domain:?}: {reason}"))?;
    Ok((trust_domain, certificate.validity().not_after.to_datetime()))
}
