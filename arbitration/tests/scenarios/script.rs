//! The words of a script. Each line is one of them:
//!
//! | line | means |
//! |---|---|
//! | `core sh` | begins: the core of this IDC |
//! | `at 1200` | the clock, in milliseconds, for all that follows |
//! | `unit [paused]`, `epoch 1 sh`, `primary sh 1 open lease=1`, `member bj fenced passed data lag...` | etcd holds this from now on, written at the next revision |
//! | `intent planned bj Requested`, `vacated 1 sh 500` | the same, for an intent or a proof |
//! | `gone primary` | etcd holds it no more |
//! | `deliver` | the core is told the state |
//! | `session lease=1`, `keepalive 1000`, `lost`, `tick`, `preflight passed` | events |
//! | `observed closed lag=40 data guard boot=1 server=x`, `unreachable` | a look |
//! | `done fenced 500 [server=x]`, `done failed why`, `done not-sent why` | what became of the last database command |
//! | `committed`, `committed lost`, `committed unknown` | what became of the last transaction; done, it is in etcd |
//! | `report` | what the core says of itself |

use arbitration::{
    Applied, Command, Core, DatabaseResult, Event, Features, HeldSession, Moment, Now, Observation,
    Outcome, PromiseSeen, Purpose, Rules, Settings, Transaction, Write,
};
use jiff::Timestamp;
use model::{
    Endpoint, Epoch, EpochRecord, FailoverMode, FailoverPolicy, FenceProof, Generation,
    HeartbeatCheck, IdcName, Ineligible, Intent, IntentKind, IntentPhase, LeaseId, MemberDoc,
    MemberRecord, PositionText, PrimaryRecord, Revision, ServerBoot, ServerIdentity, SessionRecord,
    TlsSettings, UnitDoc, UnitState, VacatedRecord, Versioned,
};

use crate::election::mark;
use crate::render;

pub struct Stage {
    core: Option<Core>,
    rules: Rules,
    me: IdcName,
    pub at: u64,
    pub state: UnitState,
    pub line: usize,
    transaction: Option<Transaction>,
    command: Option<u64>,
}

pub fn idc(name: &str) -> IdcName {
    IdcName::new(name).unwrap()
}

/// The value of `name=` among the words.
pub fn named<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

pub fn number(words: &[&str], name: &str) -> Option<u64> {
    named(words, name).map(|value| value.parse().unwrap())
}

fn free<T>(value: T, revision: Revision) -> Versioned<T> {
    Versioned {
        value,
        revision,
        lease: None,
    }
}

fn bound<T>(value: T, revision: Revision, lease: LeaseId) -> Versioned<T> {
    Versioned {
        value,
        revision,
        lease: Some(lease),
    }
}

fn server(idc: &IdcName) -> ServerIdentity {
    ServerIdentity(format!("server-{idc}"))
}

fn fenced(identity: ServerIdentity, position: &str) -> FenceProof {
    FenceProof::Fenced {
        identity,
        boot: ServerBoot(1),
        position: PositionText(position.to_owned()),
        at: Timestamp::UNIX_EPOCH,
    }
}

impl Stage {
    pub fn new(rules: Rules) -> Self {
        Self {
            core: None,
            rules,
            me: idc("none"),
            at: 0,
            state: UnitState::default(),
            line: 0,
            transaction: None,
            command: None,
        }
    }

