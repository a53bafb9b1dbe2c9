//! What the source has set aside: transactions that the target, or a third member, committed as the
//! primary of an epoch that had ended.

use change::sync::{FiledPiece, FiledReply, FiledRequest};
use change::{Flavor, Position};
use model::IdcName;
use mysql_async::prelude::Queryable;

use crate::error::PullError;
use crate::pull::Shared;

/// So many pieces are told at once; each is of a few MiB at most, unless one row is larger.
const PIECES: u32 = 8;
/// So many without their bodies.
const HEADS: u32 = 1000;

/// Reads a page, in a session of its own.
pub async fn read(shared: &Shared, request: &FiledRequest) -> Result<FiledReply, PullError> {
    let mut session = shared.source.connect().await?;
    let conn = &mut session.conn;
    let of = if request.of.is_empty() {
        shared.config.target.idc.clone()
    } else {
        IdcName::new(request.of.as_str())
            .map_err(|error| PullError::halt("Request", format!("whose transactions: {error}")))?
    };
    // The order matters: see `FiledReply.through`.
    let applied: Vec<Option<String>> = conn
        .exec(
            "SELECT CAST(position AS CHAR) FROM multiactive.applied WHERE source = ?",
            (of.as_str(),),
        )
        .await
        .map_err(PullError::query("reading multiactive.applied"))?;
    let through = positions(applied, &of)?;
    // What another member's promotion ended may be with that member.
    let here = shared.config.source.idc.as_str();
    let ended_here =
        "source = ? AND ended_by IN (SELECT epoch FROM multiactive.epoch WHERE idc = ?)";
    let what = "reading multiactive.stranded";
    let transactions: Option<u64> = conn
        .exec_first(
            format!("SELECT COUNT(DISTINCT gtid) FROM multiactive.stranded WHERE {ended_here}"),
            (of.as_str(), here),
        )
        .await
        .map_err(PullError::query(what))?;
    let undone: Option<u64> = conn
        .exec_first(
            "SELECT COUNT(*) FROM multiactive.undone WHERE filed_in = ? AND source IS NULL",
            (shared.config.target.idc.as_str(),),
        )
        .await
        .map_err(PullError::query("reading multiactive.undone"))?;
    let below = if request.below == 0 {
        u64::MAX
    } else {
        request.below
    };
    let (body, most) = if request.heads {
        ("''", HEADS)
    } else {
        ("body", PIECES)
    };
    let statement = format!(
        "SELECT seq, CAST(gtid AS CHAR), part, {body}, epoch, ended_by FROM multiactive.stranded \
         WHERE {ended_here} AND seq < ? ORDER BY seq DESC LIMIT {most}"
    );
    let rows: Vec<(u64, String, u32, Vec<u8>, u64, u64)> = conn
        .exec(statement, (of.as_str(), here, below))
        .await
        .map_err(PullError::query(what))?;
    let piece = |(number, gtid, part, body, epoch, ended_by)| FiledPiece {
        number,
        gtid,
        part,
        body: Vec::<u8>::into(body),
        epoch,
        ended_by,
    };
    Ok(FiledReply {
        through,
        transactions: transactions.unwrap_or(0),
        undone: undone.unwrap_or(0),
        pieces: rows.into_iter().map(piece).collect(),
        of: of.to_string(),
    })
}

/// The positions of the links from an IDC. One that has applied nothing is at the beginning.
fn positions(
    applied: Vec<Option<String>>,
    of: &IdcName,
) -> Result<Vec<change::sync::Position>, PullError> {
    let position = |text: Option<String>| {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return Ok(Position::empty(Flavor::MySql));
        }
        text.parse::<Position>().map_err(|error| {
            PullError::halt(
                "Position",
                format!("multiactive.applied of the source, for {of}: {error}"),
            )
        })
    };
    applied
        .into_iter()
        .map(|text| position(text).map(|position| (&position).into()))
        .collect()
}
