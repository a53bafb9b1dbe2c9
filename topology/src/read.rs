//! Reads: one Unit as of one revision, lists of documents, receipts.

use std::collections::BTreeMap;

use etcd_client::{
    GetOptions, KeyValue, ResponseHeader, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use model::{
    ClusterId, Epoch, EtcdMark, IdcDoc, IdcName, Receipt, Revision, SessionRecord, UnitDoc,
    UnitKey, UnitState, Versioned,
};
use serde::de::DeserializeOwned;

use crate::clock::boot_time_millis;
use crate::state::{TopologyState, parse};
use crate::{Key, Topology, TopologyError};

/// Keys a page: with documents of about a kilobyte this stays far below gRPC's 4 MiB.
const PAGE: i64 = 500;

impl Topology {
    /// One document.
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: &Key<T>,
        what: &'static str,
    ) -> Result<Option<Versioned<T>>, TopologyError> {
        let doing = format!("read {key}");
        let answer = self
            .read(&doing, |mut client| async move {
                client.get(key.as_str(), None).await
            })
            .await?;
        answer
            .kvs()
            .first()
            .map(|pair| parse(pair, what))
            .transpose()
    }

    /// Everything about one Unit, all of it as of one revision. Empty if etcd does not know it.
    pub async fn unit_state(&self, unit: &UnitKey) -> Result<UnitState, TopologyError> {
        let keys = self.keys();
        let prefix = || Some(GetOptions::new().with_prefix());
        let newest = || {
            Some(
                GetOptions::new()
                    .with_prefix()
                    .with_sort(SortTarget::Key, SortOrder::Descend)
                    .with_limit(1),
            )
        };
        let reads = [
            (keys.unit(unit).to_string(), None),
            (keys.epoch(unit).to_string(), None),
            (keys.primary(unit).to_string(), None),
            (keys.vacated(unit).to_string(), None),
            (keys.intent(unit).to_string(), None),
            (keys.ack(unit).to_string(), None),
            (keys.pause_order(unit).to_string(), None),
            (keys.fence_orders(unit), prefix()),
            (keys.members(unit), prefix()),
            (keys.votes(unit), prefix()),
            (keys.bids(unit), prefix()),
            (keys.histories(unit), newest()),
            (keys.sessions(), prefix()),
            (keys.renewals(), prefix()),
            (keys.idcs(), prefix()),
        ];
        let doing = format!("read unit {unit}");
        let answer = self
            .read(&doing, |mut client| {
                let gets = reads.clone().map(|(key, options)| TxnOp::get(key, options));
                async move { client.txn(Txn::new().and_then(gets)).await }
            })
            .await?;
        let mut state = TopologyState {
            revision: Revision(answer.header().map_or(0, ResponseHeader::revision)),
            cluster: answer.header().map(|header| mark_of(header).cluster),
            ..TopologyState::default()
        };
        for response in answer.op_responses() {
            if let TxnOpResponse::Get(get) = response {
                for pair in get.kvs() {
                    state.take(keys, pair, false)?;
                }
            }
        }
        Ok(state.unit(unit))
    }

    /// Every Unit that is published.
    pub async fn units(&self) -> Result<BTreeMap<UnitKey, Versioned<UnitDoc>>, TopologyError> {
        let prefix = self.keys().units();
        self.documents(&prefix, "Unit document").await
    }

    /// Every IDC that is published.
    pub async fn idcs(&self) -> Result<BTreeMap<IdcName, Versioned<IdcDoc>>, TopologyError> {
        let prefix = self.keys().idcs();
        self.documents(&prefix, "IDC document").await
    }

    /// The arbiters that have a session now.
    pub async fn sessions(
        &self,
    ) -> Result<BTreeMap<IdcName, Versioned<SessionRecord>>, TopologyError> {
        let prefix = self.keys().sessions();
        self.documents(&prefix, "session").await
    }

    /// The receipts of a Unit, the newest first, at most so many.
    pub async fn history(
        &self,
        unit: &UnitKey,
        at_most: u32,
    ) -> Result<Vec<Receipt>, TopologyError> {
        let prefix = self.keys().histories(unit);
        let doing = format!("read the history of {unit}");
        let answer = self
            .read(&doing, |mut client| {
                let options = GetOptions::new()
                    .with_prefix()
                    .with_sort(SortTarget::Key, SortOrder::Descend)
                    .with_limit(i64::from(at_most));
                let prefix = prefix.as_str();
                async move { client.get(prefix, Some(options)).await }
            })
            .await?;
        answer
            .kvs()
            .iter()
            .map(|pair| Ok(parse(pair, "receipt")?.value))
            .collect()
    }

    /// The receipt of one epoch.
    pub async fn receipt(
        &self,
        unit: &UnitKey,
        epoch: Epoch,
    ) -> Result<Option<Receipt>, TopologyError> {
        let key = self.keys().history(unit, epoch);
        Ok(self.get(&key, "receipt").await?.map(|found| found.value))
    }

    /// The state of everything, as of one revision.
    pub async fn state(&self) -> Result<TopologyState, TopologyError> {
        let (state, problems) = self.list_state().await?;
        problems.into_iter().next().map_or(Ok(state), Err)
    }

    /// As [`Self::state`], but a document that cannot be read is left out and told beside.
    pub(crate) async fn list_state(
        &self,
    ) -> Result<(TopologyState, Vec<TopologyError>), TopologyError> {
        let (revision, cluster, pairs) = self.range(self.keys().prefix()).await?;
        let mut state = TopologyState {
            revision,
            cluster,
            ..TopologyState::default()
        };
        let mut problems = Vec::new();
        for pair in &pairs {
            if let Err(problem) = state.take(self.keys(), pair, false) {
                problems.push(problem);
            }
        }
        Ok((state, problems))
    }

    async fn documents<K: std::str::FromStr + Ord, T: DeserializeOwned>(
        &self,
        prefix: &str,
        what: &'static str,
    ) -> Result<BTreeMap<K, Versioned<T>>, TopologyError> {
        let (_, _, pairs) = self.range(prefix).await?;
        let mut found = BTreeMap::new();
        for pair in &pairs {
            let key = String::from_utf8_lossy(pair.key());
            if let Some(name) = key.strip_prefix(prefix).and_then(|rest| rest.parse().ok()) {
                found.insert(name, parse(pair, what)?);
            }
        }
        Ok(found)
    }

    /// How far etcd is, by a linearizable answer, and when it was asked, in milliseconds of the boot
    /// clock. `None` where etcd does not say which cluster it is.
    ///
    /// # Errors
    /// [`TopologyError::Unknown`] if etcd does not answer.
    pub async fn mark(&self) -> Result<Option<(u64, EtcdMark)>, TopologyError> {
        let sent_at = boot_time_millis();
        let prefix = self.keys().prefix();
        // What is there does not matter: the header says it.
        let answer = self
            .read("ask how far etcd is", |mut client| async move {
                client.get(prefix, None).await
            })
            .await?;
        Ok(answer.header().map(|header| (sent_at, mark_of(header))))
    }

    /// Every key that begins with this, page by page, all of them as of one revision.
    async fn range(
        &self,
        prefix: &str,
    ) -> Result<(Revision, Option<ClusterId>, Vec<KeyValue>), TopologyError> {
        let doing = format!("list {prefix}");
        let end = GetOptions::new().with_prefix();
        let mut pairs: Vec<KeyValue> = Vec::new();
        let mut revision = 0;
        let mut of = None;
        loop {
            let start = pairs
                .last()
                .map_or_else(|| prefix.as_bytes().to_vec(), following);
            let first = pairs.is_empty();
            let mut answer = self
                .read(&doing, |mut client| {
                    let options = if first {
                        end.clone()
                    } else {
                        GetOptions::new().with_range(range_end(prefix))
                    };
                    let options = options.with_limit(PAGE).with_revision(revision);
                    let start = start.as_slice();
                    async move { client.get(start, Some(options)).await }
                })
                .await?;
            if revision == 0 {
                revision = answer.header().map_or(0, ResponseHeader::revision);
                of = answer.header().map(|header| mark_of(header).cluster);
            }
            let more = answer.more();
            let page = answer.take_kvs();
            let empty = page.is_empty();
            pairs.extend(page);
            if !more || empty {
                return Ok((Revision(revision), of, pairs));
            }
        }
    }
}

/// Which etcd an answer is of, and how far it was.
pub(crate) fn mark_of(header: &ResponseHeader) -> EtcdMark {
    EtcdMark {
        cluster: ClusterId(header.cluster_id()),
        revision: Revision(header.revision()),
    }
}

/// The first key after this one.
fn following(pair: &KeyValue) -> Vec<u8> {
    let mut key = pair.key().to_vec();
    key.push(0);
    key
}

/// The first key that does not begin with the prefix any more. Prefixes of ours end with `/`.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
