//! A link without a Unit: what an arbiter would look at, its writer looks at for itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{
    ConflictDetection, ConflictResolution, Finding, LinkConfig, LinkEnd, Severity, TableSelection,
};
use mysql::link_end::prepare;
use mysql::preflight::{MemberFacts, Role, Subject, across};
use mysql::session::SessionOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::WriterError;
use crate::status::Status;
use crate::stream::Syncer;

/// So often both ends are looked at again.
const AGAIN: Duration = Duration::from_secs(30);

/// What was found against a link while it runs.
pub(crate) struct Against {
    words: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Against {
    /// Looks at both ends of a link without a Unit again and again, beside its session. What does not
    /// answer is passed over: the session itself tells that.
    pub(crate) fn start(
        config: Arc<LinkConfig>,
        options: SessionOptions,
        (address, tls): (String, PathBuf),
        status: Status,
        relays: bool,
    ) -> Self {
        let (sender, words) = watch::channel(None);
        let look = async move || -> Result<(), WriterError> {
            let alone = Alone::prepare(&config, &options, &status).await?;
            let mut syncer = Syncer::connect(&address, &tls).await?;
            match alone {
                Some(alone) => alone.compare(&config, &mut syncer, &status, relays).await,
                None => Ok(()),
            }
        };
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                match look().await {
                    Err(WriterError::Preflight(found)) => {
                        sender.send_replace(Some(found));
                    }
                    Err(error) => tracing::debug!(%error, "the ends were not looked at again"),
                    Ok(()) => {}
                }
            }
        });
        Self { words, task }
    }

    /// # Errors
    /// [`WriterError::Preflight`] where something stands against the link by now.
    pub(crate) fn check(&self) -> Result<(), WriterError> {
        let words = self.words.borrow().clone();
        words.map_or(Ok(()), |words| Err(WriterError::Preflight(words)))
    }
}

impl Drop for Against {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The target, where nothing stands against it.
pub(crate) struct Alone {
    target: (Subject, MemberFacts),
    findings: Vec<Finding>,
}

impl Alone {
    /// Looks at the target, and makes the schema there; `None` for a link of a Unit.
    ///
    /// # Errors
    /// [`WriterError::Preflight`] where something stands against it.
    pub(crate) async fn prepare(
        config: &LinkConfig,
        options: &SessionOptions,
        status: &Status,
    ) -> Result<Option<Self>, WriterError> {
        if config.unit.is_some() {
            return Ok(None);
        }
        let subject = Subject {
            databases: databases_at_target(&config.databases, &config.tables),
            ..subject(config, &config.target)
        };
        let report = prepare(options, &subject).await;
        // What stands between the two servers is told until they are compared again.
        if let Err(error) = refuse(&report.findings) {
            status.found(&report.findings);
            return Err(error);
        }
        Ok(report.facts.map(|facts| Self {
            target: (subject, facts),
            findings: report.findings,
        }))
    }

