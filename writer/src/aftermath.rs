//! How the end of an epoch can stand in a link's way, and what a person does about it.

/// Something that the end of an epoch left behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Aftermath {
    /// A change of an ended epoch that the primary may have and the target does not.
    #[error(
        "transaction {gtid} was committed in {source_idc} under epoch {epoch}, which ended when \
         epoch {ended_by} began; {who}, and {target_idc} does not. It can neither be applied here \
         after what that epoch wrote, nor be set aside. Bring {target_idc} up to date by a new copy: \
         empty the tables of the Unit there, which is not the primary, and remove the rows of its \
         links from multiactive.applied. If it is known that {target_idc} is equal to the primary: \
         let {link} pass it by raising its position in multiactive.applied"
    )]
    Lacking {
        /// The transaction.
        gtid: String,
        /// The link's source.
        source_idc: String,
        /// The link's target.
        target_idc: String,
        /// The transaction's epoch.
        epoch: u64,
        /// The epoch after it.
        ended_by: u64,
        /// What is known of who has it.
        who: &'static str,
        /// The link.
        link: String,
    },
    /// The target was the primary of an epoch that has ended, and is not in line yet.
    #[error(
        "held before epoch {epoch}, which ended the epoch of {target_idc}: {target_idc} goes on as a \
         copy once it is fenced, {source_idc} has set aside what it lacks of it, and that was taken \
         back here. The link from {target_idc} to {source_idc} carries it: {waits}"
    )]
    Held {
        /// The link's source.
        source_idc: String,
        /// The link's target.
        target_idc: String,
        /// The epoch before whose beginning the link is held.
        epoch: u64,
        /// What is waited for.
        waits: String,
    },
    /// The target cannot go on with an epoch yet.
    #[error(
        "held before epoch {epoch} of {source_idc}: {what}. If that will not come any more, since \
         the member is gone for good, this one needs a new copy: empty the tables of the Unit here, \
         which is not the primary, with sql_log_bin=0, and remove the rows of its links from \
         multiactive.applied"
    )]
    Waits {
        /// The link's source.
        source_idc: String,
        /// The epoch before whose beginning the link is held.
        epoch: u64,
        /// What is needed, and what brings it.
        what: String,
    },
    /// The target has gone on without what the source builds upon.
    #[error(
        "{source_idc}, which began epoch {epoch}, {what}. {target_idc} needs a new copy: empty the tables of the Unit there, which is not the primary, with sql_log_bin=0, \
         remove the rows of its links from multiactive.applied, and its rows from \
         multiactive.stranded and multiactive.undone, once those that are wanted are saved"
    )]
    Forked {
        /// The link's source.
        source_idc: String,
        /// The link's target.
        target_idc: String,
        /// The epoch.
        epoch: u64,
        /// What is wrong.
        what: String,
    },
    /// A row that is to be taken back is not what the stranded change left.
    #[error(
        "the stranded transaction {gtid} cannot be taken back: in table {table} at {key} its change \
         left {expected}, and there is {found}. Nothing of it was taken back. Make the row what it \
         was before the change ({wanted}) with sql_log_bin=0, and the link goes on by itself; or, if \
         every row of that transaction is as on the primary, run at the target: {pass}"
    )]
    NotAsLeft {
        /// `database.table`.
        table: String,
        /// The row's key.
        key: String,
        /// What the change left.
        expected: String,
        /// What was there before it.
        wanted: String,
        /// What there is.
        found: String,
        /// The transaction.
        gtid: String,
        /// What lets the link pass it.
        pass: String,
    },
    /// Something stranded that cannot be taken back row by row.
    #[error(
        "the stranded transaction {gtid} cannot be taken back row by row: {what}. Bring what it \
         touched in {target_idc} in line with the primary by hand, with sql_log_bin=0. Or have \
         {target_idc} copied anew: let the link pass this as said next, make the definitions of its \
         tables those of the primary, and then: mactl repair {link} --link --rebuild. What lets the \
         link pass, to be run at the target: {pass}"
    )]
    NeedsCopy {
        /// The link's target.
        target_idc: String,
        /// The transaction.
        gtid: String,
        /// What it is.
        what: String,
        /// The link.
        link: String,
        /// What lets the link pass it.
        pass: String,
    },
    /// The source was promoted with what was set aside here.
    #[error(
        "{source_idc} was promoted again with {kept} transaction(s) of an ended epoch that were set \
         aside here and not taken back there: it has them, and {target_idc} never got them. \
         {target_idc} needs a new copy: save the rows of {source_idc} in multiactive.stranded there, \
         if they are wanted, and remove them, which lets the link pass; then empty the tables with \
         sql_log_bin=0 and remove the row of {link} from multiactive.applied there"
    )]
    PartnerKept {
        /// The link's source.
        source_idc: String,
        /// The link's target.
        target_idc: String,
        /// How many.
        kept: u64,
        /// The link.
        link: String,
    },
}

impl Aftermath {
    /// Whether it passes by itself.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Waits { .. })
    }

    /// A stable word for metrics.
    pub(crate) fn category(&self) -> &'static str {
        match self {
            Self::Lacking { .. } => "lacking",
            Self::Held { .. } | Self::Waits { .. } => "held",
            Self::NotAsLeft { .. } => "not_as_left",
            Self::NeedsCopy { .. } | Self::PartnerKept { .. } | Self::Forked { .. } => "needs_copy",
        }
    }
}
