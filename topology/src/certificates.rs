//! The certificates with which etcd is reached: files of a mounted Secret, which are renewed while
//! processes run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::TopologyError;

/// How often the files are read. A mounted Secret takes a minute or two to change anyway.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A keep-alive must not wait for a disk for longer than this.
const PATIENCE: Duration = Duration::from_millis(300);

/// The three files as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    async fn read(folder: &Path) -> Result<Self, TopologyError> {
        let read = async |name: &str| {
            let path = folder.join(name);
            tokio::fs::read(&path)
                .await
                .map_err(|error| TopologyError::Options {
                    option: "tls",
                    cause: format!("{} cannot be read: {error}", path.display()),
                })
        };
        Ok(Self {
            ca: read("ca.crt").await?,
            certificate: read("tls.crt").await?,
            key: read("tls.key").await?,
        })
    }

    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key))
    }
}

/// Looks now and then whether the files have changed.
#[derive(Debug)]
pub(crate) struct Renewal {
    state: Mutex<Turn>,
}

/// What is known of the files, held by whoever looks.
#[derive(Debug)]
pub(crate) struct Turn {
    folder: PathBuf,
    used: Files,
    /// Those that could not be used; they are not tried again.
    unfit: Option<Files>,
    /// What was said last of files that cannot be read.
    complaint: String,
    look_at: Instant,
}

impl Renewal {
    /// Reads them for the first time.
    pub(crate) async fn begin(folder: &Path) -> Result<Self, TopologyError> {
        Ok(Self {
            state: Mutex::new(Turn {
                folder: folder.to_owned(),
                used: Files::read(folder).await?,
                unfit: None,
                complaint: String::new(),
                look_at: Instant::now() + LOOK_EVERY,
            }),
        })
    }

    /// Those in use.
    pub(crate) async fn files(&self) -> Files {
        self.state.lock().await.used.clone()
    }

    /// `None` while it is not time to look yet, or somebody else does.
    pub(crate) fn turn(&self) -> Option<MutexGuard<'_, Turn>> {
        let turn = self.state.try_lock().ok()?;
        (Instant::now() >= turn.look_at).then_some(turn)
    }
}

impl Turn {
    /// The files, if they are others than those in use, and were not found unfit.
    pub(crate) async fn changed(&mut self) -> Option<Files> {
        self.look_at = Instant::now() + LOOK_EVERY;
        let read = tokio::time::timeout(PATIENCE, Files::read(&self.folder)).await;
        let read = match read {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "{} was not read within {PATIENCE:?}",
                self.folder.display()
            )),
        };
        let files = match read {
            Ok(files) => files,
            Err(complaint) => {
                if complaint != self.complaint {
                    tracing::warn!(complaint, "etcd's last good certificates stay in use");
                    self.complaint = complaint;
                }
                return None;
            }
        };
        self.complaint.clear();
        (files != self.used && Some(&files) != self.unfit.as_ref()).then_some(files)
    }

    /// They are in use now.
    pub(crate) fn took(&mut self, files: Files) {
        tracing::info!(folder = %self.folder.display(), "took up other certificates for etcd");
        self.used = files;
        self.unfit = None;
    }

    /// They cannot be used.
    pub(crate) fn refused(&mut self, files: Files, error: &TopologyError) {
        tracing::warn!(%error, "etcd's last good certificates stay in use");
        self.unfit = Some(files);
    }
}
