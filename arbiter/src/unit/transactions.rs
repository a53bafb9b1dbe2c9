//! The core's transactions: sent to etcd, each in a task of its own, and what became of them.

use arbitration::{Event, Moment, Outcome, Purpose, Transaction};
use topology::CommitError;

use super::Unit;
use crate::translate;

impl Unit {
    /// Sends a transaction. Its end arrives by [`Self::take_outcome`].
    pub(super) fn commit(&mut self, transaction: &Transaction) {
        let keys = self.shared.topology.keys();
        let spelled = translate::transaction(keys, &self.key, &self.shared.idc, transaction);
        let topology = self.shared.topology.clone();
        let metrics = self.shared.metrics.clone();
        let (id, purpose, unit) = (transaction.id, transaction.purpose, self.key.clone());
        self.transactions.spawn(async move {
            let outcome = match topology.commit(spelled).await {
                Ok(revision) => Outcome::Done(revision),
                Err(CommitError::Lost { .. }) => Outcome::Lost,
                Err(CommitError::Unknown(error)) => {
                    metrics.etcd_error(&error);
                    tracing::warn!(%unit, %error, "nobody knows whether the transaction took effect");
                    Outcome::Unknown
                }
            };
            (id, purpose, outcome)
        });
    }

    /// What the database remembers of etcd is compared with an answer of etcd, and the next
    /// keep-alive is up to a second away: too long for a member that is open and whose guard of
    /// before runs out.
    pub(super) fn ask_etcd(&mut self) {
        self.compared = true;
        let topology = self.shared.topology.clone();
        self.asking.spawn(async move {
            // Without an answer the next keep-alive says it.
            let (sent_at, mark) = topology.mark().await.ok().flatten()?;
            let sent_at = Moment(sent_at);
            Some(Event::EtcdSeen { sent_at, mark })
        });
    }

    /// What the core is told of a transaction that has ended.
    pub(super) fn take_outcome(
        &mut self,
        done: Result<(u64, Purpose, Outcome), tokio::task::JoinError>,
    ) -> Option<Event> {
        match done {
            Ok((id, purpose, outcome)) => {
                self.shared.metrics.transaction(purpose, outcome);
                let (unit, purpose) = (&self.key, purpose.as_str());
                match outcome {
                    Outcome::Done(revision) => {
                        tracing::info!(%unit, purpose, revision = revision.0, "done in etcd");
                    }
                    Outcome::Lost => {
                        tracing::info!(%unit, purpose, "somebody else changed etcd first");
                    }
                    Outcome::Unknown => {}
                }
                Some(Event::Committed { id, outcome })
            }
            Err(error) => {
                tracing::error!(unit = %self.key, %error, "a transaction's task ended badly");
                None
            }
        }
    }
}