    /// Plays one line; the commands that the core answers with.
    pub fn play(&mut self, line: &str, number: usize) -> Vec<String> {
        self.line = number;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => Vec::new(),
            ["core", name, rest @ ..] => {
                self.me = idc(name);
                let features = Features {
                    votes: rest.contains(&"votes"),
                    failsafe: rest.contains(&"failsafe"),
                    memory: rest.contains(&"memory"),
                };
                let settings = Settings {
                    features,
                    ..Settings::default()
                };
                self.core = Some(Core::new(self.me.clone(), settings, self.rules));
                Vec::new()
            }
            ["at", moment] => {
                self.at = moment.parse().unwrap();
                Vec::new()
            }
            ["readiness"] => {
                let now = self.now();
                let found = self.core.as_ref().unwrap().failover_readiness(now);
                let said = found
                    .obstacles
                    .iter()
                    .map(|obstacle| format!("{}: {:?}", obstacle.reason(), obstacle.to_string()));
                let said: Vec<String> = said.collect();
                vec![if said.is_empty() {
                    "would fail over".to_owned()
                } else {
                    said.join("; ")
                }]
            }
            ["report"] => {
                let now = self.now();
                let report = self.core.as_ref().unwrap().report(now);
                let writable = if report.writable {
                    "writable"
                } else {
                    "closed"
                };
                vec![format!(
                    "{:?}, {writable}, {:?}",
                    report.role, report.message
                )]
            }
            _ if self.set_scene(&words) => Vec::new(),
            _ => {
                let event = self.event(&words);
                self.step(event)
            }
        }
    }

    /// Steps the core. What it publishes of its member is put into etcd and delivered at once, and
    /// not shown: scripts are about the rest.
    fn step(&mut self, event: Event) -> Vec<String> {
        let now = self.now();
        let commands = self.core.as_mut().unwrap().step(now, event);
        let mut answers = Vec::new();
        for command in commands {
            match command {
                Command::Commit(transaction) if transaction.purpose == Purpose::PublishMember => {
                    self.apply(&transaction);
                    let (id, outcome) = (transaction.id, Outcome::Done(self.state.revision));
                    answers.extend(self.step(Event::Committed { id, outcome }));
                    answers.extend(self.step(Event::State(Box::new(self.state.clone()))));
                }
                Command::Commit(transaction) => {
                    answers.push(render::etcd(&transaction));
                    self.transaction = Some(transaction);
                }
                Command::Database { id, command } => {
                    answers.push(render::database(&command));
                    self.command = Some(id);
                }
                Command::AskPromise { of, ask } => answers.push(format!(
                    "ask {of}: promise {} for epoch {}, {} ms",
                    ask.number, ask.epoch, ask.for_millis
                )),
                Command::ClaimAgain { above } => {
                    answers.push(format!(
                        "claim the session again, above generation {}",
                        above.0
                    ));
                }
                Command::AnswerPromise {
                    to,
                    number,
                    promised,
                } => {
                    let word = if promised { "promised" } else { "refused" };
                    answers.push(format!("answer {to}: {word} {number}"));
                }
            }
        }
        answers
    }

    fn apply(&mut self, transaction: &Transaction) {
        self.state.revision = Revision(self.state.revision.0 + 1);
        let revision = self.state.revision;
        let state = &mut self.state;
        for write in transaction.writes.iter().cloned() {
            match write {
                Write::Epoch(value) => state.epoch = Some(free(value, revision)),
                Write::Primary(value, lease) => {
                    state.primary = Some(Versioned {
                        value,
                        revision,
                        lease: Some(lease),
                    });
                }
                Write::DeletePrimary => state.primary = None,
                Write::Vacated(value) => state.vacated = Some(free(value, revision)),
                Write::DeleteVacated => state.vacated = None,
                Write::Intent(value) => state.intent = Some(free(value, revision)),
                Write::Member(value, lease) => {
                    let record = Versioned {
                        value,
                        revision,
                        lease: Some(lease),
                    };
                    state.members.insert(self.me.clone(), record);
                }
                Write::History(value) => state.receipt = Some(free(value, revision)),
                Write::Vote(value, lease) => {
                    let record = bound(value, revision, lease);
                    state.votes.insert(self.me.clone(), record);
                }
                Write::DeleteVote => {
                    state.votes.remove(&self.me);
                }
                Write::Bid(value, lease) => {
                    let record = bound(value, revision, lease);
                    state.bids.insert(self.me.clone(), record);
                }
                Write::DeleteBid => {
                    state.bids.remove(&self.me);
                }
                Write::DeleteHistory(_) => {}
            }
        }
    }

    fn now(&self) -> Now {
        let wall = Timestamp::from_millisecond(i64::try_from(self.at).unwrap()).unwrap();
        Now {
            at: Moment(self.at),
            wall,
        }
    }

    pub fn put<T>(&mut self, value: T, lease: Option<u64>) -> Versioned<T> {
        self.state.revision = Revision(self.state.revision.0 + 1);
        let lease = lease.map(|lease| LeaseId(i64::try_from(lease).unwrap()));
        Versioned {
            value,
            revision: self.state.revision,
            lease,
        }
    }

    /// Whether the line said what etcd holds.
    fn set_scene(&mut self, words: &[&str]) -> bool {
        match words {
            ["unit", rest @ ..] => self.state.unit = Some(self.put(unit_doc(rest), None)),
            ["epoch", epoch, name, rest @ ..] => {
                let identity = server(&idc(name));
                let epoch = Epoch(epoch.parse().unwrap());
                let record = EpochRecord {
                    epoch,
                    idc: idc(name),
                    identity,
                    failed_over: number(rest, "failed-over").map_or(Epoch::NONE, Epoch),
                    candidates: rest
                        .iter()
                        .filter(|word| !word.contains('=') && **word != "boots-writable")
                        .map(|word| idc(word))
                        .collect(),
                    highest: number(rest, "highest").map_or(Epoch::NONE, Epoch),
                    noted: number(rest, "noted").map(|at| Revision(at.try_into().unwrap())),
                    boots_fenced: !rest.contains(&"boots-writable"),
                };
                self.state.epoch = Some(self.put(record, None));
            }
            ["primary", name, epoch, open, rest @ ..] => {
                let record = PrimaryRecord {
                    idc: idc(name),
                    epoch: Epoch(epoch.parse().unwrap()),
                    identity: server(&idc(name)),
                    open: *open == "open",
                };
                self.state.primary = Some(self.put(record, number(rest, "lease")));
            }
            ["member", name, rest @ ..] => {
                let record = self.put(member_record(&idc(name), rest), None);
                self.state.members.insert(idc(name), record);
            }
            ["intent", kind, to, phase, rest @ ..] => {
                let intent = self.intent(kind, to, phase, rest);
                self.state.intent = Some(self.put(intent, None));
            }
            ["vacated", epoch, name, position] => {
                let epoch = Epoch(epoch.parse().unwrap());
                let proof = fenced(server(&idc(name)), position);
                let record = VacatedRecord {
                    epoch,
                    idc: idc(name),
                    proof,
                };
                self.state.vacated = Some(self.put(record, None));
            }
            ["gone", what] => self.remove(what),
            _ => return self.set_scene_of_election(words),
        }
        true
    }

    fn remove(&mut self, what: &str) {
        self.state.revision = Revision(self.state.revision.0 + 1);
        match what {
            "unit" => self.state.unit = None,
            "primary" => self.state.primary = None,
            "vacated" => self.state.vacated = None,
            "intent" => self.state.intent = None,
            other => panic!("line {}: gone {other}?", self.line),
        }
    }

    fn intent(&self, kind: &str, to: &str, phase: &str, rest: &[&str]) -> Intent {
        let epoch = self
            .state
            .epoch
            .as_ref()
            .map_or(Epoch::NONE, |epoch| epoch.value.epoch);
        let holder = self
            .state
            .primary
            .as_ref()
            .map(|primary| primary.value.idc.clone());
        let phase = match phase {
            "Requested" => IntentPhase::Requested,
            "TargetReady" => IntentPhase::TargetReady { lag_millis: 10 },
            "Fenced" => IntentPhase::Fenced {
                stopped_at: Timestamp::UNIX_EPOCH,
                proof: fenced(
                    server(holder.as_ref().unwrap_or(&idc("sh"))),
                    named(rest, "at").unwrap(),
                ),
            },
            "HandedOver" => IntentPhase::HandedOver {
                stopped_at: None,
                epoch,
            },
            "Cancelled" => IntentPhase::Cancelled {
                reason: String::new(),
            },
            other => panic!("line {}: phase {other}?", self.line),
        };
        Intent {
            id: "request".to_owned(),
            kind: if kind == "forced" {
                IntentKind::Forced
            } else {
                IntentKind::Planned
            },
            to: (to != "-").then(|| idc(to)),
            expected_primary: holder,
            expected_epoch: number(rest, "epoch").map_or(epoch, Epoch),
            allow_data_loss: rest.contains(&"loss"),
            requested_at: Timestamp::UNIX_EPOCH,
            phase,
        }
    }

    fn event(&mut self, words: &[&str]) -> Event {
        match words {
            ["tick"] => Event::Tick,
            ["lost"] => Event::SessionLost,
            ["unreachable"] => Event::Unreachable,
            ["deliver"] => Event::State(Box::new(self.state.clone())),
            ["preflight", word] => Event::Preflight(*word == "passed"),
            ["session", rest @ ..] => self.claim(rest),
            ["keepalive", sent_at] => Event::KeepAlive {
                sent_at: Moment(sent_at.parse().unwrap()),
                granted_millis: 6_000,
            },
            ["observed", rest @ ..] => Event::Observed {
                asked_at: Moment(self.at - number(rest, "asked-ago").unwrap_or(0)),
                seen: self.observation(rest),
            },
            ["committed", rest @ ..] => Event::Committed {
                id: self.committing(rest.is_empty()),
                outcome: match rest {
                    [] => Outcome::Done(self.state.revision),
                    ["lost"] => Outcome::Lost,
                    ["unknown"] => Outcome::Unknown,
                    ["at", revision] => Outcome::Done(Revision(revision.parse().unwrap())),
                    _ => panic!("line {}: outcome {rest:?}?", self.line),
                },
            },
            ["done", rest @ ..] => Event::Database {
                id: self
                    .command
                    .take()
                    .unwrap_or_else(|| panic!("line {}: no command was sent", self.line)),
                result: self.result(rest),
            },
            _ => self.event_of_election(words),
        }
    }

    fn committing(&mut self, done: bool) -> u64 {
        let transaction = self
            .transaction
            .take()
            .unwrap_or_else(|| panic!("line {}: no transaction was sent", self.line));
        if done {
            self.apply(&transaction);
        }
        transaction.id
    }

    fn claim(&mut self, rest: &[&str]) -> Event {
        let record = session_record();
        let lease = number(rest, "lease").unwrap();
        let session = self.put(record, Some(lease));
        let held = HeldSession {
            lease: session.lease.unwrap(),
            revision: session.revision,
            generation: Generation(1),
        };
        self.state.sessions.insert(self.me.clone(), session);
        Event::SessionClaimed(held)
    }

    fn observation(&self, rest: &[&str]) -> Observation {
        Observation {
            identity: named(rest, "server")
                .map_or_else(|| server(&self.me), |name| ServerIdentity(name.to_owned())),
            boot: ServerBoot(number(rest, "boot").map_or(1, |boot| i64::try_from(boot).unwrap())),
            read_only: rest.contains(&"closed"),
            offline: rest.contains(&"offline"),
            guard_running: rest.contains(&"guard"),
            lag_millis: number(rest, "lag"),
            has_data: rest.contains(&"data"),
            highest_epoch: number(rest, "epoch").map_or(Epoch::NONE, Epoch),
            held_highest: rest.contains(&"held-it"),
            applied: number(rest, "applied").map(|sequence| Applied {
                sequence,
                position: PositionText(sequence.to_string()),
            }),
            own_sequence: number(rest, "own"),
            boots_fenced: !rest.contains(&"boots-writable"),
            etcd: number(rest, "remembers").map(|revision| mark(rest, revision)),
            generation: Generation(number(rest, "generation").unwrap_or(1)),
            promise: number(rest, "promise").map(|epoch| PromiseSeen {
                epoch: Epoch(epoch),
                for_millis: 6_000,
            }),
        }
    }

    fn result(&self, rest: &[&str]) -> DatabaseResult {
        match rest {
            ["fenced", position, rest @ ..] => {
                let identity = named(rest, "server").map(|name| ServerIdentity(name.to_owned()));
                let identity = identity.unwrap_or(server(&self.me));
                DatabaseResult::Fenced(fenced(identity, position))
            }
            ["promoted"] => DatabaseResult::Promoted { applied: None },
            ["guard-runs"] => DatabaseResult::GuardRuns,
            ["opened"] => DatabaseResult::Opened,
            ["promised"] => DatabaseResult::Promised,
            ["still-applies"] => DatabaseResult::StillApplies,
            ["applied"] => DatabaseResult::Applied(true),
            ["not-applied"] => DatabaseResult::Applied(false),
            ["left"] => DatabaseResult::Left,
            ["not-sent", why @ ..] => DatabaseResult::NotSent {
                reason: why.join(" "),
            },
            ["failed", why @ ..] => DatabaseResult::Failed {
                reason: why.join(" "),
            },
            _ => panic!("line {}: result {rest:?}?", self.line),
        }
    }
}

