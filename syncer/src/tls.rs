//! Mutual TLS: both ends show a certificate of the link's CA that names [`NAME`].

use std::path::{Path, PathBuf};

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Status};

/// What the certificates of both ends name.
const NAME: &str = "transport.multiactive";

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}; --tls is a directory with ca.crt, tls.crt and tls.key")]
pub struct TlsError {
    path: PathBuf,
    source: std::io::Error,
}

/// Reads `ca.crt`, `tls.crt` and `tls.key`.
pub fn server_config(directory: &Path) -> Result<ServerTlsConfig, TlsError> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|source| TlsError { path, source })
    };
    let identity = Identity::from_pem(read("tls.crt")?, read("tls.key")?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read("ca.crt")?))
        .client_auth_optional(false))
}

/// Checks the name in the client's certificate; its chain was checked with the handshake.
pub fn check_peer<T>(request: &Request<T>) -> Result<(), Status> {
    let refuse = |why: String| {
        Status::permission_denied(format!(
            "the writer's certificate is not accepted: {why}; it must be of the link's CA and name \
             {NAME}"
        ))
    };
    let certificates = request
        .peer_certs()
        .ok_or_else(|| refuse("there is none".to_owned()))?;
    let first = certificates
        .first()
        .ok_or_else(|| refuse("there is none".to_owned()))?;
    let parsed = ParsedCertificate::try_from(first).map_err(|error| refuse(error.to_string()))?;
    let name = ServerName::try_from(NAME).map_err(|error| refuse(error.to_string()))?;
    verify_server_name(&parsed, &name).map_err(|error| refuse(error.to_string()))
}
