//! Transactions that compare revisions and leases, and put and delete documents.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use model::{LeaseId, Revision};
use serde::Serialize;

use crate::{CommitError, Key, Topology, TopologyError};

/// A transaction under construction. Everything in it happens at one revision, or nothing does.
#[derive(Debug)]
pub struct Transaction {
    doing: String,
    compares: Vec<Compare>,
    operations: Vec<TxnOp>,
    broken: Option<TopologyError>,
}

impl Transaction {
    /// An empty transaction; `doing` says what it is for, as in `take primary of shop/orders`.
    pub fn new(doing: impl Into<String>) -> Self {
        Self {
            doing: doing.into(),
            compares: Vec::new(),
            operations: Vec::new(),
            broken: None,
        }
    }

    /// Only if the key was last written at this revision; [`Revision::ABSENT`]: only if there is
    /// no such key.
    #[must_use]
    pub fn if_revision<T>(mut self, key: &Key<T>, revision: Revision) -> Self {
        self.compares.push(Compare::mod_revision(
            key.as_str(),
            CompareOp::Equal,
            revision.0,
        ));
        self
    }

    /// Only if the key is bound to this lease.
    #[must_use]
    pub fn if_lease<T>(mut self, key: &Key<T>, lease: LeaseId) -> Self {
        self.compares
            .push(Compare::lease(key.as_str(), CompareOp::Equal, lease.0));
        self
    }

    /// Puts a document, bound to a lease if one is given.
    #[must_use]
    pub fn put<T: Serialize>(mut self, key: &Key<T>, value: &T, lease: Option<LeaseId>) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                self.operations
                    .push(TxnOp::put(key.as_str(), json, options));
            }
            Err(error) => {
                self.broken = Some(TopologyError::Document {
                    key: key.to_string(),
                    what: "document",
                    cause: error.to_string(),
                });
            }
        }
        self
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete<T>(mut self, key: &Key<T>) -> Self {
        self.operations.push(TxnOp::delete(key.as_str(), None));
        self
    }

    /// Puts a document that is there, deletes the key of one that is not.
    #[must_use]
    pub(crate) fn set<T: Serialize>(self, key: &Key<T>, value: Option<&T>) -> Self {
        match value {
            Some(value) => self.put(key, value, None),
            None => self.delete(key),
        }
    }

    /// Deletes every key that begins with this.
    #[must_use]
    pub(crate) fn delete_prefix(mut self, prefix: &str) -> Self {
        let options = etcd_client::DeleteOptions::new().with_prefix();
        self.operations.push(TxnOp::delete(prefix, Some(options)));
        self
    }
}

impl Topology {
    /// Sends a transaction, once. Answers with the revision that it made.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if a comparison failed and nothing was changed;
    /// [`CommitError::Unknown`] if no answer came: it may have taken effect, or may yet.
    pub async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        let Transaction {
            doing,
            compares,
            operations,
            broken,
        } = transaction;
        if let Some(error) = broken {
            return Err(error.into());
        }
        let txn = Txn::new().when(compares).and_then(operations);
        let answer = self
            .once(&doing, |mut client| async move { client.txn(txn).await })
            .await?;
        if !answer.succeeded() {
            return Err(CommitError::Lost { doing });
        }
        let Some(header) = answer.header() else {
            return Err(CommitError::Unknown(TopologyError::Unknown {
                doing,
                endpoint: "etcd".to_owned(),
                cause: "an answer without a header".to_owned(),
            }));
        };
        Ok(Revision(header.revision()))
    }
}
