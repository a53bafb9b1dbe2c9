//! The application's own health, asked from the IDC of each member.

use std::time::Duration;

use anyhow::Result;
use model::ApplicationCheck;

use super::rig::{Rig, until, with_world};

#[test]
fn an_application_that_is_not_well_is_told_of() -> Result<()> {
    with_world(&async |world| {
        let mut rig = Rig::new(world, "applications").await?;
        rig.start_arbiters()?;
        // Nobody listens there.
        shows(
            &mut rig,
            "http://127.0.0.1:1/{idc}",
            "http://127.0.0.1:1/sh does not answer",
        )
        .await?;
        // Of HTTP, the arbiter in the same network serves something, and something else it does not.
        shows(&mut rig, "http://127.0.0.1:8080/healthz", "").await?;
        shows(&mut rig, "http://127.0.0.1:8080/nothing", "answers 404").await?;
        rig.stop_arbiters()
    })
}

/// Publishes a check and waits until the arbiter of `sh` says this of it: all of the words, or none.
async fn shows(rig: &mut Rig<'_>, url: &str, words: &str) -> Result<()> {
    rig.application = Some(ApplicationCheck {
        url: url.to_owned(),
        interval_millis: 100,
        timeout_millis: 500,
        failures: 3,
    });
    rig.publish(false).await?;
    let what = format!("{url} is told of as {words:?}");
    until(&what, Duration::from_secs(20), async || {
        let Ok(status) = rig.status("sh") else {
            return Ok(None);
        };
        let said = status.units.get(&rig.unit).map(|it| &it.application);
        let as_meant = |said: &&String| said.contains(words) && said.is_empty() == words.is_empty();
        Ok(said.filter(as_meant).map(drop))
    })
    .await
}
