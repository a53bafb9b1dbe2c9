//! Knowing that the link has caught up with a moment of the source.
//!
//! A fence is a small logged change of the source's, in `multiactive.fence`. Whatever was committed
//! and visible before it lies before it in the source's binlog too (as for the snapshot's marks:
//! `binlog_order_commits` on MySQL, always so on MariaDB). So once the target's checkpoint contains
//! the source's position after the fence, the target has all of that. Reading the position alone
//! would not do: MySQL shows a transaction's rows a moment before it adds its GTID to
//! `gtid_executed`.
//!
//! The source may also hold what was born elsewhere: before it became the primary it was a copy
//! itself. Links carry only what was born in their source, so that came to the target by another
//! link, which may be behind, or may have lost its source for good. So a fence is passed only when
//! the target has applied of every other IDC what the source has.

use std::time::{Duration, Instant};

use change::{Flavor, Position};
use model::LinkConfig;
use mysql::origin::only_born_here;
use mysql::session::{Engine, Session, SessionOptions};
use mysql_async::prelude::Queryable as _;

use crate::error::RepairError;

/// So often the checkpoint is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Raises fences at the source and sees the target's checkpoint pass them.
pub(crate) struct Fence {
    source: Session,
    target: Session,
    link: LinkConfig,
    /// The last one that was raised to measure the lag, and when.
    open: Option<(Mark, Instant)>,
    /// What was lacking when the last one was waited for in vain, for people; empty: it was passed.
    pub waited_for: String,
}

/// A moment of the source.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// What was born there.
    own: Position,
    /// What it has applied of others, by IDC; the target's own is left out.
    others: Vec<(String, Position)>,
}

/// The link's row in `multiactive.applied`.
struct Applied {
    position: Option<Position>,
    /// The tables that are still being copied.
    copying: Vec<String>,
}

impl Fence {
    /// Opens two sessions.
    pub(crate) async fn connect(
        source: &SessionOptions,
        target: &SessionOptions,
        link: &LinkConfig,
    ) -> Result<Self, RepairError> {
        Ok(Self {
            source: source.connect().await?,
            target: target.connect().await?,
            link: link.clone(),
            open: None,
            waited_for: String::new(),
        })
    }

    /// Refuses a link that has not begun, or still copies tables.
    pub(crate) async fn check_streams(&mut self) -> Result<(), RepairError> {
        match self.check_begun().await? {
            None => Ok(()),
            Some(table) => Err(RepairError::Refused(format!(
                "link {} still copies {table}; wait until it streams",
                self.link.link
            ))),
        }
    }

    /// Refuses a link that has not begun. Returns a table that it still copies, if there is one.
    pub(crate) async fn check_begun(&mut self) -> Result<Option<String>, RepairError> {
        let applied = self.applied().await?;
        if applied.as_ref().is_none_or(|row| row.position.is_none()) {
            return Err(RepairError::Refused(format!(
                "link {} has not begun, so its ends cannot be compared; wait until it streams",
                self.link.link
            )));
        }
        Ok(applied.and_then(|row| row.copying.into_iter().next()))
    }

    /// Raises a fence and returns the moment after it.
    pub(crate) async fn raise(&mut self) -> Result<Mark, RepairError> {
        let doing = "writing to multiactive.fence at the source";
        let failed = |error| RepairError::driver(doing, None, error);
        let conn = &mut self.source.conn;
        conn.exec_drop(
            "INSERT INTO multiactive.fence (link, number, at) VALUES (?, 1, UTC_TIMESTAMP(6)) \
             ON DUPLICATE KEY UPDATE number = number + 1, at = VALUES(at)",
            (self.link.link.to_string(),),
        )
        .await
        .map_err(failed)?;
        let (sql, flavor) = match self.source.engine() {
            Engine::MySql => ("SELECT @@GLOBAL.gtid_executed", Flavor::MySql),
            Engine::MariaDb => ("SELECT @@GLOBAL.gtid_binlog_pos", Flavor::MariaDb),
        };
        let text: Option<String> = self.source.conn.query_first(sql).await.map_err(failed)?;
        let position = Position::parse(flavor, &text.unwrap_or_default())
            .map_err(|error| unreadable("the source's position", error))?;
        Ok(Mark {
            own: only_born_here(&position, &self.link.origins),
            others: others(&mut self.source, &self.link, true).await?,
        })
    }

