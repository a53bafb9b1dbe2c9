//! What a run keeps at the target: how far it is, in `multiactive.repair_runs`, and what it found,
//! in `multiactive.repairs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{
    MOST_STATEMENTS, RepairConfig, RepairControl, RepairMode, RepairPhase, RepairReport,
    TableReport,
};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use serde::{Deserialize, Serialize};

use crate::error::{Holder, RepairError};
use crate::pair::Pair;
use crate::to_hex;
use crate::verdict::Kind;

/// So many characters of a statement are told in the status.
const TOLD: usize = 1000;

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// What it was begun with.
    pub settings: Settings,
    /// The newest epoch when it was begun; 0: none.
    pub epoch: u64,
    pub phase: RepairPhase,
    pub message: String,
    pub report: RepairReport,
    /// Rows that it has put into `multiactive.repairs` without mending them.
    pub recorded: u64,
    /// Where the next chunk begins, by `database.table`, in hexadecimal.
    pub cursors: BTreeMap<String, String>,
    /// The keys of rows that could not be judged or mended yet, by `database.table`, in
    /// hexadecimal: they are looked at again at the end of the table.
    pub deferred: BTreeMap<String, Vec<String>>,
    /// By which columns and key each table is compared, by `database.table`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shapes: BTreeMap<String, String>,
    /// The number of the target's session that holds the link's lock for it.
    #[serde(default)]
    pub session: u32,
}

/// What must be the same when a run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    pub link: String,
    pub tables: Vec<String>,
    pub mends: bool,
    pub dry_run: bool,
    /// Whole tables are copied anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

impl Settings {
    pub(crate) fn of(link: &str, config: &RepairConfig) -> Self {
        Self {
            link: link.to_owned(),
            tables: config.tables.clone(),
            mends: config.mode == RepairMode::Repair,
            dry_run: config.dry_run,
            anew: config.mode == RepairMode::Rebuild,
        }
    }
}

/// What became of a row that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is mended in this run, or the quota is used up.
    Found,
    /// A person decides.
    Held,
    /// What would be done.
    Planned,
    /// It could not be mended.
    Failed,
    /// It was mended.
    Repaired,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Found => "Found",
            Self::Held => "Held",
            Self::Planned => "Planned",
            Self::Failed => "Failed",
            Self::Repaired => "Repaired",
        }
    }
}

/// A row that differs.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub kind: Kind,
    /// Its key for people.
    pub row: String,
    /// The names of the columns that differ.
    pub columns: Vec<String>,
    pub fate: Fate,
    /// Why it was not mended.
    pub reason: String,
    /// What mends it, as SQL.
    pub statement: String,
    /// What was done, so that it can be undone.
    pub body: Option<Vec<u8>>,
}

impl State {
    pub(crate) fn new(settings: Settings, epoch: u64) -> Self {
        Self {
            settings,
            epoch,
            phase: RepairPhase::Running,
            message: String::new(),
            report: RepairReport::default(),
            recorded: 0,
            cursors: BTreeMap::new(),
            deferred: BTreeMap::new(),
            shapes: BTreeMap::new(),
            session: 0,
        }
    }

    pub(crate) fn table(&mut self, name: &str) -> &mut TableReport {
        self.report.tables.entry(name.to_owned()).or_default()
    }

    /// Counts a row that differs.
    pub(crate) fn count(&mut self, table: &str, kind: Kind, fate: Fate) {
        let report = self.table(table);
        match kind {
            Kind::Missing => report.missing += 1,
            Kind::Extra => report.extra += 1,
            Kind::Differing => report.differing += 1,
        }
        match fate {
            Fate::Repaired => report.repaired += 1,
            Fate::Failed => report.failed += 1,
            Fate::Found | Fate::Held | Fate::Planned => {}
        }
    }

    /// Tells what would mend a row, if it is one of the first of a dry run.
    pub(crate) fn tell(&mut self, finding: &Finding) {
        let told = &mut self.report.statements;
        if finding.fate == Fate::Planned && told.len() < MOST_STATEMENTS {
            told.push(cut(finding.statement.clone(), TOLD));
        }
    }

