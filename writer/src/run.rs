//! The loop: connect, claim, follow; after an error wait and begin again, for ever.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use change::Frame;
use model::{HaltedAt, LinkConfig};
use mysql::foreign_keys::ActingKey;
use mysql::session::{Program, SessionOptions};
use process::Health;
use tokio_util::sync::CancellationToken;

use crate::alone::{Against, Alone};
use crate::apply::Applier;
use crate::backoff::Backoff;
use crate::cascades::Cascades;
use crate::claim;
use crate::ddl::intent::forget_intents_before;
use crate::error::{Class, WriterError};
use crate::follow::Follower;
use crate::options::read_credentials;
use crate::skip;
use crate::status::Status;
use crate::stream::{self, Stream, Syncer};
use crate::target::session::Target;

/// What a session leaves to the next one.
#[derive(Debug, Default)]
struct Left {
    /// It settled something.
    progressed: bool,
    /// The transaction that it halted at, if it is one.
    halted_at: Option<HaltedAt>,
    /// For which foreign keys, that differ between the two ends, it or one before ended.
    differ: BTreeSet<ActingKey>,
}

/// A writer and what it needs.
pub struct Writer {
    /// The link.
    pub config: LinkConfig,
    /// Directory of the account.
    pub credentials: PathBuf,
    /// Directory of the certificate.
    pub tls: PathBuf,
    /// `host:port` of the syncer.
    pub syncer: String,
    /// What is told of it.
    pub status: Status,
    /// Whether it is ready.
    pub health: Health,
    /// Ends it.
    pub shutdown: CancellationToken,
}

impl Writer {
    /// Runs until shut down.
    pub async fn run(self) {
        let name = uuid::Uuid::new_v4().to_string();
        let config = Arc::new(self.config.clone());
        let mut backoff = Backoff::default();
        let mut careful = false;
        let mut halted_at = None;
        let mut differ = BTreeSet::new();
        while !self.shutdown.is_cancelled() {
            let mut left = Left {
                differ,
                ..Left::default()
            };
            let session = self.session(&config, &name, careful, halted_at.as_ref(), &mut left);
            let outcome = Box::pin(session).await;
            if left.progressed {
                backoff.reset();
            }
            (halted_at, differ) = (left.halted_at, left.differ);
            let Err(error) = outcome else { break };
            if matches!(error, WriterError::CopiesAnew { .. }) {
                tracing::info!("{error}");
                careful = false;
                continue;
            }
            self.status.stopped_at(&error, halted_at.as_ref());
            if matches!(error, WriterError::Session(_) | WriterError::Target { .. }) {
                self.health.set_not_ready(error.to_string());
            }
            careful = error.class() == Class::Halt;
            let pause = backoff.next(error.class());
            let category = error.category();
            if careful {
                tracing::error!(category, %error, retry_in = ?pause, "the link is halted");
            } else {
                tracing::warn!(category, %error, retry_in = ?pause, "beginning again");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }

    /// One session with the target and the syncer, until an error or the end. `halted_at` is what the
    /// one before it halted at.
    async fn session(
        &self,
        config: &Arc<LinkConfig>,
        name: &str,
        careful: bool,
        halted_at: Option<&HaltedAt>,
        left: &mut Left,
    ) -> Result<(), WriterError> {
        let credentials = read_credentials(&self.credentials)?;
        let options = SessionOptions::new(&config.target.endpoint, &credentials, Program::Writer)?;
        let alone = Alone::prepare(config, &options, &self.status).await?;
        let mut target = Target::connect(&options, &config.source.idc).await?;
        // Ready before the lock: while a pod is replaced, the new one must count as ready for the
        // old one to be ended.
        self.health.set_ready();
        let checkpoint = claim::claim(&mut target, config, name).await?;
        self.status.resume(&checkpoint);
        if let Some(position) = &checkpoint.position {
            forget_intents_before(&mut target, &config.link, position).await?;
        }
        skip::forget_passed(&mut target, &config.link, checkpoint.position.as_ref()).await?;
        let wish = match halted_at {
            Some(at) if at.skippable => skip::find(&mut target, &config.link, &at.gtid).await?,
            _ => None,
        };
        let tables = claim::tables(&mut target, config, &checkpoint).await?;
        let request = stream::request(config, &checkpoint, &tables);
        let status = self.status.clone();
        let on_receive = move |frames: &[Frame]| note_received(&status, frames);
        let mut syncer = Syncer::connect(&self.syncer, &self.tls).await?;
        let against = match alone {
            Some(alone) => {
                alone
                    .compare(
                        config,
                        &options,
                        &mut syncer,
                        &self.status,
                        Some(&checkpoint),
                    )
                    .await?;
                let at = (self.syncer.clone(), self.tls.clone());
                let (config, status) = (Arc::clone(config), self.status.clone());
                Some(Against::start(config, options.clone(), at, status))
            }
            None => None,
        };
        let stream = Stream::open(syncer, request, on_receive).await?;
        tracing::info!(
            engine = ?target.engine(),
            position = %checkpoint.position.as_ref().map(ToString::to_string).unwrap_or_default(),
            "connected to target and syncer"
        );
        let mut applier = Applier::new(
            target,
            options,
            Arc::clone(config),
            self.status.clone(),
            checkpoint,
            careful,
        )?;
        applier.wish = wish;
        let cascades = Cascades::new(&mut left.differ);
        let progressed = &mut left.progressed;
        let shutdown = self.shutdown.clone();
        let mut follower = Follower::new(applier, stream, shutdown, cascades, progressed);
        follower.against = against;
        let outcome = follower.follow().await;
        left.halted_at = follower.halted_at();
        follower.close().await;
        outcome
    }
}

fn note_received(status: &Status, frames: &[Frame]) {
    for frame in frames {
        match frame {
            Frame::Transaction(transaction) => status.received(
                transaction.position.as_ref(),
                transaction.change_count() + transaction.filtered,
            ),
            Frame::Progress(progress) => {
                status.received(Some(&progress.position), progress.filtered);
            }
            Frame::SnapshotBegin(_)
            | Frame::SnapshotChunk(_)
            | Frame::SnapshotEnd
            | Frame::Halt(_) => {}
        }
    }
}
