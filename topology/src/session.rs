//! The session of an IDC: one lease, to which everything that its arbiter holds is bound.

use std::time::Duration;

use etcd_client::Error;
use model::{EtcdMark, Generation, IdcName, LeaseId, Revision, SessionRecord, Versioned};

use crate::clock::boot_time_millis;
use crate::renewal::{Owner, keep_alive_once};
use crate::{CommitError, Topology, TopologyError, Transaction};

/// An endpoint that has not answered a keep-alive within this time is joined by the next one.
const HEDGE_AFTER: Duration = Duration::from_millis(300);
/// A keep-alive that takes longer than this is tried anew: the next one may meet a new leader.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Who claims a session.
#[derive(Debug, Clone)]
pub struct SessionClaim {
    /// The IDC.
    pub idc: IdcName,
    /// A random name of the process.
    pub holder: String,
    /// `host:port` of its HTTP endpoint.
    pub address: String,
    /// `host:port` at which other arbiters ask it for promises; empty where it gives none.
    pub promises_at: String,
    /// The version of the software.
    pub version: String,
    /// The lease time to ask for. The time that counts is the one etcd grants.
    pub lease_time: Duration,
    /// The generation is to be above this one, whatever etcd remembers: a server has obeyed it.
    pub above: Generation,
}

/// A session that was claimed. It ends when its lease does or when another process claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The IDC.
    pub idc: IdcName,
    /// The lease.
    pub lease: LeaseId,
    /// The revision of the session's key: every transaction of the holder compares it.
    pub revision: Revision,
    /// How many processes have held the IDC's session, this one included.
    pub generation: Generation,
    /// The lease time that was granted, in milliseconds.
    pub granted_millis: u64,
}

/// What a keep-alive showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// The lease lived, and the session's key was ours, both at `sent_at` or later.
    Acknowledged {
        /// [`boot_time_millis`] before the request was sent.
        sent_at: u64,
        /// The lease time that etcd granted with the answer, in milliseconds.
        granted_millis: u64,
        /// How far etcd was at `sent_at` or later.
        mark: EtcdMark,
        /// It is recorded where other IDCs see it; not where etcd has no room.
        recorded: bool,
    },
    /// The lease is gone, and with it everything that was bound to it.
    Expired,
    /// Another process claimed the session. It goes on with the same lease.
    Superseded,
    /// etcd names an earlier holder of the session: it was put back to before this one.
    Forgotten {
        /// [`boot_time_millis`] before the request was sent.
        sent_at: u64,
        /// How far etcd was at `sent_at` or later.
        mark: EtcdMark,
    },
}

/// What an IDC's session looks like to a process of that IDC which does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The holder has said that it is about to end.
    pub yielded: bool,
    /// The holder has this process's name, so it was an earlier life of it.
    pub own: bool,
    /// How long its lease would last without another keep-alive, rounded up to whole seconds;
    /// zero if it is gone.
    pub left: Duration,
    /// The lease time that was granted.
    pub granted: Duration,
}

enum Attempt {
    Answer(KeepAlive),
    Failed(usize, String),
}

impl Topology {
    /// Claims an IDC's session: takes over the lease that its key names if that is alive, under
    /// the next generation, else begins with a new lease. What an earlier process of this IDC
    /// still tries to write comes to nothing from here on, as it compares the key's revision.
    ///
    /// # Errors
    /// [`CommitError::Lost`] if another process claimed it at the same time;
    /// [`CommitError::Unknown`] if no answer came. Both: try again after a while.
    pub async fn claim_session(&self, claim: &SessionClaim) -> Result<Session, CommitError> {
        let keys = self.keys();
        let (session_key, count_key) = (keys.session(&claim.idc), keys.generation(&claim.idc));
        let existing = self.get(&session_key, "session").await?;
        let count: Option<Versioned<Generation>> = self.get(&count_key, "generation").await?;
        let alive = match existing.as_ref().and_then(|session| session.lease) {
            Some(lease) => self.is_alive(lease).await?.map(|granted| (lease, granted)),
            None => None,
        };
        let (lease, granted_millis) = match alive {
            Some((lease, granted)) => {
                if let Some(advice) = other_lease_time(claim, granted) {
                    tracing::warn!("{advice}");
                }
                (lease, granted)
            }
            None => self.grant(claim.lease_time).await?,
        };
        let before = count.as_ref().map_or(Generation(0), |count| count.value);
        let generation = Generation(before.0.max(claim.above.0) + 1);
        let record = SessionRecord {
            holder: claim.holder.clone(),
            address: claim.address.clone(),
            version: claim.version.clone(),
            generation,
            yielded: false,
            promises_at: claim.promises_at.clone(),
        };
        let transaction = Transaction::new(format!("claim the session of IDC {}", claim.idc))
            .if_revision(
                &session_key,
                existing.map_or(Revision::ABSENT, |found| found.revision),
            )
            .if_revision(
                &count_key,
                count.map_or(Revision::ABSENT, |found| found.revision),
            )
            .put(&session_key, &record, Some(lease))
            .put(&count_key, &generation, None);
        let revision = self.commit(transaction).await?;
        Ok(Session {
            idc: claim.idc.clone(),
            lease,
            revision,
            generation,
            granted_millis,
        })
    }

