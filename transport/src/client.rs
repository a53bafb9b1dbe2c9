//! The connecting end.

use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{NAME, TlsError, read};

/// The process at an address (`host:port`), with the certificates of this moment: make one for each
/// connection, so that renewed ones are used.
pub fn endpoint(address: &str, directory: &Path) -> Result<Endpoint, TlsError> {
    let files = read(directory)?;
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(files.ca))
        .identity(Identity::from_pem(files.certificate, files.key))
        .domain_name(NAME);
    let unfit = |error: &tonic::transport::Error| TlsError::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    Endpoint::from_shared(format!("https://{address}"))
        .map_err(|error| unfit(&error))?
        .tls_config(config)
        .map_err(|error| TlsError::Unfit {
            path: directory.to_owned(),
            reason: error.to_string(),
        })
}
