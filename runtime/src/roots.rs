//! Authorities that somebody trusts.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Those in a PEM text, or what is wrong with it. What holds anything else beside them is refused: it may be a secret.
pub fn from_pem(pem: &str) -> Result<RootCertStore, String> {
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
    if pem.lines().any(|line| line.contains("-----BEGIN ") && line.trim() != CERTIFICATE) {
        return Err(
            "holds more than certificates, perhaps a private key; give the certificates alone".to_owned()
        );
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("holds what is no certificate: {error}"))?;
    }
    if roots.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (pem, part) in [
            (key, "perhaps a private key"),
            ("", "no certificate"),
            ("hello", "no certificate"),
            (broken, "what is no certificate"),
        ] {
            let reason = from_pem(pem).unwrap_err();
            assert!(reason.contains(part), "{pem:?}: {reason}");
        }
    }
}
