//! Key material from a directory with `ca.crt`, `tls.crt` and `tls.key`, and the rustls configurations made of it.
//!
//! TLS 1.3 with client certificates on both sides, always. A client accepts a server only if the certificate
//! matches the host and carries the coordinator's identity, so that an agent's certificate can never serve.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::certificate::{DenyList, Facts};
use crate::identity::{Identity, Role};

const FILES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// Key material that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or unreadable.
    #[error("pki-dir: cannot read {path}: {source}; make one with `ctl pki issue`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The contents are not what the name promises.
    #[error("pki-dir: {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Certificate, key and authority of this process. Cheap to clone; clones see a reload together.
#[derive(Clone)]
pub struct Pki {
    dir: Arc<Path>,
    current: Arc<RwLock<Loaded>>,
    denied: Denied,
}

/// Clients that a server refuses; every configuration of one [`Pki`] looks at the same list.
type Denied = Arc<RwLock<DenyList>>;

struct Loaded {
    stamp: Stamp,
    identity: Identity,
    not_after: SystemTime,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Inode, size and change time of each file: differs when a file was replaced or rewritten.
type Stamp = [(u64, u64, i64, i64); 3];

impl Pki {
    /// Loads `dir` and checks that its three files fit together.
    pub fn open(dir: &Path) -> Result<Self, TlsError> {
        let denied = Denied::default();
        let loaded = load(dir, &denied)?;
        Ok(Self { dir: dir.into(), current: Arc::new(RwLock::new(loaded)), denied })
    }

    /// From now on clients on this list do not get through a handshake with this server.
    pub fn deny(&self, list: DenyList) {
        *self.denied.write().unwrap_or_else(std::sync::PoisonError::into_inner) = list;
    }

    /// Who this process is.
    pub fn identity(&self) -> Identity {
        self.read(|loaded| loaded.identity.clone())
    }

    /// When this process's certificate ends, the one that is in the directory now.
    pub fn not_after(&self) -> SystemTime {
        self.reload();
        self.read(|loaded| loaded.not_after)
    }

    /// The directory the files are in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Configuration for a new connection to this server, from the files as they are now.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.reload();
        self.read(|loaded| loaded.server.clone())
    }

    /// Configuration for a new connection to a coordinator, from the files as they are now.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.reload();
        self.read(|loaded| loaded.client.clone())
    }

    fn read<T>(&self, pick: impl FnOnce(&Loaded) -> T) -> T {
        pick(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Takes over replaced files. Files that do not fit together, as in the middle of a rotation, leave the
    /// material in use as it is.
    pub(crate) fn reload(&self) {
        let stamp = stamp(&self.dir);
        if stamp.is_none() || stamp == Some(self.read(|loaded| loaded.stamp)) {
            return;
        }
        match load(&self.dir, &self.denied) {
            Ok(loaded) => {
                tracing::info!(dir = %self.dir.display(), identity = %loaded.identity, "certificate reloaded");
                *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = loaded;
            }
            Err(error) => tracing::warn!(%error, "certificate not reloaded; the former one stays in use"),
        }
    }
}

fn stamp(dir: &Path) -> Option<Stamp> {
    let mut stamp = Stamp::default();
    for (slot, file) in stamp.iter_mut().zip(FILES) {
        let meta = fs::metadata(dir.join(file)).ok()?;
        *slot = (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    }
    Some(stamp)
}

fn load(dir: &Path, denied: &Denied) -> Result<Loaded, TlsError> {
    let [ca_path, crt_path, key_path] = FILES.map(|file| dir.join(file));
    // Taken before reading, so that a change in between shows as a change.
    let stamp = stamp(dir).unwrap_or_default();
    let authorities = certificates(&ca_path)?;
    let chain = certificates(&crt_path)?;
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .map_err(|source| TlsError::Unreadable { path: key_path.clone(), source })?;
    let invalid_crt = |reason: String| TlsError::Invalid { path: crt_path.clone(), reason };
    let identity = Identity::from_certificate(&chain[0]).map_err(|e| invalid_crt(e.to_string()))?;
    let not_after = Facts::read(&chain[0]).map_err(invalid_crt)?.not_after;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(|e| TlsError::Invalid { path: ca_path.clone(), reason: e.to_string() })?;
    }
    let invalid_key = |e: rustls::Error| TlsError::Invalid {
        path: key_path.clone(),
        reason: format!("{e}; it must be the key of {}", crt_path.display()),
    };
    let roots = Arc::new(roots);
    let server = server_config(&roots, chain.clone(), key.clone_key(), denied).map_err(invalid_key)?;
    let client = client_config(&roots, chain, key, &identity.trust_domain).map_err(invalid_key)?;
    Ok(Loaded { stamp, identity, not_after, server: Arc::new(server), client: Arc::new(client) })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let list: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if list.is_empty() {
        return Err(TlsError::Invalid { path: path.to_owned(), reason: "no PEM certificate in it".into() });
    }
    Ok(list)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    denied: &Denied,
) -> Result<ServerConfig, rustls::Error> {
    let inner = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(CallerVerifier { inner, denied: denied.clone() }))
        .with_single_cert(chain, key)?;
    // A resumed session is taken for what it was when it began (RFC 8446 §2.2): nobody would look at the certificate
    // again, whether it has ended since, was denied, or lost its authority.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn client_config(
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trust_domain: &str,
) -> Result<ClientConfig, rustls::Error> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        // "Dangerous" is rustls' word for any verifier of one's own; this one only adds a demand.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CoordinatorVerifier {
            inner,
            expected: Identity::new(trust_domain, Role::Coordinator, ""),
        }))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The usual verification, and the identity of our own trust domain's coordinator on top.
#[derive(Debug)]
struct CoordinatorVerifier {
    inner: Arc<WebPkiServerVerifier>,
    expected: Identity,
}

impl ServerCertVerifier for CoordinatorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        match Identity::from_certificate(end_entity) {
            Ok(identity) if identity == self.expected => Ok(verified),
            Ok(identity) => Err(rustls::Error::General(format!(
                "the server's certificate belongs to {identity}, not to {}",
                self.expected
            ))),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The usual verification, and on top of it that the certificate was made for a client and is not denied.
#[derive(Debug)]
struct CallerVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    denied: Denied,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let facts = Facts::read(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        // Without the extension a certificate is good for anything, and what was made for something else passes.
        if !facts.is_client {
            return Err(CertificateError::InvalidPurpose.into());
        }
        let identity = Identity::from_certificate(end_entity).ok();
        let denied = self.denied.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match denied.covers(identity.as_ref(), &facts.serial) {
            Some(_) => Err(CertificateError::Revoked.into()),
            None => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
