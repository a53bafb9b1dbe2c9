//! What can go wrong with etcd.

/// A request to etcd that failed, or an answer that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// No usable answer came. If the request was to change something, it may or may not have.
    #[error(
        "{doing}: etcd at {endpoint} did not answer as it should: {cause}. Check that this etcd member runs, has a leader and can be reached from here"
    )]
    Unknown {
        /// What was being done, for example `read unit shop/orders`.
        doing: String,
        /// The endpoint that was asked last.
        endpoint: String,
        /// What came back.
        cause: String,
    },
    /// A value that is not the document it should be.
    #[error(
        "the value of etcd key {key} is not a valid {what}: {cause}. Another version of multiactive or a person wrote it; repair or delete the key"
    )]
    Document {
        /// The key.
        key: String,
        /// The document it should be.
        what: &'static str,
        /// What the parser says.
        cause: String,
    },
    /// An option that cannot work.
    #[error("etcd option {option}: {cause}")]
    Options {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it, and what would be right.
        cause: String,
    },
}

impl TopologyError {
    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Document { .. } => "document",
            Self::Options { .. } => "options",
        }
    }
}

/// Why a transaction did not, or not certainly, take effect.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A comparison failed: somebody else acted first. Nothing was changed.
    #[error("{doing}: somebody else changed it first")]
    Lost {
        /// What was being done.
        doing: String,
    },
    /// No usable answer came: it may have taken effect, or may yet.
    #[error(transparent)]
    Unknown(#[from] TopologyError),
}
