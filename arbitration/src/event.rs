//! What the core is told, and what it asks for.

use std::collections::BTreeSet;

use model::{
    BidRecord, Epoch, EpochRecord, EtcdMark, FenceProof, Generation, IdcName, Intent, LeaseId,
    MemberRecord, PositionText, PrimaryRecord, Receipt, Revision, ServerBoot, ServerIdentity,
    UnitState, VacatedRecord, VoteRecord,
};

use crate::Moment;
use crate::observation::{Hindrance, Observation, PromiseAsk, Sign};

/// The session of this arbiter's IDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldSession {
    /// Its lease, to which everything that is held is bound.
    pub lease: LeaseId,
    /// The revision of its key.
    pub revision: Revision,
    /// Its generation.
    pub generation: Generation,
}

/// Something that happened.
///
/// Results of database commands carry the command's number; those of an older command are
/// ignored. Observations are made one after the other with the commands, and told in that order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time went by.
    Tick,
    /// The IDC's session was claimed.
    SessionClaimed(HeldSession),
    /// A keep-alive was acknowledged: the lease lived at `sent_at` or later, and the session was
    /// still this process's.
    KeepAlive {
        /// When it was sent.
        sent_at: Moment,
        /// The lease time granted with the answer, in milliseconds.
        granted_millis: u64,
    },
    /// The session ended: its lease expired, or another process claimed it.
    SessionLost,
    /// What etcd holds about the Unit, as of one revision. They come in order.
    State(Box<UnitState>),
    /// etcd has no room, or had none until just now: sessions are kept alive without a record.
    Unrecorded,
    /// What became of a transaction.
    Committed {
        /// Its number.
        id: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// A look at the database succeeded.
    Observed {
        /// When it was asked for. An arbiter that stood still meanwhile has an old answer, in which
        /// everything is younger than it is now.
        asked_at: Moment,
        /// What it showed.
        seen: Observation,
    },
    /// The database does not answer.
    Unreachable,
    /// A signal of any member's, this IDC's own included.
    Signalled {
        /// The member.
        of: IdcName,
        /// What it showed.
        sign: Sign,
    },
    /// A linearizable answer of etcd told how far it is.
    EtcdSeen {
        /// When the request was sent.
        sent_at: Moment,
        /// How far.
        mark: EtcdMark,
    },
    /// All that stands against a planned switchover on this member's side now.
    Hindrances(BTreeSet<Hindrance>),
    /// So many of this member's own transactions of an ended epoch lay beyond what the next
    /// holder had when it was promoted.
    Stranded {
        /// The epoch that began then.
        epoch: Epoch,
        /// How many.
        transactions: u64,
    },
    /// The arbiter of another IDC, which holds the Unit, asks for a promise.
    PromiseAsked {
        /// Who.
        by: IdcName,
        /// For what.
        ask: PromiseAsk,
    },
    /// The arbiter of another IDC answered whether it promises.
    PromiseAnswered {
        /// Who.
        by: IdcName,
        /// The number of the ask.
        number: u64,
        /// Whether.
        promised: bool,
    },
    /// Preflight was run; whether every check that blocks passed.
    Preflight(bool),
    /// A database command ended.
    Database {
        /// Its number.
        id: u64,
        /// How.
        result: DatabaseResult,
    },
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It took effect, at this revision.
    Done(Revision),
    /// A comparison failed; nothing changed.
    Lost,
    /// No answer: it may have taken effect, or may yet.
    Unknown,
}

/// How a database command ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseResult {
    /// [`DatabaseCommand::Fence`]: done, with proof.
    Fenced(FenceProof),
    /// [`DatabaseCommand::Promote`]: done; what of the old primary had been applied.
    Promoted {
        /// The position, where there was an old primary.
        applied: Option<PositionText>,
    },
    /// [`DatabaseCommand::Promote`]: nothing has changed, since links still bring what the old primary
    /// wrote. To be asked again, until it drains no longer.
    StillApplies,
    /// [`DatabaseCommand::Promise`]: the record lasts.
    Promised,
    /// [`DatabaseCommand::StartGuard`]: the guard was seen running.
    GuardRuns,
    /// [`DatabaseCommand::Open`]: done; the member accepts writes.
    Opened,
    /// [`DatabaseCommand::CheckApplied`]: whether the position is contained in what was applied.
    Applied(bool),
    /// [`DatabaseCommand::Leave`]: the guard ended and the member is as it was.
    Left,
    /// It failed, or nobody knows: whatever it was to change may have changed or may yet.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// It was not sent and will not be: nothing comes of it.
    NotSent {
        /// Why, for people.
        reason: String,
    },
}

