//! The certificate of a listening address: read from its files, and again when they change.
//!
//! A renewed certificate is taken up without a restart; one that can't be used leaves the old one in force.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

/// Why a certificate can't be used. It repeats nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {mend}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// The certificate is another key's, or of a kind that is not known here.
    #[error("the certificate and its key do not go together: {0}")]
    Apart(rustls::Error),
}

/// Serves over TLS, with the certificate of these files.
#[derive(Clone)]
pub struct Tls(Arc<Certificate>);

struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    now: RwLock<InForce>,
}

struct InForce {
    files: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("cert", &self.cert).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&now.certified))
    }
}

impl Tls {
    /// Reads the chain and the key, both PEM.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let now = read(cert, key, None)?;
        // Nothing is in force yet, so what was read is new.
        let now = now.ok_or(TlsError::Malformed { path: cert.to_owned(), mend: "holds no certificate" })?;
        Ok(Self(Arc::new(Certificate { cert: cert.to_owned(), key: key.to_owned(), now: RwLock::new(now) })))
    }

    /// Takes up what the files hold now; true where that is new.
    pub fn renew(&self) -> Result<bool, TlsError> {
        let known = self.0.now.read().unwrap_or_else(PoisonError::into_inner).files;
        let Some(new) = read(&self.0.cert, &self.0.key, Some(known))? else { return Ok(false) };
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// Greets connections. TLS 1.2 and 1.3; HTTP/1.1 is all that is spoken inside.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Apart)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What the files hold; none where that is known already.
fn read(cert: &Path, key: &Path, known: Option<[u8; 32]>) -> Result<Option<InForce>, TlsError> {
    let bytes =
        |path: &Path| fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error });
    let (chain, secret) = (bytes(cert)?, bytes(key)?);
    let files = Sha256::new().chain_update(Sha256::digest(&chain)).chain_update(&secret).finalize().into();
    if known == Some(files) {
        return Ok(None);
    }
    let malformed = |path: &Path, mend| TlsError::Malformed { path: path.to_owned(), mend };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|_| malformed(cert, "is not PEM: write the certificate with its chain, own one first"))?;
    if chain.is_empty() {
        return Err(malformed(cert, "holds no certificate: write it with its chain, own one first"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&secret)
        .map_err(|_| malformed(key, "holds no private key in PEM without a passphrase"))?;
    let certified =
        CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(TlsError::Apart)?;
    Ok(Some(InForce { files, certified: Arc::new(certified) }))
}
