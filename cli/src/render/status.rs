//! The topology as a tree, problems first.

use crds::LinkPhase;
use jiff::Timestamp;
use model::MemberRole;

use super::{Table, ago, count, instant, millis, so_long};
use crate::terminal::Paint;
use crate::view::{
    Gravity, IdcView, LinkView, MemberView, Problem, StatusView, UnitPhase, UnitView,
};

/// The whole topology; `wide` adds positions, processes and links that are as they should be.
pub fn status(view: &StatusView, wide: bool, paint: Paint) -> String {
    let mut text = problems(&view.problems, view.at, paint);
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&paint.strong("IDCs"));
    text.push('\n');
    if view.idcs.is_empty() {
        text.push_str("  none\n");
    }
    let mut table = Table::default();
    for (index, idc) in view.idcs.iter().enumerate() {
        table.row(idc_cells(
            idc,
            branch(index, view.idcs.len()),
            wide,
            view.at,
            paint,
        ));
    }
    text.push_str(&table.text());
    text.push('\n');
    text.push_str(&paint.strong("Units"));
    text.push('\n');
    if view.units.is_empty() {
        text.push_str("  none\n");
    }
    for one in &view.units {
        text.push_str(&unit(one, wide, view.at, paint));
    }
    if wide {
        text.push_str(&paint.dim(&format!(
            "\nread from {} at {}",
            view.source,
            instant(view.at)
        )));
        text.push('\n');
    }
    text
}

/// What is wrong, worst first. Empty if nothing is.
pub fn problems(problems: &[Problem], now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    if problems.is_empty() {
        return text;
    }
    text.push_str(&paint.strong("Problems"));
    text.push('\n');
    for problem in problems {
        let mark = match problem.gravity {
            Gravity::Critical => paint.bad("✗"),
            Gravity::Warning => paint.warn("!"),
        };
        let mut lines = problem.message.lines();
        let first = lines.next().unwrap_or_default();
        let since = problem
            .since
            .map(|at| paint.dim(&format!(" [{}]", so_long(at, now))))
            .unwrap_or_default();
        text.push_str(&format!(
            "{mark} {}: {first}{since}\n",
            paint.strong(&problem.object)
        ));
        for line in lines {
            text.push_str(&format!("    {line}\n"));
        }
        for step in &problem.next {
            text.push_str(&next_step(step, "    ", paint));
        }
    }
    text
}

/// A next step, its further lines under its first.
pub fn next_step(step: &str, indent: &str, paint: Paint) -> String {
    let mut text = String::new();
    for (index, line) in step.lines().enumerate() {
        let lead = if index == 0 { "next: " } else { "      " };
        text.push_str(&format!("{indent}{lead}{}\n", paint.command(line)));
    }
    text
}

fn branch(index: usize, of: usize) -> &'static str {
    if index + 1 == of {
        "└─ "
    } else {
        "├─ "
    }
}

fn idc_cells(idc: &IdcView, branch: &str, wide: bool, now: Timestamp, paint: Paint) -> Vec<String> {
    let heard = idc.last_heartbeat.map(|at| ago(at, now));
    let arbiter = match (idc.arbiter_alive, heard) {
        (Some(true), _) => paint.good("arbiter alive"),
        (Some(false), Some(heard)) => paint.bad(&format!("arbiter silent, last heard of {heard}")),
        (Some(false), None) => paint.bad("arbiter silent"),
        (None, _) => paint.warn("arbiter unknown"),
    };
    let primaries = match idc.primaries {
        0 => String::new(),
        number => format!("primary of {}", count(number, "Unit")),
    };
    let mut cells = vec![
        format!("{branch}{}", paint.strong(idc.name.as_str())),
        format!("{:?}", idc.role),
    ];
    cells.extend([arbiter, primaries]);
    if wide {
        cells.push(idc.version.clone().unwrap_or_default());
        cells.push(idc.holder.clone().unwrap_or_default());
        cells.push(idc.message.clone());
    }
    cells
}

