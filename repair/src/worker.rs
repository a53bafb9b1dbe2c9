//! The loop around a run: it begins again where it was after everything that passes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{LinkConfig, RepairConfig, RepairMode, RepairPhase};
use mysql::session::{Program, SessionOptions};
use mysql_async::prelude::Queryable as _;
use process::Health;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use writer::rebuild::wishes;

use crate::error::RepairError;
use crate::record;
use crate::run::{Run, state};
use crate::status::Status;
use crate::still::Ends;
use crate::to_hex;

/// How long to wait after an error that passes; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long another process of the same link may take to let go.
const LOCK_SECONDS: u64 = 5;

/// Carries one run out.
pub struct Worker {
    /// The link.
    pub link: LinkConfig,
    /// What to verify.
    pub config: RepairConfig,
    /// The source's account, as mounted files.
    pub source: PathBuf,
    /// The target's.
    pub target: PathBuf,
    /// What is told.
    pub status: Status,
    /// What the endpoints answer.
    pub health: Health,
    /// When the process shall end.
    pub shutdown: CancellationToken,
}

impl Worker {
    /// Runs until the run is over or the process shall end. What it has come to is in the status.
    pub async fn run(&self) {
        let mut pause = PAUSE;
        while !self.shutdown.is_cancelled() {
            let begun = Instant::now();
            let error = match self.once().await {
                Ok(()) => return,
                Err(error) => error,
            };
            if !error.passes() {
                tracing::error!(%error, "the run must not go on");
                self.take_back().await;
                self.status.tell(RepairPhase::Refused, error.to_string());
                return;
            }
            if begun.elapsed() > LONGEST_PAUSE {
                pause = PAUSE;
            }
            tracing::warn!(%error, "the run goes on in a moment");
            let phase = self.status.get().phase;
            self.status.tell(phase, error.to_string());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes back what a run that must not go on has asked the link to copy anew. What it does not
    /// reach counts for nothing once the run has been silent for a minute.
    async fn take_back(&self) {
        if self.config.mode != RepairMode::Rebuild {
            return;
        }
        let taken = async {
            let target = options(&self.link.target.endpoint, &self.target)?;
            let mut session = target.connect().await?;
            let (link, run) = (&self.link.link, &self.config.run);
            let doing = "writing to multiactive.rebuilds at the target";
            wishes::take_back(&mut session.conn, link, run)
                .await
                .map_err(|error| RepairError::driver(doing, None, error))
        };
        if let Err(error) = taken.await {
            tracing::warn!(%error, "what the run has asked for was not taken back");
        }
    }

    async fn once(&self) -> Result<(), RepairError> {
        let source = options(&self.link.source.endpoint, &self.source)?;
        let target = options(&self.link.target.endpoint, &self.target)?;
        let mut ends = Ends::connect(&source, &target, &self.link).await?;
        self.lock(&mut ends).await?;
        let state = state(&mut ends, &self.link, &self.config).await?;
        self.health.set_ready();
        let undoes = self.config.mode == RepairMode::Undo;
        if state.phase.is_over() && !undoes {
            self.status.publish(&state);
            return Ok(());
        }
        let mut run = Run {
            link: &self.link,
            config: &self.config,
            ends,
            state,
            status: &self.status,
            shutdown: &self.shutdown,
            found: Vec::new(),
            looked_at_load: None,
            kept: Instant::now(),
        };
        run.state.session = run.ends.writer.conn().id();
        run.state.phase = RepairPhase::Running;
        run.state.message.clear();
        run.keep().await?;
        let outcome = match self.config.mode {
            RepairMode::Undo => run.undo().await?,
            RepairMode::Rebuild => run.copy_anew().await.map_err(RepairError::of_copies)?,
            RepairMode::Verify | RepairMode::Repair => run.compare().await?,
        };
        if let Some(phase) = outcome {
            run.state.phase = phase;
            run.keep().await?;
            tracing::info!(?phase, report = ?run.state.report.total(), "the run is over");
        }
        Ok(())
    }

    /// Takes the lock that only one process holds for a link; it ends with the session that writes.
    async fn lock(&self, ends: &mut Ends) -> Result<(), RepairError> {
        let digest = Sha256::digest(self.link.link.to_string().as_bytes());
        let hex = to_hex(&digest[..20]);
        // Lock names have at most 64 characters.
        let name = format!("multiactive.repair.{hex}");
        let doing = "taking the lock of the link's repair at the target";
        let taken: Option<Option<u64>> = ends
            .writer
            .conn()
            .exec_first("SELECT GET_LOCK(?, ?)", (&name, LOCK_SECONDS))
            .await
            .map_err(|error| RepairError::driver(doing, None, error))?;
        if taken.flatten() == Some(1) {
            return Ok(());
        }
        let doing = "asking who has the lock of the link's repair at the target";
        let session: Option<Option<u32>> = ends
            .writer
            .conn()
            .exec_first("SELECT IS_USED_LOCK(?)", (&name,))
            .await
            .map_err(|error| RepairError::driver(doing, None, error))?;
        let link = self.link.link.to_string();
        let holder = match session.flatten() {
            Some(session) => record::of_session(ends.writer.conn(), &link, session).await?,
            None => None,
        };
        Err(RepairError::Busy { link, holder })
    }
}

fn options(endpoint: &model::Endpoint, directory: &Path) -> Result<SessionOptions, RepairError> {
    let credentials = writer::options::read_credentials(directory)?;
    Ok(SessionOptions::new(
        endpoint,
        &credentials,
        Program::Repair,
    )?)
}