impl DatabaseResult {
    /// Why it came to nothing that is known of, if it did.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed { reason } | Self::NotSent { reason } => Some(reason),
            _ => None,
        }
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Send a transaction to etcd and report what became of it.
    Commit(Transaction),
    /// Do something to the member's database and report the result. One at a time: a new command
    /// takes the place of one that still runs, whose result no longer counts.
    Database {
        /// Its number.
        id: u64,
        /// What.
        command: DatabaseCommand,
    },
    /// Ask the arbiter of another IDC for a promise; tell what it answers. A lost answer needs no
    /// event: the next ask comes soon.
    AskPromise {
        /// Whom.
        of: IdcName,
        /// For what.
        ask: PromiseAsk,
    },
    /// Claim this IDC's session again, with a generation above this one: the server has obeyed it,
    /// and etcd has forgotten it; or etcd shows less than before, and is to know of this process.
    ClaimAgain {
        /// Above this.
        above: Generation,
    },
    /// Answer the arbiter that asked for a promise.
    AnswerPromise {
        /// Whom.
        to: IdcName,
        /// The number of the ask.
        number: u64,
        /// Whether it is promised.
        promised: bool,
    },
}

/// Something to do to the member's database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatabaseCommand {
    /// Make it refuse writes, cut whoever could write, and prove it (rule 5).
    Fence {
        /// How long open transactions have to end, in milliseconds.
        grace_millis: u64,
    },
    /// Make it the origin of the epoch's writes (rule 8). It stays fenced. Doing it again for the
    /// same epoch changes nothing.
    Promote {
        /// The epoch.
        epoch: Epoch,
        /// Whose epoch ended, if there was one.
        from: Option<IdcName>,
        /// Promises to holders of epochs below this one are over and are taken away.
        over: Epoch,
        /// Also while tables are still copied to it: a person has said that their rows may be lost.
        lossy: bool,
        /// Until then it waits while what has been received of the epoch that ended is still being
        /// applied. `None` where its end is known and was waited for, or there is nothing to come.
        drain_until: Option<Moment>,
    },
    /// Record a promise (rule 11), unless a later generation was obeyed here: whoever would open the
    /// member is refused until it is over on the server's clock.
    Promise {
        /// The epoch of the holder to whom it is given.
        epoch: Epoch,
        /// The holder, for people.
        to: IdcName,
        /// For how long from when it is recorded, in milliseconds.
        for_millis: u64,
    },
    /// Start a guard that fences at this moment, see it run, then end older ones (rule 2).
    StartGuard {
        /// When it fences.
        deadline: Moment,
    },
    /// Make it accept writes (rule 3), checked in the server when it runs.
    Open {
        /// The epoch.
        epoch: Epoch,
        /// Nothing is opened after this.
        deadline: Moment,
        /// The server it must be.
        identity: ServerIdentity,
        /// The boot it must be.
        boot: ServerBoot,
    },
    /// Say whether everything up to a position of another member's has been applied here. May
    /// wait a little for it.
    CheckApplied {
        /// The other member.
        source: IdcName,
        /// Its position.
        position: PositionText,
    },
    /// End the guard and leave the member as it is: the Unit was deleted.
    Leave,
}

/// A key of the Unit in etcd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The Unit's document.
    Unit,
    /// The session of an IDC.
    Session(IdcName),
    /// `epoch`
    Epoch,
    /// `primary`
    Primary,
    /// `vacated`
    Vacated,
    /// `intent`
    Intent,
    /// A member's record.
    Member(IdcName),
    /// The receipt of an epoch.
    History(Epoch),
    /// An IDC as published.
    Idc(IdcName),
    /// The vote of an IDC.
    Vote(IdcName),
    /// The bid of a member.
    Bid(IdcName),
    /// The order that keeps a member fenced.
    FenceOrder(IdcName),
    /// The order that holds automation.
    PauseOrder,
}

