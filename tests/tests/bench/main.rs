//! The data plane's speed beside that of the server's own replication, in one run, on one machine
//! and the same data.
//!
//! A program of its own, started by `cargo xtask bench`. Three servers of one engine: the source,
//! the target of a link (the shipped syncer and writer), and a target of the server's own
//! replication. A work is done by both targets, one after the other and each time in the other
//! order; meanwhile the other one is stopped. After each work both targets must equal the source.
//!
//! The map: [`rig`] is the three servers, [`link`] the product's processes, [`works`] what is
//! measured, [`figure`] what came of it.

mod figure;
mod link;
mod options;
mod rig;
mod works;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use harness::Engine;

use figure::Report;
use options::Options;
use rig::Rig;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Options::parse(&words).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut report = Report::new(options);
    let outcome = runtime.block_on(async {
        for engine in &options.engines {
            measure(options, *engine, &mut report)
                .await
                .with_context(|| format!("measuring {}", engine.name()))?;
        }
        anyhow::Ok(())
    });
    // What was measured before something failed is worth seeing.
    println!("\n{}", report.table());
    outcome?;
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(())
}

async fn measure(options: &Options, engine: Engine, report: &mut Report) -> Result<()> {
    let mut rig = Rig::start(engine, options).await?;
    for work in &options.works {
        let figures = work.measure(&mut rig, options).await;
        report.add(figures.with_context(|| format!("the work `{}`", work.name()))?);
    }
    report.add(rig.memory());
    Ok(())
}