    /// Where the next chunk of a table begins; empty: at its first row.
    pub(crate) fn cursor(&self, table: &str) -> Result<Option<Bytes>, RepairError> {
        let text = self.cursors.get(table);
        text.map(|text| place(table, text)).transpose()
    }

    /// The rows of a table that are to be looked at again.
    pub(crate) fn deferred(&self, table: &str) -> Result<Vec<Bytes>, RepairError> {
        let texts = self.deferred.get(table).into_iter().flatten();
        texts.map(|text| place(table, text)).collect()
    }

    pub(crate) fn set_deferred(&mut self, table: &str, keys: &[Bytes]) {
        if keys.is_empty() {
            self.deferred.remove(table);
        } else {
            let texts = keys.iter().map(|key| to_hex(key)).collect();
            self.deferred.insert(table.to_owned(), texts);
        }
    }

    pub(crate) fn set_cursor(&mut self, table: &str, cursor: Option<&Bytes>) {
        match cursor {
            Some(cursor) => {
                self.cursors.insert(table.to_owned(), to_hex(cursor));
            }
            None => {
                self.cursors.remove(table);
            }
        }
    }

    /// What the whole has come to.
    pub(crate) fn outcome(&self) -> RepairPhase {
        let open = |table: &TableReport| !table.refused.is_empty() || table.unjudged > 0;
        if self.report.tables.values().any(open) {
            RepairPhase::Incomplete
        } else {
            RepairPhase::Done
        }
    }
}

/// A statement for people; nobody reads megabytes.
pub(crate) fn cut(statement: String, most: usize) -> String {
    match statement.char_indices().nth(most) {
        Some((at, _)) => format!("{}... (cut after {most} characters)", &statement[..at]),
        None => statement,
    }
}

