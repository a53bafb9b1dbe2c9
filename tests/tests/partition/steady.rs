//! How the rig's processes are, and waiting until all is well.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use model::{LinkPhase, WriterStatus};

use crate::parts;
use crate::rig::{Rig, until};

/// A link further behind than this, in milliseconds, is not steady.
const LAG: u64 = 2_500;

/// The body that an HTTP endpoint answers `/status` with.
fn status((host, port): (String, u16)) -> Result<String> {
    let address: SocketAddr = format!("{host}:{port}").parse()?;
    let patience = Duration::from_millis(1_000);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let request = "GET /status HTTP/1.1\r\nHost: rig\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok(body.to_owned())
}

impl Rig {
    pub fn writer_status(&self, from: &str, to: &str) -> Result<WriterStatus> {
        let body = status(parts::writer_status(&self.world, from, to)?)?;
        serde_json::from_str(&body).with_context(|| format!("{}: {body}", parts::writer(from, to)))
    }

    /// As it is, since it is only shown.
    pub fn arbiter_status(&self, idc: &str) -> Result<String> {
        status(parts::arbiter_status(&self.world, idc, false)?)
    }

    /// The member that holds an open primary and that nobody votes down, every arbiter having a
    /// session and every member being reached.
    pub async fn open_primary(&self) -> Result<Option<String>> {
        let state = self.state().await?;
        let idle = state
            .intent
            .as_ref()
            .is_none_or(|intent| intent.value.phase.is_final());
        let sessions = self
            .world
            .info()
            .idcs
            .iter()
            .all(|idc| state.sessions.keys().any(|it| it.as_str() == idc));
        let Some(primary) = state.primary.filter(|primary| primary.value.open) else {
            return Ok(None);
        };
        let primary = primary.value.idc.to_string();
        let members = self.data().all(|idc| {
            let mut members = state.members.iter();
            members.any(|(name, member)| {
                let member = &member.value;
                name.as_str() == idc
                    && member.reachable
                    && member.preflight_passed
                    && (member.fenced == (name.as_str() != primary))
            })
        });
        // Whoever was voted down a moment ago, for what has passed since, is told to give way.
        let unopposed = state.votes.is_empty();
        Ok((idle && sessions && members && unopposed).then_some(primary))
    }

    /// Waits until there is an open primary, everybody has a session and all links follow.
    /// Returns the primary.
    pub async fn steady(&self, limit: Duration) -> Result<String> {
        until("a primary, all members, all links", limit, async || {
            let Some(primary) = self.open_primary().await? else {
                return Ok(None);
            };
            for (from, to) in self.links() {
                let status = self.writer_status(from, to)?;
                ensure!(
                    status.phase == LinkPhase::Streaming
                        && status.error.is_empty()
                        && status.lag_millis.is_some_and(|lag| lag < LAG),
                    "link from {from} to {to}: {:?}, lag {:?} ms, {}",
                    status.phase,
                    status.lag_millis,
                    status.error
                );
            }
            Ok(Some(primary))
        })
        .await
    }
}
