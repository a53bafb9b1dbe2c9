//! The words of a script that are about elections, promises, and what is remembered of etcd:
//!
//! | line | means |
//! |---|---|
//! | `core sh votes failsafe memory` | the core takes part in these |
//! | `idcs sh bj hz`, `vote hz Unreachable`, `withdrawn hz`, `bid hz 710 [lagging]`, `ack 3`, `alive hz` | etcd holds this from now on |
//! | `renewed sh [lease=0]` | its session was kept alive, for so many milliseconds |
//! | `unrecorded` | etcd has no room to record renewals |
//! | `fence-order sh`, `unfenced sh`, `pause-order` | what a person orders, and lifts |
//! | `failed sh`, `failed sh writes`, `answered sh`, `replicated sh 3` | a signal of a member |
//! | `etcd-seen 41 [cluster=2] [sent=400]` | how far etcd is |
//! | `asked sh 1 3`, `promised bj 4`, `refused bj 4` | a promise is asked for or answered |
//! | `hindered alter`, `stranded 4 17` | what the database says besides |

use arbitration::{Event, Hindrance, Moment, PromiseAsk, Sign};
use jiff::Timestamp;
use model::{
    AckRecord, BidRecord, ClusterId, Epoch, EtcdMark, IdcDoc, IdcRole, Ineligible, Order,
    RenewalRecord, Revision, Signal, VoteGround, VoteRecord,
};

use crate::script::{Stage, idc, number, session_record};

impl Stage {
    pub fn set_scene_of_election(&mut self, words: &[&str]) -> bool {
        match words {
            ["idcs", names @ ..] => {
                self.state.idcs.clear();
                for name in names {
                    let doc = self.put(
                        IdcDoc {
                            role: IdcRole::Data,
                        },
                        None,
                    );
                    self.state.idcs.insert(idc(name), doc);
                }
            }
            ["vote", voter, ground, rest @ ..] => {
                let record = self.vote(ground, rest);
                let record = self.put(record, None);
                self.state.votes.insert(idc(voter), record);
            }
            ["withdrawn", voter] => {
                self.state.revision = Revision(self.state.revision.0 + 1);
                self.state.votes.remove(&idc(voter));
            }
            ["bid", candidate, sequence, rest @ ..] => {
                let record = self.bid(sequence, rest);
                let record = self.put(record, None);
                self.state.bids.insert(idc(candidate), record);
            }
            ["ack", epoch] => {
                let record = AckRecord {
                    epoch: Epoch(epoch.parse().unwrap()),
                    at: Timestamp::UNIX_EPOCH,
                };
                self.state.ack = Some(self.put(record, None));
            }
            ["fence-order", name] => {
                let order = self.put(order(), None);
                self.state.fence_orders.insert(idc(name), order);
            }
            ["unfenced", name] => {
                self.state.revision = Revision(self.state.revision.0 + 1);
                self.state.fence_orders.remove(&idc(name));
            }
            ["pause-order"] => self.state.pause_order = Some(self.put(order(), None)),
            ["renewed", name, rest @ ..] => {
                let granted_millis = number(rest, "lease").unwrap_or(6_000);
                let record = self.put(RenewalRecord { granted_millis }, None);
                self.state.renewals.insert(idc(name), record);
            }
            ["alive", name] => {
                let record = session_record();
                let session = self.put(record, Some(77));
                self.state.sessions.insert(idc(name), session);
            }
            _ => return false,
        }
        true
    }

    pub fn event_of_election(&self, words: &[&str]) -> Event {
        match words {
            ["failed", of, "writes"] => Event::Signalled {
                of: idc(of),
                sign: Sign::Failed(Signal::Resources, "disk full".to_owned()),
            },
            ["failed", of] => Event::Signalled {
                of: idc(of),
                sign: Sign::Failed(Signal::Sql, "no answer".to_owned()),
            },
            ["answered", of] => Event::Signalled {
                of: idc(of),
                sign: Sign::Answered(Signal::Sql),
            },
            ["replicated", of, epoch] => Event::Signalled {
                of: idc(of),
                sign: Sign::Replicated {
                    epoch: Epoch(epoch.parse().unwrap()),
                },
            },
            ["etcd-seen", revision, rest @ ..] => Event::EtcdSeen {
                sent_at: Moment(number(rest, "sent").unwrap_or(self.at)),
                mark: mark(rest, revision.parse().unwrap()),
            },
            ["asked", by, number, epoch] => Event::PromiseAsked {
                by: idc(by),
                ask: PromiseAsk {
                    number: number.parse().unwrap(),
                    epoch: Epoch(epoch.parse().unwrap()),
                    for_millis: 6_000,
                },
            },
            ["promised", by, number] => Event::PromiseAnswered {
                by: idc(by),
                number: number.parse().unwrap(),
                promised: true,
            },
            ["refused", by, number] => Event::PromiseAnswered {
                by: idc(by),
                number: number.parse().unwrap(),
                promised: false,
            },
            ["hindered", rest @ ..] => {
                Event::Hindrances(rest.iter().map(|it| hindrance(it)).collect())
            }
            ["unrecorded"] => Event::Unrecorded,
            ["stranded", epoch, transactions] => Event::Stranded {
                epoch: Epoch(epoch.parse().unwrap()),
                transactions: transactions.parse().unwrap(),
            },
            _ => panic!("line {}: {words:?}?", self.line),
        }
    }

    fn vote(&self, ground: &str, rest: &[&str]) -> VoteRecord {
        let epoch = self.state.epoch.as_ref().unwrap().value.clone();
        VoteRecord {
            epoch: number(rest, "epoch").map_or(epoch.epoch, Epoch),
            against: epoch.idc,
            ground: match ground {
                "Unreachable" => VoteGround::Unreachable,
                "WritesFail" => VoteGround::WritesFail,
                "Vacant" => VoteGround::Vacant,
                other => panic!("line {}: ground {other}?", self.line),
            },
            evidence: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn bid(&self, sequence: &str, rest: &[&str]) -> BidRecord {
        let epoch = self.state.epoch.as_ref().unwrap().value.epoch;
        BidRecord {
            epoch,
            highest_epoch: number(rest, "highest").map_or(epoch, Epoch),
            sequence: sequence.parse().ok(),
            position: None,
            lag_millis: None,
            priority: 10,
            ineligible: if rest.contains(&"lagging") {
                vec![Ineligible::Lag]
            } else {
                Vec::new()
            },
        }
    }
}

pub fn mark(rest: &[&str], revision: u64) -> EtcdMark {
    EtcdMark {
        cluster: ClusterId(number(rest, "cluster").unwrap_or(1)),
        revision: Revision(i64::try_from(revision).unwrap()),
    }
}

fn order() -> Order {
    Order {
        by: "ann".to_owned(),
        at: Timestamp::UNIX_EPOCH,
        reason: "its disk is worn".to_owned(),
    }
}

fn hindrance(word: &str) -> Hindrance {
    match word {
        "alter" => Hindrance::Alter,
        "backup" => Hindrance::BackupLock,
        "xa" => Hindrance::PreparedXa(1),
        "stranded" => Hindrance::Stranded(3),
        "not-in-line" => Hindrance::NotInLine(2),
        "copying" => Hindrance::Copying(vec!["shop/orders-sh-bj".to_owned()]),
        other => Hindrance::LinkStopped(idc(other)),
    }
}