    /// Looks at an IDC's session without claiming it, and without keeping its lease alive. `None`
    /// where nobody holds it.
    pub async fn standing(&self, claim: &SessionClaim) -> Result<Option<Standing>, TopologyError> {
        let key = self.keys().session(&claim.idc);
        let found: Option<Versioned<SessionRecord>> = self.get(&key, "session").await?;
        let Some((record, lease)) = found.and_then(|found| Some((found.value, found.lease?)))
        else {
            return Ok(None);
        };
        let doing = format!("look how long lease {lease} lasts");
        let answer = self
            .read(&doing, |mut client| {
                Box::pin(async move { client.lease_time_to_live(lease.0, None).await })
            })
            .await?;
        // etcd rounds down, and answers -1 for a lease that is gone.
        let left = u64::try_from(answer.ttl() + 1).unwrap_or_default();
        Ok(Some(Standing {
            yielded: record.yielded,
            own: record.holder == claim.holder,
            left: Duration::from_secs(left),
            granted: Duration::from_secs(u64::try_from(answer.granted_ttl()).unwrap_or_default()),
        }))
    }

    /// Says that this process is about to end, so that another one of its IDC need not wait for its
    /// silence. The lease stays, and with it everything bound to it; from here on nothing that this
    /// process writes takes effect.
    pub async fn yield_session(
        &self,
        claim: &SessionClaim,
        lease: LeaseId,
        revision: Revision,
        generation: Generation,
    ) -> Result<(), CommitError> {
        let key = self.keys().session(&claim.idc);
        let record = SessionRecord {
            holder: claim.holder.clone(),
            address: claim.address.clone(),
            version: claim.version.clone(),
            generation,
            yielded: true,
            promises_at: claim.promises_at.clone(),
        };
        let transaction = Transaction::new(format!("yield the session of IDC {}", claim.idc))
            .if_revision(&key, revision)
            .put(&key, &record, Some(lease));
        self.commit(transaction).await.map(drop)
    }

    /// The lease time that was granted, in milliseconds; `None` for a lease that is gone.
    async fn is_alive(&self, lease: LeaseId) -> Result<Option<u64>, TopologyError> {
        let doing = format!("keep lease {lease} alive");
        self.read(&doing, |client| Box::pin(keep_alive_once(client, lease)))
            .await
    }

    async fn grant(&self, time: Duration) -> Result<(LeaseId, u64), TopologyError> {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
        let answer = self
            .once("grant a lease", |mut client| async move {
                client.lease_grant(seconds, None).await
            })
            .await?;
        let granted = u64::try_from(answer.ttl()).unwrap_or_default();
        Ok((LeaseId(answer.id()), granted * 1_000))
    }

