//! Looks at a server's certificate without refusing it: nothing secret is sent, and what is wrong with it is the news.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::report::Certificate;

/// Names of a certificate that are told.
const NAMES: usize = 16;

/// What a connection's certificate was.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<Certificate>>>);

impl Seen {
    pub(super) fn take(&self) -> Option<Certificate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Judges certificates by these roots.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    provider: Arc<CryptoProvider>,
    inner: Arc<WebPkiServerVerifier>,
}

impl Judge {
    /// Empty: those that browsers trust.
    pub(super) fn new(ca_pem: &str) -> Result<Self, String> {
        let roots = if ca_pem.is_empty() {
            RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
        } else {
            lastseen_runtime::roots::from_pem(ca_pem).map_err(|reason| format!("ca: {reason}"))?
        };
        let provider = Arc::new(ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Ok(Self { provider, inner: inner.map_err(|error| format!("ca: {error}"))? })
    }

    /// For one connection: each shows its certificate anew.
    pub(super) fn config(&self) -> Result<(ClientConfig, Seen), Error> {
        let seen = Seen::default();
        let verifier = Onlooker { inner: self.inner.clone(), seen: seen.clone() };
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok((config, seen))
    }
}

#[derive(Debug)]
struct Onlooker {
    inner: Arc<WebPkiServerVerifier>,
    seen: Seen,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let fault = verdict.err().map(|error| fault(&error, server_name)).unwrap_or_default();
        let certificate = read(end_entity, fault);
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.inner.verify_tls12_signature(message, certificate, signed).is_ok());
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(self.inner.verify_tls13_signature(message, certificate, signed).is_ok());
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl Onlooker {
    /// Notes a proof that is wrong, or that this library cannot check: it does not know every kind of key.
    fn note(&self, is_proved: bool) {
        if !is_proved
            && let Some(certificate) = &mut *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
            && certificate.fault.is_empty()
        {
            "the server's proof that it has its key is wrong, or cannot be checked"
                .clone_into(&mut certificate.fault);
        }
    }
}

fn fault(error: &Error, name: &ServerName<'_>) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => "it is an authority's own, as self-signed ones often are".to_owned(),
            "UnsupportedCertVersion" => "it is not of X.509 version 3".to_owned(),
            other => other.to_owned(),
        },
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "it is not valid yet".to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody trusted has issued it; give the authority's certificate with --ca".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("it is not for {}", name.to_str()),
        Error::InvalidCertificate(other) => other.to_string(),
        other => other.to_string(),
    }
}

fn read(der: &[u8], fault: String) -> Certificate {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        let nothing = String::new;
        return Certificate {
            subject: nothing(),
            issuer: nothing(),
            names: Vec::new(),
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH,
            fault: if fault.is_empty() { "it cannot be read".to_owned() } else { fault },
        };
    };
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    Certificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names.iter().filter_map(general_name).take(NAMES).collect(),
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
        fault,
    }
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.timestamp().try_into().unwrap_or(0))
}
