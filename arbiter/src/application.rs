//! The health of the application beside a member, asked by HTTP from the member's IDC.
//!
//! It is told to people and decides nothing (`docs/decisions/0007-http-probe.md`).

use std::time::Duration;

use model::{ApplicationCheck, IdcName};
use process::fetch::{self, Address};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Who asks, if anybody does, and what came of it.
#[derive(Debug)]
pub struct Application {
    check: Option<ApplicationCheck>,
    /// The one task that asks. It ends with this.
    asking: JoinSet<()>,
    told: watch::Sender<String>,
    news: watch::Receiver<String>,
}

impl Default for Application {
    fn default() -> Self {
        let (told, news) = watch::channel(String::new());
        Self {
            check: None,
            asking: JoinSet::new(),
            told,
            news,
        }
    }
}

impl Application {
    /// Asks by this check from now on.
    pub fn watch(&mut self, check: Option<&ApplicationCheck>, idc: &IdcName) {
        if self.check.as_ref() == check {
            return;
        }
        self.check = check.cloned();
        self.asking = JoinSet::new();
        self.told.send_replace(String::new());
        if let Some(check) = check {
            let ask = ask(check.clone(), idc.clone(), self.told.clone());
            self.asking.spawn(ask);
        }
    }

    /// Waits for news. Cancel it at any time.
    pub async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.news.changed().await;
    }

    /// Why it is not well, as part of a sentence; empty: it is, or nobody asks.
    pub fn trouble(&self) -> String {
        self.news.borrow().clone()
    }
}

async fn ask(check: ApplicationCheck, idc: IdcName, told: watch::Sender<String>) {
    let url = check.url.replace("{idc}", idc.as_str());
    let address = Address::parse(&url);
    let timeout = Duration::from_millis(check.timeout_millis);
    let mut health = Health::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(check.interval_millis.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match &address {
            Ok(address) => tokio::time::timeout(timeout, one(address)).await,
            Err(why) => Ok(Err(why.clone())),
        };
        let outcome =
            outcome.unwrap_or_else(|_| Err(format!("does not answer within {timeout:?}")));
        let outcome = outcome.map_err(|why| format!("{url} {why}"));
        let trouble = health.take(outcome, check.failures.max(1));
        told.send_if_modified(|told| {
            let changed = told.as_str() != trouble;
            if changed {
                trouble.clone_into(told);
            }
            changed
        });
    }
}

async fn one(address: &Address) -> Result<(), String> {
    let (status, _) = fetch::get(address, 0)
        .await
        .map_err(|error| error.to_string())?;
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("answers {status}"))
    }
}

/// How often in a row it answered, or did not.
#[derive(Debug, Default)]
struct Health {
    failed: u32,
    answered: u32,
    trouble: String,
}

impl Health {
    /// Takes an outcome, and says what is wrong, if anything is. It stays with the first cause.
    fn take(&mut self, outcome: Result<(), String>, enough: u32) -> &str {
        match outcome {
            Ok(()) => {
                self.failed = 0;
                self.answered = (self.answered + 1).min(enough);
                if self.answered == enough {
                    self.trouble.clear();
                }
            }
            Err(cause) => {
                self.answered = 0;
                self.failed = (self.failed + 1).min(enough);
                if self.failed == enough && self.trouble.is_empty() {
                    self.trouble = cause;
                }
            }
        }
        &self.trouble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_keeps_to_the_first_cause() {
        let mut health = Health::default();
        let failed = |cause: &str| Err(cause.to_owned());
        assert_eq!(health.take(failed("one"), 2), "");
        assert_eq!(health.take(Ok(()), 2), "");
        assert_eq!(health.take(failed("two"), 2), "");
        assert_eq!(health.take(failed("three"), 2), "three");
        assert_eq!(health.take(failed("four"), 2), "three");
        assert_eq!(health.take(Ok(()), 2), "three");
        assert_eq!(health.take(Ok(()), 2), "");
    }
}
