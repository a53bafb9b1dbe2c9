//! Asking the source for what a third member's link does not bring.

use std::time::{Duration, Instant};

use change::Position;
use change::sync::RelayRequest;

use super::Follower;
use crate::apply::Relayed;
use crate::epoch::EpochRow;
use crate::error::{Class, WriterError};

/// The third member's own link has stood still for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a source could not hand it on it is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// While nothing comes, since the source looks for the beginning in a large log, the session shows so
/// often that it lives.
const BEAT: Duration = Duration::from_secs(15);
/// Nothing comes for so long: it is asked anew later.
const SILENCE: Duration = Duration::from_secs(300);

/// What has come of asking so far.
pub(super) struct Asked {
    next: Instant,
    /// How much of it was here last.
    had: Option<Position>,
    /// Why the source could not hand it on.
    pub(super) why_not: Option<String>,
}

impl Asked {
    pub(super) fn not_yet() -> Self {
        Self {
            next: Instant::now(),
            had: None,
            why_not: None,
        }
    }
}

impl Follower<'_> {
    /// Has the source hand on what the target lacks of a third member's, if it is time to ask; false
    /// if it is not.
    ///
    /// # Errors
    /// If a session ended or something collided; then nothing of the last transaction was applied.
    pub(super) async fn relay(
        &mut self,
        row: &EpochRow,
        of: &str,
        needs: &Position,
        asked: &mut Asked,
    ) -> Result<bool, WriterError> {
        if Instant::now() < asked.next {
            return Ok(false);
        }
        let after = match self.applier.has_of(of).await? {
            Ok(after) => after,
            Err(why) => {
                asked.next = Instant::now() + AGAIN;
                asked.why_not = Some(why);
                return Ok(true);
            }
        };
        let stands_still = asked.had.as_ref() == Some(&after);
        if !stands_still {
            asked.next = Instant::now() + PATIENCE;
            asked.had = Some(after);
            return Ok(false);
        }
        asked.next = Instant::now() + AGAIN;
        asked.why_not = match self.hand_on(row, of, needs, &after).await {
            Ok(why_not) => why_not,
            // An earlier release does not know the question.
            Err(WriterError::Syncer { reason, .. }) => Some(reason),
            // Something does not fit here. The link waits for what it lacks either way.
            Err(error) if error.class() == Class::Halt => {
                self.applier.target.roll_back().await?;
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(true)
    }

    async fn hand_on(
        &mut self,
        row: &EpochRow,
        of: &str,
        needs: &Position,
        after: &Position,
    ) -> Result<Option<String>, WriterError> {
        let request = RelayRequest {
            link: self.applier.config.link.to_string(),
            of: of.to_owned(),
            after: Some(after.into()),
            through: Some(needs.into()),
            at: self.applier.settled.position.as_ref().map(Into::into),
        };
        let mut stream = self.stream.relay(request).await?;
        let (mut count, mut silent) = (0_u64, Duration::ZERO);
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(BEAT, stream.next()) => next,
                () = self.shutdown.cancelled() => return Ok(None),
            };
            let Ok(next) = next else {
                silent += BEAT;
                if silent >= SILENCE {
                    return Ok(Some(format!("nothing came for {SILENCE:?}")));
                }
                let doing = "showing that the session lives";
                self.applier.target.execute(doing, b"DO 1").await?;
                continue;
            };
            let Some(transaction) = next? else { break };
            silent = Duration::ZERO;
            match self.applier.relayed(row, of, &transaction).await? {
                Relayed::Here => count += 1,
                Relayed::Moved => break,
                Relayed::Cannot(why) => return Ok(Some(why)),
            }
        }
        let source = &self.applier.config.source.idc;
        tracing::warn!(%of, %source, count, "transactions were handed on");
        Ok(None)
    }
}