/// One Unit with its members and what is to be said of its links.
pub fn unit(unit: &UnitView, wide: bool, now: Timestamp, paint: Paint) -> String {
    let phase = match unit.phase {
        UnitPhase::Ready => paint.good(unit.phase.word()),
        UnitPhase::NoPrimary | UnitPhase::Unknown => paint.bad(unit.phase.word()),
        _ => paint.warn(unit.phase.word()),
    };
    let primary = match &unit.primary {
        Some(idc) => format!("primary {}", paint.strong(idc.as_str())),
        None => paint.bad("no primary"),
    };
    let mut text = format!(
        "{}  {phase}  {primary}  epoch {}\n",
        paint.strong(&unit.unit.to_string()),
        unit.epoch
    );
    let mut remarks = Vec::new();
    remarks.extend(unit.under_way.as_ref().map(super::transition::under_way));
    remarks.extend(
        unit.links
            .iter()
            .filter_map(|link| link_line(link, wide, paint)),
    );
    if let (true, Some(last)) = (wide, &unit.last_transition) {
        remarks.push(super::transition::last_transition(last, now));
    }
    let total = unit.members.len() + remarks.len();
    let mut table = Table::default();
    for (index, member) in unit.members.iter().enumerate() {
        table.row(member_cells(member, branch(index, total), wide, paint));
    }
    text.push_str(&table.text());
    for (index, remark) in remarks.iter().enumerate() {
        text.push_str(branch(unit.members.len() + index, total));
        text.push_str(remark);
        text.push('\n');
    }
    text
}

fn member_cells(member: &MemberView, branch: &str, wide: bool, paint: Paint) -> Vec<String> {
    let primary = member.role == MemberRole::Primary;
    let role = match member.role {
        MemberRole::Primary => "Primary",
        MemberRole::Replica => "Replica",
        MemberRole::Unknown => "Unknown",
    };
    let access = match (member.reachable, member.writable) {
        (_, Some(false)) if member.fence_order.is_some() => paint.warn("fenced"),
        (Some(false), _) => paint.bad("unreachable"),
        (_, Some(true)) if primary => paint.good("writable"),
        (_, Some(true)) => paint.bad("writable"),
        (_, Some(false)) if primary => paint.bad("read-only"),
        (_, Some(false)) => "read-only".to_owned(),
        (_, None) => paint.warn("not known"),
    };
    let lag = match (primary, member.lag_millis) {
        (true, _) => String::new(),
        (false, Some(lag)) if member.lag_at_most => format!("lag ≤ {}", millis(lag)),
        (false, Some(lag)) => format!("lag {}", millis(lag)),
        (false, None) => "lag ?".to_owned(),
    };
    let mut cells = vec![format!("{branch}{}", paint.strong(member.idc.as_str()))];
    cells.extend([role.to_owned(), access, lag, member.endpoint.clone()]);
    if wide {
        cells.push(format!("priority {}", member.priority));
        cells.push(
            member
                .position
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        );
    }
    cells
}

/// A link that needs attention, or any link when asked for everything.
fn link_line(link: &LinkView, wide: bool, paint: Paint) -> Option<String> {
    let streaming = link.phase == Some(LinkPhase::Streaming) && link.message.is_empty();
    let left = left(link);
    if streaming && left.is_empty() && !wide {
        return None;
    }
    let phase = match (link.suspended, link.phase) {
        (true, _) => paint.warn("Suspended"),
        (false, None) => paint.warn("not reported yet"),
        (false, Some(LinkPhase::Halted)) => paint.bad("Halted"),
        (false, Some(LinkPhase::Interrupted)) => paint.bad("Interrupted"),
        (false, Some(LinkPhase::Streaming)) => "Streaming".to_owned(),
        (false, Some(phase)) => paint.warn(&format!("{phase:?}")),
    };
    let lag = link
        .lag_millis
        // That of a link which stands still is of before.
        .filter(|_| {
            matches!(
                link.phase,
                Some(LinkPhase::Streaming | LinkPhase::CatchingUp)
            )
        })
        .map(|lag| format!("  lag {}", millis(lag)))
        .unwrap_or_default();
    let left: String = left.iter().map(|text| format!("  {text}")).collect();
    Some(format!(
        "link {} → {}  {phase}{lag}{left}",
        link.source, link.target
    ))
}

/// What a link leaves to a person while it goes on.
pub fn left(link: &LinkView) -> Vec<String> {
    let mut left = Vec::new();
    match link.skipped_open {
        None | Some(0) => {}
        Some(number) => left.push(format!("{} skipped", count(number, "transaction"))),
    }
    // The operator of an earlier release tells only of all that there ever were.
    match link.conflicts_held.unwrap_or(link.conflicts) {
        0 => {}
        number => left.push(format!("{} held as conflicts", count(number, "change"))),
    }
    left
}