fn place(table: &str, text: &str) -> Result<Bytes, RepairError> {
    from_hex(text)
        .map(Bytes::from)
        .ok_or_else(|| RepairError::Unreadable {
            what: format!("the run's place in {table} in multiactive.repair_runs"),
            reason: "it is not hexadecimal".to_owned(),
        })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

const RUNS: &str = "multiactive.repair_runs at the target";

fn failed(doing: &'static str) -> impl Fn(mysql_async::Error) -> RepairError {
    move |error| RepairError::driver(format!("{doing} {RUNS}"), None, error)
}

fn unreadable(error: impl std::fmt::Display) -> RepairError {
    RepairError::Unreadable {
        what: RUNS.to_owned(),
        reason: error.to_string(),
    }
}

/// How far a run is, if it was begun.
pub(crate) async fn read(conn: &mut Conn, run: &str) -> Result<Option<State>, RepairError> {
    let text: Option<String> = conn
        .exec_first(
            "SELECT state FROM multiactive.repair_runs WHERE run = ?",
            (run,),
        )
        .await
        .map_err(failed("reading"))?;
    text.map(|text| serde_json::from_str(&text).map_err(unreadable))
        .transpose()
}

/// The run of a link that a session of the target carries out.
pub(crate) async fn of_session(
    conn: &mut Conn,
    link: &str,
    session: u32,
) -> Result<Option<Holder>, RepairError> {
    // Nobody else writes to the runs of a link meanwhile, so its row is among the last ones.
    let rows: Vec<(String, String)> = conn
        .exec(
            "SELECT CAST(run AS CHAR), state FROM multiactive.repair_runs WHERE link = ? \
             ORDER BY at DESC LIMIT 10",
            (link,),
        )
        .await
        .map_err(failed("reading"))?;
    let mut runs = rows.into_iter().filter_map(|(run, text)| {
        // One of another release is none that can be told.
        let state: State = serde_json::from_str(&text).ok()?;
        let paused = state.phase == RepairPhase::Paused;
        (state.session == session).then_some(Holder { run, paused })
    });
    Ok(runs.next())
}

/// What a person wants of a run.
pub(crate) async fn control(conn: &mut Conn, run: &str) -> Result<RepairControl, RepairError> {
    let text: Option<String> = conn
        .exec_first(
            "SELECT CAST(control AS CHAR) FROM multiactive.repair_runs WHERE run = ?",
            (run,),
        )
        .await
        .map_err(failed("reading"))?;
    Ok(match text.as_deref() {
        Some("Pause") => RepairControl::Pause,
        Some("Stop") => RepairControl::Stop,
        _ => RepairControl::Run,
    })
}

/// Keeps how far a run is, in the open transaction if there is one.
pub(crate) async fn save(conn: &mut Conn, run: &str, state: &State) -> Result<(), RepairError> {
    let text = serde_json::to_string(state).map_err(unreadable)?;
    conn.exec_drop(
        "INSERT INTO multiactive.repair_runs (run, link, state, at) \
         VALUES (?, ?, ?, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE state = VALUES(state), at = VALUES(at)",
        (run, state.settings.link.as_str(), text),
    )
    .await
    .map_err(failed("writing to"))
}

/// Keeps what was found, in the open transaction if there is one.
pub(crate) async fn add(
    conn: &mut Conn,
    run: &str,
    pair: &Pair,
    finding: &Finding,
) -> Result<(), RepairError> {
    conn.exec_drop(
        "INSERT INTO multiactive.repairs (run, `database`, `table`, kind, `row`, `columns`, state, \
         reason, statement, body, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
        (
            run,
            pair.database(),
            pair.table(),
            finding.kind.name(),
            finding.row.as_str(),
            finding.columns.join(", "),
            finding.fate.name(),
            finding.reason.as_str(),
            finding.statement.as_str(),
            finding.body.as_deref(),
        ),
    )
    .await
    .map_err(|error| {
        RepairError::driver("writing to multiactive.repairs at the target", None, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let settings = Settings {
            link: "shop/sh-bj".into(),
            tables: vec![],
            mends: true,
            dry_run: false,
            anew: false,
        };
        State::new(settings, 3)
    }

    #[test]
    fn a_place_survives_the_row() {
        let mut state = state();
        let cursor = Bytes::from_static(b"\0\xff7");
        state.set_cursor("shop.t", Some(&cursor));
        state.count("shop.t", Kind::Extra, Fate::Repaired);
        let text = serde_json::to_string(&state).unwrap();
        let mut read: State = serde_json::from_str(&text).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.cursor("shop.t").unwrap(), Some(cursor));
        assert_eq!(read.cursor("shop.u").unwrap(), None);
        read.set_cursor("shop.t", None);
        assert_eq!(read.cursor("shop.t").unwrap(), None);
        let keys = vec![Bytes::from_static(b"\x01"), Bytes::from_static(b"\x02")];
        read.set_deferred("shop.t", &keys);
        assert_eq!(read.deferred("shop.t").unwrap(), keys);
        read.set_deferred("shop.t", &[]);
        assert!(read.deferred("shop.t").unwrap().is_empty());
        read.cursors.insert("shop.t".into(), "0g".into());
        assert!(read.cursor("shop.t").is_err());
    }

    #[test]
    fn the_first_statements_of_a_dry_run_are_told() {
        let finding = |fate, statement: &str| Finding {
            kind: Kind::Extra,
            row: String::new(),
            columns: vec![],
            fate,
            reason: String::new(),
            statement: statement.to_owned(),
            body: None,
        };
        let mut state = state();
        state.tell(&finding(Fate::Found, "DELETE 0"));
        assert!(state.report.statements.is_empty());
        state.tell(&finding(Fate::Planned, &"é".repeat(TOLD + 1)));
        let told = format!("{}... (cut after {TOLD} characters)", "é".repeat(TOLD));
        assert_eq!(state.report.statements, [told]);
        for _ in 0..MOST_STATEMENTS {
            state.tell(&finding(Fate::Planned, "DELETE 1"));
        }
        assert_eq!(state.report.statements.len(), MOST_STATEMENTS);
    }

    #[test]
    fn what_could_not_be_judged_is_not_done() {
        let mut state = state();
        assert_eq!(state.outcome(), RepairPhase::Done);
        state.count("shop.t", Kind::Missing, Fate::Found);
        assert_eq!(state.outcome(), RepairPhase::Done);
        state.table("shop.t").unjudged = 1;
        assert_eq!(state.outcome(), RepairPhase::Incomplete);
        state.table("shop.t").unjudged = 0;
        state.table("shop.u").refused = "it has no key".into();
        assert_eq!(state.outcome(), RepairPhase::Incomplete);
    }
}
