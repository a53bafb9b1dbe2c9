//! A link without a Unit: what an arbiter would look at, its writer looks at for itself.

mod around;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{Finding, LinkConfig, Severity, TableSelection};
use mysql::link_end::{prepare, subject};
use mysql::preflight::{MemberFacts, Subject, across};
use mysql::session::SessionOptions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checkpoint::Checkpoint;
use crate::error::WriterError;
use crate::status::Status;
use crate::stream::Syncer;
use around::{alike, copied_still, counted_apart, left_out, twice, unseen};

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
    ) -> Self {
        let (sender, words) = watch::channel(None);
        let look = async move || -> Result<(), WriterError> {
            let alone = Alone::prepare(&config, &options, &status).await?;
            let mut syncer = Syncer::connect(&address, &tls).await?;
            match alone {
                Some(alone) => {
                    alone
                        .compare(&config, &options, &mut syncer, &status, None)
                        .await
                }
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

    /// Waits until something stands against the link.
    pub(crate) async fn found(this: Option<&Self>) {
        if let Some(against) = this {
            let mut words = against.words.clone();
            if words.wait_for(Option::is_some).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
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

    /// Compares it with the source. `begins` is the checkpoint of a session that begins.
    ///
    /// # Errors
    /// [`WriterError::Preflight`] where something stands against the two together.
    pub(crate) async fn compare(
        mut self,
        config: &LinkConfig,
        options: &SessionOptions,
        syncer: &mut Syncer,
        status: &Status,
        begins: Option<&Checkpoint>,
    ) -> Result<(), WriterError> {
        let (facts, brings) = syncer.describe(config).await?;
        let source = (subject(config, &config.source), facts);
        self.findings.extend(folded(config, &source));
        self.findings.extend(folded(config, &self.target));
        self.findings.extend(unseen(config, &brings));
        self.findings.extend(counted_apart(config, &brings));
        self.findings.extend(begins.and_then(|checkpoint| {
            let copied = checkpoint.snapshot.done;
            copied_still(config, &brings, checkpoint.position.is_some(), copied)
        }));
        self.findings.extend(alike(config, &brings));
        self.findings.extend(left_out(config, &brings));
        match mysql::link_end::brings(options).await {
            Ok(at_target) => self.findings.extend(twice(config, &brings, &at_target)),
            // The session tells why the target does not answer.
            Err(error) => tracing::debug!(error, "what links bring to the target was not read"),
        }
        self.findings.extend(across(&[source, self.target]));
        status.found(&self.findings);
        refuse(&self.findings)
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

fn refuse(findings: &[Finding]) -> Result<(), WriterError> {
    let words = Severity::Blocking.words(findings);
    if words.is_empty() {
        Ok(())
    } else {
        Err(WriterError::Preflight(words))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use model::Route;

    use super::*;

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
