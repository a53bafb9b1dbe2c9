//! How far links have applied here, as their rows in `applied` say.

use change::{Flavor, Position};
use model::{IdcName, PositionText};

use super::row::Answer;
use super::{ControlError, ControlSession};

const DOING: &str = "read what was applied";

/// The checkpoint of every link into this server.
pub(super) const APPLIED_ROWS: &str = "SELECT link, source, position, \
     JSON_UNQUOTE(JSON_EXTRACT(ledger, '$.newest.within')) FROM multiactive.applied ORDER BY link";

/// One link's row in `applied`.
#[derive(PartialEq, Eq)]
pub(super) struct Checkpoint {
    link: String,
    position: Position,
    /// What of it changed data last; `None` where nothing has, or that is not known.
    newest: Option<Position>,
}

impl ControlSession {
    /// Whether everything up to a position of another member has been applied here, by every link
    /// that comes from it. False where no link does.
    pub async fn applied_through(
        &mut self,
        source: &IdcName,
        position: &PositionText,
    ) -> Result<bool, ControlError> {
        let mut sets = self.query(DOING, APPLIED_ROWS).await?;
        let rows = if sets.is_empty() {
            Vec::new()
        } else {
            sets.swap_remove(0)
        };
        let checkpoints = self.checkpoints(rows, source)?;
        let Some(wanted) = self.parse(&position.0)? else {
            // Nothing was ever committed there.
            return Ok(true);
        };
        let through = checkpoints
            .iter()
            .all(|checkpoint| checkpoint.position.contains(&wanted));
        Ok(through && !checkpoints.is_empty())
    }

    /// What every link from an IDC has applied here, out of the rows of [`APPLIED_ROWS`]; `None`
    /// where that is nothing, or no position of one of them.
    pub(super) fn applied_from(
        &self,
        rows: Vec<mysql_async::Row>,
        source: &IdcName,
    ) -> Result<Option<PositionText>, ControlError> {
        let checkpoints = self.checkpoints(rows, source)?;
        Ok(least(&checkpoints)
            .filter(|position| !position.is_empty())
            .map(|position| PositionText(position.to_string())))
    }

    pub(super) fn checkpoints(
        &self,
        rows: Vec<mysql_async::Row>,
        source: &IdcName,
    ) -> Result<Vec<Checkpoint>, ControlError> {
        let answer = Answer {
            doing: DOING,
            endpoint: &self.endpoint,
        };
        let mut checkpoints = Vec::new();
        for mut row in rows {
            let link: String = answer.value(&mut row, 0, "link")?;
            let of: String = answer.value(&mut row, 1, "source")?;
            let text: Option<String> = answer.value(&mut row, 2, "position")?;
            if of != source.as_str() {
                continue;
            }
            // A link that has applied nothing counts with the empty position of either engine.
            let position = self
                .parse(text.as_deref().unwrap_or_default())?
                .unwrap_or_else(|| Position::empty(Flavor::MySql));
            let newest: Option<String> = answer.value(&mut row, 3, "newest data")?;
            let newest = self.parse(newest.as_deref().unwrap_or_default())?;
            checkpoints.push(Checkpoint {
                link,
                position,
                newest,
            });
        }
        Ok(checkpoints)
    }

    fn parse(&self, text: &str) -> Result<Option<Position>, ControlError> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|source| ControlError::Position {
                endpoint: self.endpoint.clone(),
                source,
            })
    }

    pub(super) fn applied_of(
        &self,
        checkpoints: &[Checkpoint],
        source: &IdcName,
    ) -> Result<Option<PositionText>, ControlError> {
        match least(checkpoints) {
            Some(position) if position.is_empty() => Ok(None),
            Some(position) => Ok(Some(PositionText(position.to_string()))),
            None if checkpoints.is_empty() => Ok(None),
            None => Err(ControlError::CheckpointsDiverge {
                endpoint: self.endpoint.clone(),
                source_idc: source.to_string(),
                links: checkpoints
                    .iter()
                    .map(|c| c.link.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// The newest data that the link from a source has applied; `None` where there is none, or it is not
/// known: then all that was applied is needed.
pub(super) fn newest(checkpoints: &[Checkpoint]) -> Option<String> {
    match checkpoints {
        [one] => one.newest.as_ref().map(ToString::to_string),
        _ => None,
    }
}

/// What every one of several links from one source has applied, if that is one of their positions.
fn least(checkpoints: &[Checkpoint]) -> Option<&Position> {
    checkpoints
        .iter()
        .map(|checkpoint| &checkpoint.position)
        .find(|position| {
            checkpoints
                .iter()
                .all(|other| other.position.contains(position))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(texts: &[&str]) -> Vec<Checkpoint> {
        let one = |text: &&str| Checkpoint {
            link: "a/b".to_owned(),
            position: if text.is_empty() {
                Position::empty(Flavor::MySql)
            } else {
                text.parse().unwrap()
            },
            newest: None,
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn the_least_of_several_links_counts() {
        let of = |texts: &[&str]| least(&checkpoints(texts)).map(ToString::to_string);
        assert_eq!(of(&["0-1-5"]).as_deref(), Some("0-1-5"));
        assert_eq!(of(&["0-1-5", "0-1-3"]).as_deref(), Some("0-1-3"));
        assert_eq!(of(&["0-1-5", ""]).as_deref(), Some(""));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["0-1-5,1-1-1", "0-1-3,1-1-2"]), None);
    }
}
