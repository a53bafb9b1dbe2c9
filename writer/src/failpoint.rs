//! Points at which a test can end the process, as `kill -9` would. Without the cargo feature
//! `failpoints` they are nothing.

/// Where the process can be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Rows and checkpoint are written, not committed.
    BeforeCommit,
    /// Committed, not known to anybody yet.
    AfterCommit,
    /// A part of a long transaction is written.
    AfterPart,
    /// A row of a stranded transaction was taken back, the rest not yet.
    AfterRow,
    /// The intent of a statement is recorded, the statement has not run.
    BeforeDdl,
    /// A statement has run, the checkpoint does not know.
    AfterDdl,
    /// The tables of a snapshot are made, the checkpoint does not know.
    AfterCreate,
    /// Some rows of a table that is copied anew are removed, others not yet.
    WhileEmptying,
    /// A table that is copied anew is empty, and the next session begins its copy.
    AfterEmptying,
    /// That every copy has ended is written down.
    AfterCopies,
}

#[cfg(feature = "failpoints")]
mod enabled {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    /// A point and how often it must be passed before.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CrashAt {
        point: Point,
        times: u64,
    }

    impl FromStr for CrashAt {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            let (name, times) = text.split_once(':').unwrap_or((text, "1"));
            let point = match name {
                "before-commit" => Point::BeforeCommit,
                "after-commit" => Point::AfterCommit,
                "after-part" => Point::AfterPart,
                "after-row" => Point::AfterRow,
                "before-ddl" => Point::BeforeDdl,
                "after-ddl" => Point::AfterDdl,
                "after-create" => Point::AfterCreate,
                "while-emptying" => Point::WhileEmptying,
                "after-emptying" => Point::AfterEmptying,
                "after-copies" => Point::AfterCopies,
                _ => return Err(format!("there is no point {name:?}")),
            };
            let times = times
                .parse()
                .map_err(|_| format!("{times:?} is not a number"))?;
            Ok(Self { point, times })
        }
    }

    static ARMED: OnceLock<CrashAt> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Arms a point for the rest of the process.
    pub(crate) fn arm(at: CrashAt) {
        let _armed_once = ARMED.set(at);
    }

    /// Ends the process if this point is armed and its time has come.
    pub(crate) fn pass(point: Point) {
        if let Some(at) = ARMED.get()
            && at.point == point
            && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == at.times
        {
            tracing::warn!(?point, "failpoint: ending the process");
            std::process::abort();
        }
    }
}

#[cfg(feature = "failpoints")]
pub use enabled::CrashAt;
#[cfg(feature = "failpoints")]
pub(crate) use enabled::{arm, pass};

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn pass(_point: Point) {}
