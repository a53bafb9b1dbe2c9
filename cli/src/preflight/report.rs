//! What preflight found, and how it looks.

use model::{Finding, IdcName, Severity, UnitKey};
use serde::Serialize;

use crate::render::count;
use crate::terminal::Paint;

/// What preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What is wrong with the manifest's other objects.
    pub findings: Vec<Finding>,
    /// The Units that were checked.
    pub units: Vec<UnitReport>,
}

/// What was found of one Unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitReport {
    /// The Unit.
    pub unit: UnitKey,
    /// What is wrong with the Unit itself, or between its members.
    pub findings: Vec<Finding>,
    /// Its members.
    pub members: Vec<MemberReport>,
}

/// What was found of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// Its IDC.
    pub idc: IdcName,
    /// Host and port.
    pub endpoint: String,
    /// Engine and version; `None` if no session came about.
    pub server: Option<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// All findings, with their Units.
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .chain(self.units.iter().flat_map(UnitReport::all))
    }

    /// How many findings block.
    pub fn blocking(&self) -> u64 {
        self.findings()
            .filter(|finding| finding.severity == Severity::Blocking)
            .count() as u64
    }
}

impl UnitReport {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .chain(self.members.iter().flat_map(|member| &member.findings))
    }

    /// Whether anything blocks.
    pub fn blocks(&self) -> bool {
        self.all()
            .any(|finding| finding.severity == Severity::Blocking)
    }
}

/// The report for people.
pub fn render(report: &Report, paint: Paint) -> String {
    let mut text: String = report
        .findings
        .iter()
        .map(|finding| one(finding, paint))
        .collect();
    for unit in &report.units {
        text.push_str(&paint.strong(&format!("Unit {}", unit.unit)));
        text.push('\n');
        for finding in &unit.findings {
            text.push_str(&one(finding, paint));
        }
        for member in &unit.members {
            let state = match (&member.server, member.findings.len() as u64) {
                (None, _) => paint.bad("not looked at"),
                (Some(server), 0) => format!("{server}, {}", paint.good("all checks passed")),
                (Some(server), number) => {
                    format!("{server}, {}", paint.warn(&count(number, "finding")))
                }
            };
            let idc = paint.strong(member.idc.as_str());
            text.push_str(&format!("  member {idc} ({}): {state}\n", member.endpoint));
            for finding in &member.findings {
                text.push_str(&one(finding, paint));
            }
        }
    }
    let warnings = report.findings().count() as u64 - report.blocking();
    let verdict = match (report.blocking(), warnings) {
        (0, 0) => paint.good("Everything passed."),
        (0, warnings) => paint.warn(&format!("Nothing blocks; {}.", count(warnings, "warning"))),
        (blocking, 0) => paint.bad(&format!("{}.", blocks(blocking))),
        (blocking, warnings) => paint.bad(&format!(
            "{}; {}.",
            blocks(blocking),
            count(warnings, "warning")
        )),
    };
    text.push_str(&format!("{verdict} Nothing was changed.\n"));
    text
}

fn blocks(number: u64) -> String {
    match number {
        1 => "1 finding blocks".to_owned(),
        number => format!("{number} findings block"),
    }
}

fn one(finding: &Finding, paint: Paint) -> String {
    let mark = match finding.severity {
        Severity::Blocking => paint.bad("✗"),
        Severity::Warning => paint.warn("!"),
    };
    let mut text = format!("  {mark} {}: {}\n", finding.object, finding.message);
    for (index, line) in finding.fix.lines().enumerate() {
        let lead = if index == 0 { "fix: " } else { "     " };
        text.push_str(&format!("      {lead}{}\n", paint.command(line)));
    }
    text
}
