//! Certificates of identities.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use lastseen_runtime::identity::{Identity, Role};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

use super::Authority;

/// Certificates begin a little in the past, for machines whose clocks are behind.
pub(super) const BACKDATE: Duration = Duration::minutes(5);
/// Longest common name, RFC 5280 appendix A (ub-common-name).
const LONGEST_COMMON_NAME: usize = 64;

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First instant.
    pub not_before: OffsetDateTime,
    /// Last instant.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From now, for `length`.
    pub fn from_now(length: std::time::Duration) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let too_long = "valid-for: is too long";
        let end = now.checked_add(length.try_into().context(too_long)?).context(too_long)?;
        Ok(Self { not_before: now - BACKDATE, not_after: end })
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Role in the fabric.
    pub role: Role,
    /// Name of the node or person; only the subject's common name for a coordinator.
    pub name: &'a str,
    /// Host names a coordinator is reached by.
    pub dns: &'a [String],
    /// Addresses a coordinator is reached by.
    pub ip: &'a [IpAddr],
    /// When it holds.
    pub validity: Validity,
}

/// A certificate with its key.
pub struct Leaf {
    /// Who it speaks for.
    pub identity: Identity,
    /// When it ends.
    pub not_after: OffsetDateTime,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS #8 PEM.
    pub key: String,
}

impl Authority {
    /// Issues a certificate with a new key.
    pub fn issue(&self, request: &Request<'_>) -> anyhow::Result<Leaf> {
        let end = request.validity.not_after;
        ensure!(
            end <= self.not_after,
            "valid-for: would end on {}, after the authority itself, which ends on {}; give less",
            end.date(),
            self.not_after.date()
        );
        let identity = Identity::new(&self.trust_domain, request.role, request.name);
        let key = KeyPair::generate()?;
        let certificate = parameters(&identity, request)?.signed_by(&key, &self.issuer)?;
        Ok(Leaf { identity, not_after: end, certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn parameters(identity: &Identity, request: &Request<'_>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let common_name: String = request.name.chars().take(LONGEST_COMMON_NAME).collect();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (request.validity.not_before, request.validity.not_after);
    if request.role == Role::Coordinator {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names.extend(hosts(request)?);
    } else {
        ensure!(
            request.dns.is_empty() && request.ip.is_empty(),
            "dns, ip: only a coordinator is reached by a host name or address; leave them out"
        );
    }
    Ok(params)
}

/// Where a coordinator is reached: as asked for, else on this machine only.
fn hosts(request: &Request<'_>) -> anyhow::Result<Vec<SanType>> {
    let mut hosts = Vec::new();
    for dns in request.dns {
        hosts.push(SanType::DnsName(dns.as_str().try_into().with_context(|| format!("dns: {dns:?}"))?));
    }
    hosts.extend(request.ip.iter().copied().map(SanType::IpAddress));
    if hosts.is_empty() {
        hosts.push(SanType::DnsName("localhost".try_into()?));
        hosts.extend(["127.0.0.1", "::1"].iter().filter_map(|ip| ip.parse().ok()).map(SanType::IpAddress));
    }
    Ok(hosts)
}
