//! Whether the primary would move by itself if it failed now, and if not, why not.

use std::fmt;

use model::{FailoverMode, FailoverStatus, IdcName, Ineligible};

use crate::Now;
use crate::automatic::FEWEST_IDCS;
use crate::core::Core;

/// The answer, for a condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailoverReadiness {
    /// All that stands in the way; empty if nothing does.
    pub obstacles: Vec<NotReady>,
}

impl FailoverReadiness {
    /// Whether nothing stands in the way.
    pub fn is_ready(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Why automatic failover is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    /// This arbiter takes no part in elections, or knows nothing yet.
    NotTakingPart,
    /// The Unit says that people decide.
    Manual,
    /// The Unit is paused.
    Paused,
    /// It has not had a primary yet.
    NoPrimaryYet,
    /// Without a third IDC there is no majority without the one that is lost.
    TooFewIdcs(usize),
    /// Fewer arbiters than a majority have a session.
    TooFewArbiters {
        /// So many do.
        alive: usize,
        /// Of so many IDCs.
        of: usize,
    },
    /// A failover happened a while ago, and nobody has acknowledged it.
    CoolingDown,
    /// etcd shows less than before.
    EtcdWentBack,
    /// The holder's server was not seen to come up `read_only`.
    HolderBootsWritable(IdcName),
    /// No member could be elected: each with the reasons.
    NoCandidate(Vec<(IdcName, Vec<Ineligible>)>),
}

impl NotReady {
    /// One CamelCase word, for a condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTakingPart => "NotTakingPart",
            Self::Manual => "Manual",
            Self::Paused => "Paused",
            Self::NoPrimaryYet => "NoPrimaryYet",
            Self::TooFewIdcs(_) => "NoWitness",
            Self::TooFewArbiters { .. } => "NoMajority",
            Self::CoolingDown => "CoolingDown",
            Self::EtcdWentBack => FailoverStatus::ETCD_WENT_BACK,
            Self::HolderBootsWritable(_) => "HolderBootsWritable",
            Self::NoCandidate(_) => "NoCandidate",
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTakingPart => f.write_str("this arbiter does not take part in elections yet"),
            Self::Manual => f.write_str("failover.mode is Manual: mactl failover"),
            Self::Paused => f.write_str("the unit is paused: mactl resume"),
            Self::NoPrimaryYet => f.write_str("the unit has not had a primary yet"),
            Self::TooFewIdcs(count) => write!(
                f,
                "{count} IDCs have no majority without each other: add a witness. Until then: \
                 mactl failover"
            ),
            Self::TooFewArbiters { alive, of } => write!(
                f,
                "only {alive} of {of} IDCs have an arbiter with a session in etcd, which is no \
                 majority"
            ),
            Self::CoolingDown => f.write_str(
                "the primary moved by itself not long ago, and does not do so again before \
                 failover.cooldown is over: mactl ack, once you have looked at it",
            ),
            Self::EtcdWentBack => f.write_str(
                "etcd shows less than it did before, as after a restore from a backup. Look at \
                 each member, then: mactl ack",
            ),
            Self::HolderBootsWritable(holder) => write!(
                f,
                "the server of {holder}, the last primary, was not seen to start read_only: restarted \
                 out of its arbiter's reach it could take writes beside the next one. Put \
                 read_only=1 into its configuration, and restart it at a good moment (mactl \
                 switchover first)"
            ),
            Self::NoCandidate(members) => {
                f.write_str("no member could be elected")?;
                for (idc, reasons) in members {
                    let words: Vec<_> = reasons.iter().map(|reason| reason.advice()).collect();
                    write!(f, "; {idc}: {}", words.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

impl Core {
    /// Whether the primary would move by itself if it failed now.
    pub fn failover_readiness(&self, now: Now) -> FailoverReadiness {
        let mut obstacles = Vec::new();
        let noted = |state| self.went_back_for_others(state);
        if !self.trusts_etcd() || self.state.as_ref().is_some_and(noted) {
            obstacles.push(NotReady::EtcdWentBack);
        }
        let (Some(state), Some(doc)) = (&self.state, self.doc()) else {
            obstacles.push(NotReady::NotTakingPart);
            return FailoverReadiness { obstacles };
        };
        if !self.settings.features.votes {
            obstacles.push(NotReady::NotTakingPart);
        }
        let Some(epoch) = state.epoch.as_ref().map(|epoch| &epoch.value) else {
            obstacles.push(NotReady::NoPrimaryYet);
            return FailoverReadiness { obstacles };
        };
        let alive = state
            .idcs
            .keys()
            .filter(|idc| state.sessions.contains_key(*idc))
            .count();
        let of = state.idcs.len();
        let all = [
            (
                doc.value.failover.mode == FailoverMode::Manual,
                NotReady::Manual,
            ),
            (state.is_paused(), NotReady::Paused),
            (of < FEWEST_IDCS, NotReady::TooFewIdcs(of)),
            (2 * alive <= of, NotReady::TooFewArbiters { alive, of }),
            (self.is_cooling(now, state), NotReady::CoolingDown),
            (
                !epoch.boots_fenced,
                NotReady::HolderBootsWritable(epoch.idc.clone()),
            ),
        ];
        obstacles.extend(all.into_iter().filter(|(is, _)| *is).map(|(_, it)| it));
        let others: Vec<(IdcName, Vec<Ineligible>)> = doc
            .value
            .members
            .iter()
            .filter(|member| member.idc != epoch.idc)
            .map(|member| {
                let record = state.members.get(&member.idc);
                let reasons = record.map_or_else(
                    || vec![Ineligible::Unreachable],
                    |record| record.value.ineligible.clone(),
                );
                (member.idc.clone(), reasons)
            })
            .collect();
        if others.iter().all(|(_, reasons)| !reasons.is_empty()) {
            obstacles.push(NotReady::NoCandidate(others));
        }
        FailoverReadiness { obstacles }
    }
}
