//! The syncer alone: decoding, encoding, compressing, and the transport's TLS, for a client that
//! does nothing but count.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use change::sync::PullRequest;
use change::sync::sync_client::SyncClient;
use change::{Flavor, Frame, MAX_PACKET_BYTES, PacketDecoder, Position};
use harness::{Engine, report};
use tonic::Streaming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::catch_up::{ROWS, make_bulk_table, write_bulk};
use crate::figure::{Figure, Goal, Measured};
use crate::link::LINK;
use crate::options::Options;
use crate::rig::{Rig, Side};

/// Transactions that are read.
const TRANSACTIONS: u32 = 5_000;
/// Nothing that comes takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Rows a second of processor time, of the rows of the bulk inserts.
pub async fn measure(rig: &mut Rig, options: &Options) -> Result<Vec<Figure>> {
    let transactions = options.scaled(TRANSACTIONS);
    make_bulk_table(rig).await?;
    let from = position(rig)?;
    write_bulk(rig, transactions).await?;
    for side in [Side::Ours, Side::Theirs] {
        rig.wait_marked(side).await?;
    }
    // A syncer serves one writer at a time, so the link's own is stopped.
    rig.stop_side(Side::Ours, "syncer alone, behind")?;
    let (mut rates, mut rates_on_the_clock) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (rate, on_the_clock) = read(rig, &from, transactions * ROWS).await?;
        rates.push(rate);
        rates_on_the_clock.push(on_the_clock);
    }
    rig.start_side(Side::Ours)?;
    rig.both_follow().await?;
    rig.check_equal()?;
    let engine = rig.engine.name();
    Ok(vec![
        Figure {
            name: format!("syncer alone, rows a second a core, {engine}"),
            unit: "rows/s",
            measured: Measured::Alone(rates),
            goal: Goal::AtLeast(250_000.0),
        },
        Figure {
            name: format!("syncer alone, rows a second on the clock, {engine}"),
            unit: "rows/s",
            measured: Measured::Alone(rates_on_the_clock),
            goal: Goal::None,
        },
    ])
}

fn position(rig: &Rig) -> Result<Position> {
    let (sql, flavor) = match rig.engine {
        Engine::MySql => (
            "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')",
            Flavor::MySql,
        ),
        Engine::MariaDb => ("SELECT @@GLOBAL.gtid_binlog_pos", Flavor::MariaDb),
    };
    let text = rig.source()?.value(harness::Account::Root, sql)?;
    Ok(Position::parse(flavor, &text)?)
}

/// Reads everything from a position, in which there must be so many rows and the mark. Rows a
/// second of the syncer's processor time, and on the clock.
async fn read(rig: &mut Rig, from: &Position, rows: u32) -> Result<(f64, f64)> {
    let mut syncer = rig.link.syncer()?;
    let outcome = count(rig, from, u64::from(rows) + 1, &syncer).await;
    let (seconds, on_the_clock) = outcome.with_context(|| syncer.describe())?;
    let peak = syncer.peak_memory()?;
    let name = format!("syncer, alone, {}", rig.engine.name());
    let most = rig.link.peaks.entry(name).or_default();
    *most = most.max(peak);
    syncer.end()?;
    report::note(&format!(
        "syncer alone: {seconds:.2} s of processor time, {on_the_clock:.2} s on the clock"
    ));
    Ok((f64::from(rows) / seconds, f64::from(rows) / on_the_clock))
}

async fn count(
    rig: &Rig,
    from: &Position,
    wanted: u64,
    syncer: &crate::link::Process,
) -> Result<(f64, f64)> {
    let mut client =
        SyncClient::new(channel(rig).await?).max_decoding_message_size(MAX_PACKET_BYTES);
    let (before, since) = (syncer.processor_seconds()?, Instant::now());
    let request = PullRequest::of(LINK.to_owned(), Some(from), 1, &[]);
    let mut stream: Streaming<_> = client.pull(request).await?.into_inner();
    let mut decoder = PacketDecoder::new()?;
    let mut found = 0;
    while found < wanted {
        let packet = tokio::time::timeout(LIMIT, stream.message())
            .await
            .context("nothing came")??
            .context("the stream ended")?;
        for frame in decoder.decode(packet)? {
            match frame {
                Frame::Transaction(transaction) => found += transaction.change_count(),
                Frame::Halt(halt) => anyhow::bail!("{}: {}", halt.reason, halt.message),
                _ => {}
            }
        }
    }
    ensure!(found == wanted, "{found} changes came, not {wanted}");
    let after = syncer.processor_seconds()?;
    Ok((after - before, since.elapsed().as_secs_f64()))
}

async fn channel(rig: &Rig) -> Result<Channel> {
    let read = |name: &str| std::fs::read(rig.link.tls().join(name));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")?))
        .identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
        .domain_name("transport.multiactive");
    let url = format!("https://{}", rig.link.address);
    let endpoint = Channel::from_shared(url)?.tls_config(tls)?;
    let since = Instant::now();
    // It may still be starting.
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) if since.elapsed() > LIMIT => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