    /// Keeps a session alive once. All endpoints are asked, each a little after the one before,
    /// and the first answer counts, so that a lost etcd member does not cost the session.
    ///
    /// The answer says two things as of `sent_at`: the lease lives, and the session's key is still
    /// the one that this process wrote. The second is what makes an older process stop within one
    /// lease time of being superseded, though it shares the lease. It comes from a transaction that
    /// records the renewal: whoever would take over counts from that, since etcd may end a lease
    /// early, or acknowledge a keep-alive and forget it (`docs/decisions/0012-renewals.md`).
    ///
    /// # Errors
    /// [`TopologyError::Unknown`] if nobody answered in time: nothing is known.
    pub async fn keep_alive(&self, session: &Session) -> Result<KeepAlive, TopologyError> {
        self.renew().await;
        let first = self.current();
        let mut attempts = tokio::task::JoinSet::new();
        let mut started = 0;
        let mut failures = Vec::new();
        loop {
            if started < self.endpoint_count() {
                attempts.spawn(self.clone().attempt(session.clone(), first + started));
                started += 1;
            }
            let all_started = started == self.endpoint_count();
            let finished = tokio::select! {
                finished = attempts.join_next() => finished,
                () = tokio::time::sleep(HEDGE_AFTER), if !all_started => continue,
            };
            match finished {
                Some(Ok((number, Attempt::Answer(answer)))) => {
                    if number != first {
                        self.prefer(number);
                    }
                    return Ok(answer);
                }
                Some(Ok((_, Attempt::Failed(number, cause)))) => {
                    failures.push(format!("{}: {cause}", self.client(number).0));
                }
                Some(Err(error)) => failures.push(error.to_string()),
                None => {}
            }
            if attempts.is_empty() && all_started {
                return Err(TopologyError::Unknown {
                    doing: format!("keep the session of IDC {} alive", session.idc),
                    endpoint: "every endpoint".to_owned(),
                    cause: failures.join("; "),
                });
            }
        }
    }

    async fn attempt(self, session: Session, number: usize) -> (usize, Attempt) {
        let (_, client) = self.client(number);
        let asking = Box::pin(async {
            let sent_at = boot_time_millis();
            // Both are sent after `sent_at`, so what they show held then or later.
            let (granted, found) = tokio::try_join!(
                keep_alive_once(client.clone(), session.lease),
                self.record(client, &session)
            )?;
            let mark = found.mark;
            Ok::<_, Error>(match (granted, found.owner) {
                (_, Owner::Earlier) => KeepAlive::Forgotten { sent_at, mark },
                (None, _) | (_, Owner::Nobody) => KeepAlive::Expired,
                (_, Owner::Later) => KeepAlive::Superseded,
                (Some(granted), Owner::This) => KeepAlive::Acknowledged {
                    sent_at,
                    // What others were told.
                    granted_millis: granted.min(session.granted_millis),
                    mark,
                    recorded: found.recorded,
                },
            })
        });
        let patience = self.request_timeout().min(ATTEMPT);
        let attempt = match tokio::time::timeout(patience, asking).await {
            Ok(Ok(answer)) => Attempt::Answer(answer),
            Ok(Err(error)) => Attempt::Failed(number, crate::client::describe(&error)),
            Err(_) => Attempt::Failed(number, format!("no answer within {patience:?}")),
        };
        (number, attempt)
    }
}

/// What to say where a session goes on with a lease of another time than the one asked for: etcd
/// cannot change the time of a lease, and a new lease would cost everything bound to the old one.
fn other_lease_time(claim: &SessionClaim, granted_millis: u64) -> Option<String> {
    let granted = Duration::from_millis(granted_millis);
    (granted != claim.lease_time).then(|| {
        format!(
            "the session of IDC {} goes on with its lease of {granted:?}, not {:?} as asked for now: \
             another lease time takes effect once the session has ended. To change it, move the \
             primaries away (mactl switchover --all --from {}), then scale the arbiter of this IDC \
             to 0 for longer than {granted:?}",
            claim.idc, claim.lease_time, claim.idc
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn a_lease_time_that_takes_no_effect_is_said() {
        let claim = |seconds| SessionClaim {
            idc: IdcName::new("sh").unwrap(),
            holder: String::new(),
            address: String::new(),
            promises_at: String::new(),
            version: String::new(),
            lease_time: Duration::from_secs(seconds),
            above: Generation(0),
        };
        assert_eq!(other_lease_time(&claim(6), 6_000), None);
        let said = other_lease_time(&claim(10), 6_000).unwrap();
        assert!(said.contains("lease of 6s, not 10s"), "{said}");
        assert!(said.contains("--all --from sh"), "{said}");
    }
}