pub fn session_record() -> SessionRecord {
    SessionRecord {
        holder: "process".to_owned(),
        address: String::new(),
        version: String::new(),
        generation: Generation(1),
        yielded: false,
        promises_at: String::new(),
    }
}

fn member_record(idc: &IdcName, words: &[&str]) -> MemberRecord {
    MemberRecord {
        identity: Some(
            named(words, "server")
                .map_or_else(|| server(idc), |name| ServerIdentity(name.to_owned())),
        ),
        boot: Some(ServerBoot(1)),
        reachable: !words.contains(&"unreachable"),
        fenced: words.contains(&"fenced"),
        preflight_passed: words.contains(&"passed"),
        has_data: words.contains(&"data"),
        highest_epoch: number(words, "epoch").map_or(Epoch::NONE, Epoch),
        held_highest: words.contains(&"held-it"),
        remembers: !words.contains(&"forgetful"),
        ineligible: if words.contains(&"lagging") {
            vec![Ineligible::Lag]
        } else {
            Vec::new()
        },
    }
}

fn mode(automatic: bool) -> FailoverMode {
    if automatic {
        FailoverMode::Automatic
    } else {
        FailoverMode::Manual
    }
}

fn unit_doc(words: &[&str]) -> UnitDoc {
    let member = |name: &str, priority| MemberDoc {
        idc: idc(name),
        endpoint: Endpoint {
            host: name.to_owned(),
            port: 3306,
            tls: TlsSettings::default(),
        },
        priority,
    };
    let mut members = vec![member("sh", 100), member("bj", 50)];
    if words.contains(&"three") {
        members.push(member("hz", 10));
    }
    let without = named(words, "without");
    UnitDoc {
        uid: "1".to_owned(),
        generation: 1,
        databases: vec!["orders".to_owned()],
        members: members
            .into_iter()
            .filter(|member| Some(member.idc.as_str()) != without)
            .collect(),
        failover: FailoverPolicy {
            mode: mode(words.contains(&"automatic")),
            max_lag_millis: 5_000,
            cooldown_millis: number(words, "cooldown").unwrap_or(0),
            failback: mode(words.contains(&"failback")),
            failsafe: words.contains(&"failsafe"),
        },
        application: None,
        heartbeat: HeartbeatCheck {
            interval_millis: 1_000,
            timeout_millis: 500,
            failures: 3,
        },
        paused: words.contains(&"paused"),
    }
}
