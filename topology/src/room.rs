//! Whether etcd has room left. At its quota it refuses every write, so that nobody can be elected,
//! and says so nowhere before.

use etcd_client::{AlarmAction, AlarmType};

use crate::client::describe;
use crate::{Topology, TopologyError};

/// From this share of the quota on, people are told: in percent.
const MUCH: i64 = 80;
/// What etcd takes for a quota of 0: `--quota-backend-bytes` in etcd's configuration options.
const DEFAULT_QUOTA: i64 = 2 * 1024 * 1024 * 1024;

/// What etcd says of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is enough.
    Enough,
    /// Little is left.
    Little {
        /// What the database file takes, in bytes; it shrinks by defragmentation only.
        size: i64,
        /// The quota, in bytes.
        quota: i64,
    },
    /// The quota was reached, and writes are refused until somebody disarms the alarm.
    None,
}

impl Room {
    fn of(size: i64, quota: i64, alarm: bool) -> Self {
        let quota = if quota > 0 { quota } else { DEFAULT_QUOTA };
        if alarm {
            Self::None
        } else if size.saturating_mul(100) >= quota.saturating_mul(MUCH) {
            Self::Little { size, quota }
        } else {
            Self::Enough
        }
    }

    /// What to know and do about it, as sentences; `None` if there is enough.
    pub fn advice(self) -> Option<String> {
        const MEND: &str = "Compact it and give the room back: etcdctl compact $(etcdctl endpoint \
             status -w json | jq '.[0].Status.header.revision') and etcdctl defrag --cluster, or \
             raise --quota-backend-bytes";
        match self {
            Self::Enough => None,
            Self::Little { size, quota } => Some(format!(
                "etcd has used {} % of its quota ({} of {} MiB). At the quota it refuses every \
                 write, and no primary can be elected. {MEND}.",
                size.saturating_mul(100) / quota.max(1),
                size >> 20,
                quota >> 20,
            )),
            Self::None => Some(format!(
                "etcd has reached its quota (alarm NOSPACE) and refuses every write: a primary that \
                 is lost cannot be replaced. {MEND}; then: etcdctl alarm disarm."
            )),
        }
    }
}

impl Topology {
    /// How much room etcd has. Asks one member; their sizes differ little.
    ///
    /// # Errors
    /// No answer, or the account may not ask (with etcd's authentication only `root` may). That is
    /// no reason to leave the member, as it is for other requests.
    pub async fn room(&self) -> Result<Room, TopologyError> {
        self.renew().await;
        let (endpoint, mut client) = self.client(self.current());
        let asked = async {
            let status = client.status().await?;
            let alarms = client
                .alarm(AlarmAction::Get, AlarmType::Nospace, None)
                .await?;
            Ok((status, alarms))
        };
        let unknown = |cause: String| TopologyError::Unknown {
            doing: "ask etcd for its room".to_owned(),
            endpoint: endpoint.clone(),
            cause,
        };
        let (status, alarms) = tokio::time::timeout(self.request_timeout(), asked)
            .await
            .map_err(|_| unknown("no answer in time".to_owned()))?
            .map_err(|error| unknown(describe(&error)))?;
        let full = alarms
            .alarms()
            .iter()
            .any(|alarm| alarm.alarm() == AlarmType::Nospace);
        Ok(Room::of(status.db_size(), status.db_size_quota(), full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_before_the_quota_is_reached() {
        let quota = 100 << 20;
        assert_eq!(Room::of(79 << 20, quota, false).advice(), None);
        let told = Room::of(80 << 20, quota, false).advice().unwrap();
        assert!(told.contains("80 % of its quota (80 of 100 MiB)"), "{told}");
        let told = Room::of(1, quota, true).advice().unwrap();
        assert!(told.contains("alarm disarm"), "{told}");
        // A quota of 0 is etcd's default.
        assert_eq!(Room::of(1 << 30, 0, false), Room::Enough);
        assert!(Room::of(2 << 30, 0, false).advice().is_some());
    }
}
