//! The accepting end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::{Request, Status};

use crate::{Files, NAME, TlsError, read};

/// What is spoken over the connection (RFC 9113).
const HTTP2: &[u8] = b"h2";
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So many connections may be in their handshakes.
const HANDSHAKES: usize = 64;
/// After a failure to accept, for example for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// This end's certificate, read anew for each connection: a mounted Secret changes while we run.
#[derive(Debug)]
pub struct Certificates {
    directory: PathBuf,
    last: Mutex<(Files, Arc<ServerConfig>)>,
}

impl Certificates {
    /// Reads `ca.crt`, `tls.crt` and `tls.key`.
    pub fn new(directory: &Path) -> Result<Self, TlsError> {
        let files = read(directory)?;
        let config = config(directory, &files)?;
        Ok(Self {
            directory: directory.to_owned(),
            last: Mutex::new((files, config)),
        })
    }

    /// Those to use now. Files that cannot be used, for example because they are being replaced
    /// one by one, leave the last good ones in use.
    fn current(&self) -> Arc<ServerConfig> {
        // Only whole values are assigned, so a poisoned lock holds sound data.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match read(&self.directory) {
            Ok(files) if files == last.0 => return Arc::clone(&last.1),
            Ok(files) => config(&self.directory, &files).map(|config| (files, config)),
            Err(error) => Err(error),
        };
        match fresh {
            Ok(fresh) => {
                tracing::info!(directory = %self.directory.display(), "took up other certificates");
                *last = fresh;
            }
            Err(error) => tracing::warn!(%error, "the last good certificates stay in use"),
        }
        Arc::clone(&last.1)
    }
}

fn config(directory: &Path, files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |file: &str| {
        let path = directory.join(file);
        move |reason: String| TlsError::Unfit { path, reason }
    };
    let chain = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    for root in chain(&files.ca).map_err(|error| unfit("ca.crt")(error.to_string()))? {
        roots
            .add(root)
            .map_err(|error| unfit("ca.crt")(error.to_string()))?;
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unfit("ca.crt")(error.to_string()))?;
    let own = chain(&files.certificate).map_err(|error| unfit("tls.crt")(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&files.key)
        .map_err(|error| unfit("tls.key")(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit("tls.crt")(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own, key)
        .map_err(|error| unfit("tls.crt")(error.to_string()))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}

/// Accepts connections, each with the certificates of that moment, until the receiver is dropped.
pub async fn listen(
    address: SocketAddr,
    certificates: Certificates,
) -> io::Result<mpsc::Receiver<io::Result<TlsStream<TcpStream>>>> {
    let listener = TcpListener::bind(address).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(accept(listener, certificates, sender));
    Ok(receiver)
}

async fn accept(
    listener: TcpListener,
    certificates: Certificates,
    sender: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        let room = handshakes.len() < HANDSHAKES;
        tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, peer)) => {
                    let acceptor = TlsAcceptor::from(certificates.current());
                    let sender = sender.clone();
                    handshakes.spawn(handshake(stream, peer, acceptor, sender));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_done) = handshakes.join_next() => {}
        }
    }
}

async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let shaking = async {
        stream.set_nodelay(true)?;
        acceptor.accept(stream).await
    };
    match tokio::time::timeout(HANDSHAKE, shaking).await {
        // When nobody takes it any more, the process is about to end.
        Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
        Ok(Err(error)) => tracing::warn!(%peer, %error, "a connection's handshake failed"),
        Err(_) => tracing::warn!(%peer, "a connection's handshake took longer than {HANDSHAKE:?}"),
    }
}

/// Checks the name in the client's certificate; its chain was checked with the handshake.
pub fn check_peer<T>(request: &Request<T>) -> Result<(), Status> {
    let refuse = |why: String| {
        Status::permission_denied(format!(
            "the caller's certificate is not accepted: {why}; it must be of the installation's \
             CA and name {NAME}"
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ClientConfig;
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsConnector;

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A CA and a certificate by it, as the files of one end.
    fn files() -> Files {
        issued(&authority(), 4_000)
    }

    /// The same by a CA that is there, up to the end of a year.
    fn issued(ca: &CertifiedIssuer<'_, KeyPair>, until: i32) -> Files {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        leaf.not_after = rcgen::date_time_ymd(until, 12, 31);
        let leaf = leaf.signed_by(&key, ca).unwrap();
        Files {
            ca: ca.as_ref().pem().into_bytes(),
            certificate: leaf.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }

    fn put(directory: &Path, files: &Files) {
        for (name, content) in [
            ("ca.crt", &files.ca),
            ("tls.crt", &files.certificate),
            ("tls.key", &files.key),
        ] {
            std::fs::write(directory.join(name), content).unwrap();
        }
    }

    /// Connects as the other end with these files would; the error is the handshake's.
    async fn connect(address: SocketAddr, files: &Files) -> io::Result<()> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&files.ca).unwrap())
            .unwrap();
        let own = CertificateDer::from_pem_slice(&files.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&files.key).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], key)
            .unwrap();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        // With TLS 1.3 a refusal of the client's certificate comes with the first read.
        stream.read_exact(&mut [0; 1]).await.map(drop)
    }

    /// Serves one byte to whoever gets in.
    async fn serve(directory: &Path) -> SocketAddr {
        use tokio::io::AsyncWriteExt;
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        let certificates = Certificates::new(directory).unwrap();
        let mut accepted = listen(port, certificates).await.unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Some(Ok(mut stream)) = accepted.recv().await {
                stream.write_all(b"x").await.unwrap();
                open.push(stream);
            }
        });
        port
    }

    fn directory(name: &str) -> PathBuf {
        let name = format!("transport-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[tokio::test]
    async fn a_certificate_that_has_expired_is_refused_on_either_end() {
        let directory = directory("expired");
        let ca = authority();
        let (good, expired) = (issued(&ca, 4_000), issued(&ca, 2_020));
        put(&directory, &good);
        let address = serve(&directory).await;
        connect(address, &good).await.unwrap();
        let refused = connect(address, &expired).await.unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("expired"), "{refused}");
        put(&directory, &expired);
        let refused = connect(address, &good).await.unwrap_err().to_string();
        assert!(refused.contains("certificate expired"), "{refused}");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn a_rotated_certificate_is_used_by_the_next_connection() {
        let directory = directory("rotated");
        let (old, new) = (files(), files());
        put(&directory, &old);
        let port = serve(&directory).await;
        connect(port, &old).await.unwrap();
        assert!(connect(port, &new).await.is_err(), "of another CA");
        put(&directory, &new);
        connect(port, &new).await.unwrap();
        assert!(connect(port, &old).await.is_err(), "of the old CA");
        // Half replaced, or worse: the last good ones stay in use.
        std::fs::write(directory.join("tls.key"), "no key").unwrap();
        connect(port, &new).await.unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
