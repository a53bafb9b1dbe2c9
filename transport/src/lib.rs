//! Mutual TLS between processes of ours: both ends show a certificate of the installation's CA that
//! names [`NAME`]. The certificates are a mounted Secret, which changes while they run, so they are
//! read anew for each connection.

mod client;
mod server;

use std::io;
use std::path::{Path, PathBuf};

pub use client::endpoint;
pub use server::{Certificates, check_peer, listen};

/// What the certificates of both ends name.
pub const NAME: &str = "transport.multiactive";

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("cannot read {path}: {source}; --tls is a directory with ca.crt, tls.crt and tls.key")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One does not hold what its name says, or they do not go together.
    #[error("{path} cannot be used: {reason}")]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An address that is none.
    #[error("{address:?} is not an address to connect to: {reason}")]
    Address {
        /// Which.
        address: String,
        /// Why.
        reason: String,
    },
}

/// The three files as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

fn read(directory: &Path) -> Result<Files, TlsError> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(|source| TlsError::Read { path, source })
    };
    Ok(Files {
        ca: read("ca.crt")?,
        certificate: read("tls.crt")?,
        key: read("tls.key")?,
    })
}
