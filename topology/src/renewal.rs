//! One keep-alive of a session's lease, and the record of it that other IDCs see.

use etcd_client::{Client, Compare, CompareOp, Error, Txn, TxnOp, TxnOpResponse};
use model::{EtcdMark, Generation, LeaseId, RenewalRecord, Revision, SessionRecord};

use crate::read::mark_of;
use crate::{Session, Topology};

/// Whose the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Its key is the one that this process wrote.
    This,
    /// Another process claimed it after this one; or it cannot be told, which counts as that.
    Later,
    /// The key is of an earlier generation, or of this one in another history: etcd was put back.
    Earlier,
    /// Nobody holds it.
    Nobody,
}

/// What a renewal's transaction came to.
pub(crate) struct Answered {
    pub owner: Owner,
    pub mark: EtcdMark,
    pub recorded: bool,
}

impl Topology {
    /// Records that a session is kept alive, if its key is still the one that this process wrote.
    ///
    /// An etcd without room refuses every write, and nobody can take over from anybody in it; what
    /// is held there may be held on, unseen. Reads tell as much as this process needs.
    pub(crate) async fn record(
        &self,
        mut client: Client,
        session: &Session,
    ) -> Result<Answered, Error> {
        let owner = self.keys().session(&session.idc).to_string();
        let read = || TxnOp::get(owner.as_str(), None);
        let record = self.keys().renewal(&session.idc);
        let renewal = RenewalRecord {
            granted_millis: session.granted_millis,
        };
        let json = serde_json::to_vec(&renewal)
            .map_err(|error| Error::LeaseKeepAliveError(error.to_string()))?;
        let ours = Compare::mod_revision(owner.as_str(), CompareOp::Equal, session.revision.0);
        let writing = Txn::new()
            .when([ours])
            .and_then([TxnOp::put(record.as_str(), json, None)])
            .or_else([read()]);
        let (answer, recorded) = match client.txn(writing).await {
            Ok(answer) => (answer, true),
            Err(error) if has_no_room(&error) => {
                (client.txn(Txn::new().and_then([read()])).await?, false)
            }
            Err(error) => return Err(error),
        };
        let mark = answer
            .header()
            .map(mark_of)
            .ok_or_else(|| Error::LeaseKeepAliveError("an answer without a header".to_owned()))?;
        let seen = answer.op_responses().into_iter().find_map(|response| {
            let TxnOpResponse::Get(get) = response else {
                return None;
            };
            let pair = get.kvs().first()?;
            Some((Revision(pair.mod_revision()), generation_of(pair.value())))
        });
        let owner = match seen {
            _ if recorded && answer.succeeded() => Owner::This,
            None => Owner::Nobody,
            Some((revision, _)) if revision == session.revision => Owner::This,
            // Generations only ever grow.
            Some((_, Some(generation))) if generation <= session.generation => Owner::Earlier,
            Some(_) => Owner::Later,
        };
        Ok(Answered {
            owner,
            mark,
            recorded,
        })
    }
}

fn generation_of(record: &[u8]) -> Option<Generation> {
    let record: SessionRecord = serde_json::from_slice(record).ok()?;
    Some(record.generation)
}

/// etcd's own word for it: `ErrGRPCNoSpace` in etcd's `api/v3rpc/rpctypes`.
fn has_no_room(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.message().contains("database space exceeded"))
}

/// Sends one keep-alive; answers with the granted lease time in milliseconds, `None` if the lease
/// is gone (etcd says so with a lease time of 0).
pub(crate) async fn keep_alive_once(
    mut client: Client,
    lease: LeaseId,
) -> Result<Option<u64>, Error> {
    // The client library sends a first keep-alive with the opening of the stream and hides the
    // lease time in its answer, so a second one asks for that.
    let (mut keeper, mut answers) = match client.lease_keep_alive(lease.0).await {
        Ok(stream) => stream,
        Err(Error::LeaseKeepAliveError(text)) if text.contains("not found") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    keeper.keep_alive().await?;
    match answers.message().await? {
        Some(answer) => Ok(u64::try_from(answer.ttl())
            .ok()
            .filter(|ttl| *ttl > 0)
            .map(|ttl| ttl * 1_000)),
        // A stream that ends without an answer is no statement about the lease.
        None => Err(Error::LeaseKeepAliveError("the stream ended".to_owned())),
    }
}
