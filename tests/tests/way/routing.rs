//! Watching `-rw` through every transition: it leads to whoever was announced as the open primary,
//! in the order in which they were, and to nobody else.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::World;
use harness::product::{NAMESPACE, UNIT};
use model::{IdcName, UnitKey};
use tokio_util::sync::CancellationToken;
use topology::{EtcdOptions, Topology};

/// The prefix of the chart's values.
const PREFIX: &str = "/multiactive/";

/// Somebody was open from then on, or nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    at: Instant,
    who: Option<IdcName>,
}

/// `-rw` led there from then on; empty: nowhere.
#[derive(Debug, Clone)]
struct Led {
    at: Instant,
    to: String,
}

/// Two watches, of etcd and of the endpoints, from its start to [`Self::finish`].
pub struct Watched {
    kubectl: Child,
    led: Receiver<Led>,
    cancel: CancellationToken,
    open: JoinHandle<Result<Vec<Open>>>,
}

impl Watched {
    /// Begins to watch. The Unit has a primary that `-rw` leads to.
    pub fn start(world: &World) -> Result<Self> {
        let mut kubectl = world.kubectl()?;
        let mut kubectl = kubectl
            .args(["--namespace", NAMESPACE, "get", "endpointslices", "--watch"])
            .arg(format!("--selector=kubernetes.io/service-name={UNIT}-rw"))
            .arg("--output=jsonpath={.endpoints[*].addresses[*]}{\"\\n\"}")
            .stdout(Stdio::piped())
            .spawn()
            .context("kubectl get --watch")?;
        let lines = BufReader::new(kubectl.stdout.take().context("no output")?).lines();
        let (sender, led) = mpsc::channel();
        std::thread::spawn(move || {
            for to in lines.map_while(Result::ok) {
                let at = Instant::now();
                // Nobody listens any more only after the end.
                let _ = sender.send(Led { at, to });
            }
        });
        let cancel = CancellationToken::new();
        let etcd = EtcdOptions::new(world.info().etcd.clone(), PREFIX, None);
        let until = cancel.clone();
        let open = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(watch_open(&etcd, &until))
        });
        Ok(Self {
            kubectl,
            led,
            cancel,
            open,
        })
    }

    /// Ends both watches and compares what they saw. Returns the longest time for which `-rw` led to
    /// a server that was not open any more.
    pub fn finish(mut self, host_of: impl Fn(&IdcName) -> Result<String>) -> Result<Duration> {
        // What happened last may be on its way.
        std::thread::sleep(Duration::from_secs(1));
        self.kubectl.kill()?;
        self.kubectl.wait()?;
        self.cancel.cancel();
        let open = self.open.join();
        let open = open.map_err(|_| anyhow::anyhow!("the watch of etcd panicked"))??;
        let led: Vec<Led> = self.led.iter().collect();
        ensure!(led.len() >= 2, "-rw was not seen to change: {led:?}");
        compare(&open, &led, host_of)
    }
}

async fn watch_open(etcd: &EtcdOptions, cancel: &CancellationToken) -> Result<Vec<Open>> {
    let topology = Topology::connect(etcd).await?;
    let unit = UnitKey::new(NAMESPACE, UNIT)?;
    let mut watch = topology.watch();
    let mut seen: Vec<Open> = Vec::new();
    while let Some(changes) = cancel.run_until_cancelled(watch.next()).await {
        // A list that missed a state would make an honest `-rw` look wrong.
        let listed = changes?.listed.is_some();
        ensure!(!listed || seen.is_empty(), "the watch of etcd began anew");
        let state = watch.state().unit(&unit);
        let primary = state.primary.map(|primary| primary.value);
        let who = primary.filter(|it| it.open).map(|it| it.idc);
        if seen.last().is_none_or(|last| last.who != who) {
            let at = Instant::now();
            seen.push(Open { at, who });
        }
    }
    Ok(seen)
}

/// `-rw` follows the announcements: never ahead of them, never back to an earlier one.
fn compare(
    open: &[Open],
    led: &[Led],
    host_of: impl Fn(&IdcName) -> Result<String>,
) -> Result<Duration> {
    let mut announced = 0;
    let mut stale = Duration::ZERO;
    for (number, here) in led.iter().enumerate().filter(|(_, led)| !led.to.is_empty()) {
        loop {
            let Some(now) = open.get(announced) else {
                anyhow::bail!(
                    "-rw led to {} when nobody there was open, or no more: {led:#?} {open:#?}",
                    here.to
                );
            };
            if let Some(idc) = &now.who
                && host_of(idc)? == here.to
            {
                break;
            }
            announced += 1;
        }
        let (Some(closed), Some(next)) = (open.get(announced + 1), led.get(number + 1)) else {
            continue;
        };
        if next.to != here.to {
            stale = stale.max(next.at.saturating_duration_since(closed.at));
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(open: &[&str], led: &[&str]) -> Result<Duration> {
        let at = Instant::now();
        let idc = |name: &&str| (!name.is_empty()).then(|| IdcName::new(*name).unwrap());
        let open: Vec<Open> = open
            .iter()
            .map(|name| Open { at, who: idc(name) })
            .collect();
        let to = |name: &&str| (*name).to_owned();
        let led: Vec<Led> = led.iter().map(|name| Led { at, to: to(name) }).collect();
        compare(&open, &led, |idc| Ok(idc.to_string()))
    }

    #[test]
    fn what_is_ahead_or_goes_back_is_noticed() {
        judged(&["sh", "", "bj"], &["sh", "", "bj"]).unwrap();
        judged(&["sh", "", "sh"], &["sh", "", "sh"]).unwrap();
        // A transition that was over before the operator looked.
        judged(&["sh", "", "bj", "", "sh"], &["sh", "", "sh"]).unwrap();
        judged(&["sh", "", "bj"], &["sh", "bj", "sh"]).unwrap_err();
        judged(&["sh", ""], &["sh", "", "bj"]).unwrap_err();
    }
}
