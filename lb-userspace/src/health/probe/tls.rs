//! A TLS handshake comes to its end, with a certificate that holds if that is asked for.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    },
};

use super::{
    Reason, ReasonKind,
    deadline::{Deadline, fault},
};
use crate::config::Tls;

const STEP: &str = "tls";

/// Shakes hands over a connection to an address.
pub async fn handshake(
    stream: TcpStream,
    tls: &Tls,
    address: SocketAddr,
    deadline: Deadline,
) -> Result<TlsStream<TcpStream>, Reason> {
    let config = config(tls)?;
    let name = match &tls.name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|_| local(format!("{name}: not a server's name")))?,
        // An address is sent to nobody, and not asked of a certificate that is not verified.
        None => ServerName::from(address.ip()),
    };
    let connecting = TlsConnector::from(config).connect(name, stream);
    deadline.during(STEP, async { connecting.await.map_err(|error| why(&error)) }).await
}

fn local(words: String) -> Reason {
    Reason::new(ReasonKind::Local, format!("{STEP}: this host: {words}"))
}

/// Why there was no handshake.
fn why(error: &io::Error) -> Reason {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return fault(STEP, error);
    };
    let words = match inner {
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate not valid yet".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate for another name".to_owned()
            }
            CertificateError::UnknownIssuer => "certificate of an unknown issuer".to_owned(),
            other => format!("certificate: {other}"),
        },
        Error::InvalidMessage(_) => "the answer is not TLS".to_owned(),
        Error::AlertReceived(alert) => format!("refused by the other side: {alert:?}"),
        other => other.to_string(),
    };
    Reason::new(ReasonKind::Tls, format!("{STEP}: {words}"))
}

/// What a client's configuration depends on.
#[derive(PartialEq, Eq, Hash)]
enum Trust {
    Anybody,
    Host,
    /// And when the file was last written.
    File(PathBuf, SystemTime),
}

/// Reading certificates is dear, and checks are many: each configuration is made once.
static CONFIGS: Mutex<Option<HashMap<Trust, Arc<ClientConfig>>>> = Mutex::new(None);

fn config(tls: &Tls) -> Result<Arc<ClientConfig>, Reason> {
    let trust = match (tls.verify, &tls.ca) {
        (false, _) => Trust::Anybody,
        (true, None) => Trust::Host,
        (true, Some(file)) => {
            let written = fs::metadata(file).and_then(|found| found.modified());
            Trust::File(file.clone(), written.map_err(|error| local(format!("{}: {error}", file.display())))?)
        }
    };
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    let configs = configs.get_or_insert_default();
    if let Some(config) = configs.get(&trust) {
        return Ok(config.clone());
    }
    let made = Arc::new(make(&trust)?);
    if let Trust::File(file, _) = &trust {
        // An older reading of the same file is of no use any more.
        configs.retain(|known, _| !matches!(known, Trust::File(other, _) if other == file));
    }
    configs.insert(trust, made.clone());
    Ok(made)
}

fn make(trust: &Trust) -> Result<ClientConfig, Reason> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| local(error.to_string()))?;
    let mut config = match trust {
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
        }
        Trust::Host => builder.with_root_certificates(roots_of_host()?).with_no_client_auth(),
        Trust::File(file, _) => builder.with_root_certificates(roots_in(file)?).with_no_client_auth(),
    };
    // Every check is a whole handshake, and none leaves anything behind.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots_of_host() -> Result<RootCertStore, Reason> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(local(
            "it trusts nobody (install ca-certificates, name a file by `ca`, or verify = false)".to_owned(),
        ));
    }
    Ok(roots)
}

fn roots_in(file: &Path) -> Result<RootCertStore, Reason> {
    let fault = |error: &dyn std::fmt::Display| local(format!("{}: {error}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fault(&error))? {
        let certificate = certificate.map_err(|error| fault(&error))?;
        roots.add(certificate).map_err(|error| fault(&error))?;
    }
    if roots.is_empty() {
        return Err(fault(&"no certificate in it"));
    }
    Ok(roots)
}

/// Takes every certificate, but still asks the other side to prove that it holds the key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
