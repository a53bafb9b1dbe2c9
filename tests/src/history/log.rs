//! One line an attempt, as applications write them.

use super::{Attempt, Outcome, WriteId};

/// The line of an attempt.
pub fn line(attempt: &Attempt) -> String {
    let (outcome, said) = match &attempt.outcome {
        Outcome::Acknowledged => ('A', "-"),
        Outcome::Refused => ('R', "-"),
        Outcome::Unknown => ('U', "-"),
        Outcome::Wrong(said) => ('W', said.as_str()),
    };
    let total = attempt
        .total
        .map_or_else(|| "-".to_owned(), |total| total.to_string());
    format!(
        "{} {} {} {} {} {} {outcome} {total} {}\n",
        attempt.id.client,
        attempt.id.number,
        attempt.member,
        u8::from(attempt.counted),
        attempt.sent,
        attempt.ended,
        said.replace(['\n', '\r'], " ")
    )
}

/// Reads a line; `None` if it is none of ours.
pub fn parse(line: &str) -> Option<Attempt> {
    let mut words = line.trim_end_matches('\n').splitn(9, ' ');
    let mut word = || words.next();
    let (client, number) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let member = word()?.to_owned();
    let counted = word()? == "1";
    let (sent, ended) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let (outcome, total) = (word()?, word()?.parse().ok());
    let said = word()?.to_owned();
    Some(Attempt {
        id: WriteId { client, number },
        member,
        counted,
        sent,
        ended,
        outcome: match outcome {
            "A" => Outcome::Acknowledged,
            "R" => Outcome::Refused,
            "U" => Outcome::Unknown,
            "W" => Outcome::Wrong(said),
            _ => return None,
        },
        total,
    })
}