    /// Waits until the target has everything up to a fence; false if it has not in time.
    pub(crate) async fn wait(
        &mut self,
        fence: &Mark,
        deadline: Instant,
    ) -> Result<bool, RepairError> {
        loop {
            let Some(waits_for) = self.waits_for(fence).await? else {
                self.waited_for.clear();
                return Ok(true);
            };
            if Instant::now() >= deadline {
                self.waited_for = waits_for;
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Through where the target has applied the link's source.
    pub(crate) async fn through(&mut self) -> Result<Option<Position>, RepairError> {
        Ok(self.applied().await?.and_then(|row| row.position))
    }

    /// How far the link is behind: the age of a fence that it has not passed.
    pub(crate) async fn lag(&mut self) -> Result<Duration, RepairError> {
        if let Some((fence, raised)) = self.open.clone()
            && !self.has(&fence.own).await?
        {
            return Ok(raised.elapsed());
        }
        let raised = Instant::now();
        self.open = Some((self.raise().await?, raised));
        Ok(Duration::ZERO)
    }

    async fn has(&mut self, fence: &Position) -> Result<bool, RepairError> {
        let applied = self.applied().await?;
        let position = applied.and_then(|row| row.position);
        Ok(position.is_some_and(|position| position.contains(fence)))
    }

    /// What the target has not got yet of what is before a fence, for people.
    async fn waits_for(&mut self, fence: &Mark) -> Result<Option<String>, RepairError> {
        let has_own = self.has(&fence.own).await?;
        let (source, target) = (&self.link.source.idc, &self.link.target.idc);
        if !has_own {
            let own = format!("{target} has not applied what {source} had committed by then");
            return Ok(Some(own));
        }
        if fence.others.is_empty() {
            return Ok(None);
        }
        let found = others(&mut self.target, &self.link, false).await?;
        Ok(lacking(&found, &fence.others).map(|idc| {
            format!(
                "{target} has not applied what {source} has from {idc}; see the link from {idc} to \
                 {target}"
            )
        }))
    }

    async fn applied(&mut self) -> Result<Option<Applied>, RepairError> {
        let doing = "reading multiactive.applied at the target";
        let row: Option<(String, Option<String>, Option<String>)> = self
            .target
            .conn
            .exec_first(
                "SELECT CAST(source AS CHAR), CAST(position AS CHAR), CAST(snapshot AS CHAR) \
                 FROM multiactive.applied WHERE link = ?",
                (self.link.link.to_string(),),
            )
            .await
            .map_err(|error| RepairError::driver(doing, None, error))?;
        let Some((source, position, snapshot)) = row else {
            return Ok(None);
        };
        if source != self.link.source.idc.as_str() {
            return Err(unreadable(
                "the link's row in multiactive.applied",
                format!("its source is {source}"),
            ));
        }
        let flavor = match self.source.engine() {
            Engine::MySql => Flavor::MySql,
            Engine::MariaDb => Flavor::MariaDb,
        };
        let position = position
            .map(|text| Position::parse(flavor, &text))
            .transpose()
            .map_err(|error| unreadable("the link's position in multiactive.applied", error))?;
        let copying = snapshot
            .map(|text| mysql::copies::unfinished(&text))
            .transpose()
            .map_err(|error| unreadable("the link's snapshot in multiactive.applied", error))?
            .unwrap_or_default();
        Ok(Some(Applied { position, copying }))
    }
}

/// What a server has applied of IDCs that are at neither end, each with what was born there. `data`: only
/// through the newest of it that changed data, where that is known: heartbeats that one end alone has got
/// of a member that is gone concern no row.
async fn others(
    session: &mut Session,
    link: &LinkConfig,
    data: bool,
) -> Result<Vec<(String, Position)>, RepairError> {
    let rows: Vec<(String, String, Option<String>)> = session
        .conn
        .exec(
            "SELECT CAST(source AS CHAR), CAST(position AS CHAR), \
             JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.newest.within')) FROM multiactive.applied \
             WHERE position IS NOT NULL AND position <> '' AND source NOT IN (?, ?)",
            (link.source.idc.as_str(), link.target.idc.as_str()),
        )
        .await
        .map_err(|error| RepairError::driver("reading multiactive.applied", None, error))?;
    // Nothing comes any more of an IDC that is no member any more.
    let is_member = |idc: &str| link.origins.iter().any(|member| member.as_str() == idc);
    rows.into_iter()
        .filter(|(idc, ..)| is_member(idc))
        .map(|(idc, position, newest)| {
            let text = newest.filter(|_| data).unwrap_or(position);
            let position: Position = text
                .parse()
                .map_err(|error| unreadable("a position in multiactive.applied", error))?;
            Ok((idc, only_born_here(&position, &link.origins)))
        })
        .collect()
}

/// The first IDC of which less was found than is wanted.
fn lacking<'a>(found: &[(String, Position)], wanted: &'a [(String, Position)]) -> Option<&'a str> {
    let has = |idc: &str, wanted: &Position| {
        wanted.is_empty()
            || found
                .iter()
                .any(|(of, found)| of == idc && found.contains(wanted))
    };
    let mut lacking = wanted.iter().filter(|(idc, wanted)| !has(idc, wanted));
    lacking.next().map(|(idc, _)| idc.as_str())
}

fn unreadable(what: &str, reason: impl std::fmt::Display) -> RepairError {
    RepairError::Unreadable {
        what: what.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_elsewhere_must_have_come_to_both() {
        let of = |rows: &[(&str, &str)]| -> Vec<(String, Position)> {
            let parse = |(idc, text): &(&str, &str)| ((*idc).to_owned(), text.parse().unwrap());
            rows.iter().map(parse).collect()
        };
        let wanted = of(&[("gz", "0-3-7")]);
        let has = |found: &[_], wanted: &[_]| lacking(found, wanted).is_none();
        assert!(has(&[], &[]));
        assert!(has(&of(&[("gz", "0-3-7")]), &wanted));
        assert!(has(&of(&[("tj", "0-4-1"), ("gz", "0-3-9")]), &wanted));
        assert!(!has(&of(&[("gz", "0-3-6")]), &wanted));
        assert!(!has(&of(&[("tj", "0-3-9")]), &wanted));
        assert!(!has(&[], &wanted));
    }
}