/// Something that must be so for a transaction to take effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Compare {
    /// The key was last written at this revision ([`Revision::ABSENT`]: does not exist).
    Revision(Slot, Revision),
    /// The key is bound to this lease.
    Lease(Slot, LeaseId),
}

/// Something a transaction writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    /// The epoch.
    Epoch(EpochRecord),
    /// The holder, bound to a lease.
    Primary(PrimaryRecord, LeaseId),
    /// Removes the holder.
    DeletePrimary,
    /// The proof of a release.
    Vacated(VacatedRecord),
    /// Removes the proof of a release that is in the past now.
    DeleteVacated,
    /// The intent.
    Intent(Intent),
    /// This arbiter's view of its own member, bound to its lease.
    Member(MemberRecord, LeaseId),
    /// A receipt.
    History(Receipt),
    /// Removes an old receipt.
    DeleteHistory(Epoch),
    /// This IDC's vote, bound to its lease.
    Vote(VoteRecord, LeaseId),
    /// Removes this IDC's vote.
    DeleteVote,
    /// This member's bid, bound to its lease.
    Bid(BidRecord, LeaseId),
    /// Removes this member's bid.
    DeleteBid,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Publish the member's record.
    PublishMember,
    /// Become the Unit's first primary.
    TakeFirst,
    /// Take `primary` again after the session was lost.
    Retake,
    /// Take `primary` as a forced failover asks.
    TakeForced,
    /// Take `primary` over from a fenced holder.
    HandOver,
    /// Give `primary` up, with proof.
    Release,
    /// Remove a `primary` of this IDC that is of another epoch than etcd's.
    ClearPrimary,
    /// Say that the member is not open (any more), and bring earlier transactions to nothing.
    AnnounceClosed,
    /// Say that the member is open, with the receipt of the transition.
    AnnounceOpen,
    /// Say that the target is ready.
    TargetReady,
    /// Say that the holder is fenced, with proof.
    HolderFenced,
    /// End an intent that was not begun.
    Refuse,
    /// End an intent that was begun.
    Cancel,
    /// Vote the primary down, or say another ground.
    Vote,
    /// Withdraw the vote.
    WithdrawVote,
    /// Stand for election.
    Bid,
    /// Stand no more.
    WithdrawBid,
    /// Take `primary` with the votes of a majority, or the proof of a release.
    TakeElected,
    /// Ask for a switchover to this member, which has the highest priority and is in sync.
    AskFailback,
    /// Name the members that may take over: from then on the holder asks them for promises.
    Admit,
    /// Write down the highest epoch that etcd has forgotten.
    NoteEpoch,
    /// Write into a receipt how much was stranded.
    CountStranded,
}

impl Purpose {
    /// Whether it makes this IDC the holder.
    pub(crate) fn takes_over(self) -> bool {
        matches!(
            self,
            Self::TakeFirst | Self::Retake | Self::TakeForced | Self::HandOver | Self::TakeElected
        )
    }

    /// As words, for logs and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PublishMember => "publish the member's record",
            Self::TakeFirst => "become the first primary",
            Self::Retake => "take the primary again",
            Self::TakeForced => "take the primary, as the failover asks",
            Self::HandOver => "take the primary over",
            Self::Release => "release the primary",
            Self::ClearPrimary => "remove a primary of another epoch",
            Self::AnnounceClosed => "announce that the member is closed",
            Self::AnnounceOpen => "announce that the member is open",
            Self::TargetReady => "answer that the target is ready",
            Self::HolderFenced => "answer that the primary is fenced",
            Self::Refuse => "refuse the request",
            Self::Cancel => "cancel the request",
            Self::Vote => "vote the primary down",
            Self::WithdrawVote => "withdraw the vote",
            Self::Bid => "stand for election",
            Self::WithdrawBid => "stand for election no more",
            Self::TakeElected => "take the primary, elected",
            Self::AskFailback => "ask for the failback",
            Self::Admit => "name the candidates",
            Self::NoteEpoch => "note the highest epoch",
            Self::CountStranded => "count what is stranded",
        }
    }
}

/// A transaction: all of its writes at one revision if all comparisons hold, else nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// What must be so.
    pub compares: Vec<Compare>,
    /// What it writes.
    pub writes: Vec<Write>,
}