    /// Compares it with the source. `relays` says that the link has handed on all that others ever
    /// brought to the source.
    ///
    /// # Errors
    /// [`WriterError::Preflight`] where something stands against the two together.
    pub(crate) async fn compare(
        mut self,
        config: &LinkConfig,
        syncer: &mut Syncer,
        status: &Status,
        relays: bool,
    ) -> Result<(), WriterError> {
        let (facts, brought_from) = syncer.describe(config).await?;
        let source = (subject(config, &config.source), facts);
        self.findings.extend(folded(config, &source));
        self.findings.extend(folded(config, &self.target));
        self.findings.extend(unseen(config, &brought_from));
        self.findings
            .extend(left_out(config, &brought_from, relays));
        self.findings.extend(across(&[source, self.target]));
        status.found(&self.findings);
        refuse(&self.findings)
    }
}

fn subject(config: &LinkConfig, end: &LinkEnd) -> Subject {
    Subject {
        idc: end.idc.clone(),
        endpoint: end.endpoint.clone(),
        databases: config.databases.clone(),
        members: config.origins.len(),
        role: Role::LinkEnd,
    }
}

/// Where routes lead, and what may have tables that none of them takes elsewhere.
fn databases_at_target(databases: &[String], tables: &TableSelection) -> Vec<String> {
    let database = |pattern: &str| {
        let (database, _) = pattern.split_once('.').unwrap_or((pattern, ""));
        database.to_owned()
    };
    let routed = |pattern: &str| tables.routes.iter().any(|route| route.from == pattern);
    let keeps = |name: &&String| {
        let mut included = tables.include.iter().filter(|pattern| {
            let of = database(pattern);
            of == **name || of.contains('*')
        });
        tables.include.is_empty() || included.any(|pattern| !routed(pattern))
    };
    let own = databases.iter().filter(keeps).cloned();
    let led_to = tables.routes.iter().map(|route| database(&route.to));
    let all: BTreeSet<String> = own.chain(led_to).collect();
    all.into_iter().collect()
}

/// Names that mean one table in capitals and in small letters are told apart in routes.
fn folded(config: &LinkConfig, (subject, facts): &(Subject, MemberFacts)) -> Option<Finding> {
    let route = config.tables.routes.first()?;
    (facts.lower_case_table_names != 0).then(|| Finding {
        severity: Severity::Blocking,
        check: "RoutesFoldCase".to_owned(),
        object: subject.to_string(),
        message: format!(
            "lower_case_table_names is {}, and the link has routes (from {} to {}), in which capitals \
             and small letters are told apart",
            facts.lower_case_table_names, route.from, route.to
        ),
        fix: "remove spec.tables.routes".to_owned(),
    })
}

/// Whatever manifests say: a link that runs the other way has a row at the source.
fn unseen(config: &LinkConfig, brought_from: &[String]) -> Option<Finding> {
    let target = config.target.idc.as_str();
    let opposite = brought_from.iter().any(|source| source == target);
    let conflicts = &config.conflicts;
    let blind = conflicts.detect == ConflictDetection::Key
        || (conflicts.resolve == ConflictResolution::SourceWins && !conflicts.both_write);
    (opposite && blind).then(|| Finding {
        severity: Severity::Blocking,
        check: "OppositeLink".to_owned(),
        object: format!("link {}", config.link),
        message: format!(
            "a link from {target} to {} keeps a row in multiactive.applied there, so both may be \
             written to, and by conflicts.detect {:?} and resolve {:?} a row that both changed would \
             be overwritten",
            config.source.idc, conflicts.detect, conflicts.resolve
        ),
        fix: "set conflicts.detect: BeforeImage and resolve: Hold or Halt; or, if that link is no more, \
              delete its row there"
            .to_owned(),
    })
}

/// What other links bring to the source is not born there: a link that does not relay leaves it out.
fn left_out(config: &LinkConfig, brought_from: &[String], relays: bool) -> Option<Finding> {
    let target = config.target.idc.as_str();
    let source = &config.source.idc;
    let others = brought_from.iter().filter(|from| *from != target);
    let others: Vec<&str> = others.map(String::as_str).collect();
    if others.is_empty() || (config.relay && relays) {
        return None;
    }
    let others = others.join(", ");
    let (message, fix) = if config.relay {
        (
            format!(
                "it began without relay: true, and left out what links brought to {source} from {others} \
                 before"
            ),
            format!(
                "empty its tables at {target}, remove its row from multiactive.applied there, and it \
                 copies them anew"
            ),
        )
    } else {
        (
            format!(
                "links from {others} keep a row in multiactive.applied at {source}, and what they bring \
                 there this link would leave out"
            ),
            format!(
                "set relay: true, which hands it on, before the first of them begins; or, if those links \
                 are no more, delete their rows at {source}"
            ),
        )
    };
    Some(Finding {
        severity: Severity::Blocking,
        check: "LeftOut".to_owned(),
        object: format!("link {}", config.link),
        message,
        fix,
    })
}

fn refuse(findings: &[Finding]) -> Result<(), WriterError> {
    let blocking = |finding: &&Finding| finding.severity == Severity::Blocking;
    let words = findings.iter().filter(blocking).map(ToString::to_string);
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        Ok(())
    } else {
        Err(WriterError::Preflight(words.join(" ")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use model::Route;

    use super::*;

    #[test]
    fn a_link_hands_on_what_others_bring_or_says_that_it_does_not() {
        let checks = |relay: bool, relays: bool, from: &[&str]| {
            let end =
                |idc: &str| serde_json::json!({"idc": idc, "endpoint": {"host": idc, "port": 1}});
            let config = serde_json::json!({
                "link": "shop/a", "source": end("sh"), "target": end("bj"), "relay": relay,
                "origins": [], "databases": ["orders"], "compression": "Zstd", "ddl": "Apply",
                "tables": {"include": [], "exclude": [], "routes": []},
                "snapshot": {"mode": "IfEmpty", "chunkBytes": 1},
                "apply": {"consistency": "Transactional", "maxRows": 1, "lingerMillis": 5},
            });
            let config: LinkConfig = serde_json::from_value(config).unwrap();
            let from: Vec<String> = from.iter().map(ToString::to_string).collect();
            left_out(&config, &from, relays).map(|finding| finding.message)
        };
        for relay in [false, true] {
            assert_eq!(checks(relay, false, &[]), None);
            assert_eq!(checks(relay, false, &["bj"]), None);
        }
        assert_eq!(checks(true, true, &["bj", "gz"]), None);
        let told = checks(false, false, &["bj", "gz"]).unwrap();
        assert!(told.contains("links from gz keep"), "{told}");
        let told = checks(true, false, &["gz"]).unwrap();
        assert!(told.contains("began without relay"), "{told}");
    }

    #[test]
    fn routes_lead_to_the_databases_that_are_looked_at() {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let at_target = |databases: &[&str], include: &[&str], routes: &[(&str, &str)]| {
            let routes = routes.iter().map(|(from, to)| Route {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
            });
            let tables = TableSelection {
                include: owned(include),
                exclude: Vec::new(),
                routes: routes.collect(),
            };
            databases_at_target(&owned(databases), &tables)
        };
        let route = [("a.t", "c.t")];
        assert_eq!(at_target(&["a", "b"], &[], &[]), ["a", "b"]);
        assert_eq!(at_target(&["a"], &[], &route), ["a", "c"]);
        assert_eq!(at_target(&["a", "b"], &["a.t", "b.*"], &route), ["b", "c"]);
        assert_eq!(at_target(&["a"], &["a.t", "a.u"], &route), ["a", "c"]);
        assert_eq!(at_target(&["a"], &["a.t", "*.u"], &route), ["a", "c"]);
        assert_eq!(at_target(&["a"], &["a.t"], &route), ["c"]);
    }
}
