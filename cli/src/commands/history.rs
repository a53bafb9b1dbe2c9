//! `history` and `receipt`.

use jiff::Timestamp;
use model::Epoch;

use super::Context;
use crate::args::{HistoryArgs, ReceiptArgs};
use crate::backend::Backend;
use crate::failure::{Exit, Failure};
use crate::render;

pub(super) async fn run(context: &Context, args: &HistoryArgs) -> Result<Exit, Failure> {
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let backend = Backend::connect(&context.kube, &args.etcd, &context.call).await?;
    let receipts = backend.receipts(&unit, &context.call).await?;
    super::show(
        args.output.output,
        &receipts,
        |wide| {
            if receipts.is_empty() {
                format!("Unit {unit} has had no primary yet.\n")
            } else {
                render::history(&receipts, wide, Timestamp::now())
            }
        },
        || {
            receipts
                .iter()
                .map(|receipt| receipt.epoch.to_string())
                .collect()
        },
    )?;
    backend_note(
        &backend,
        context,
        &format!("history {unit}"),
        args.output.output,
    );
    Ok(Exit::Done)
}

pub(super) async fn receipt(context: &Context, args: &ReceiptArgs) -> Result<Exit, Failure> {
    let unit = super::key(&args.unit, &crate::kubeconfig::namespace(&context.kube)?)?;
    let epoch = Epoch(args.epoch);
    let backend = Backend::connect(&context.kube, &args.etcd, &context.call).await?;
    let receipts = backend.receipts(&unit, &context.call).await?;
    let Some(found) = receipts.iter().find(|receipt| receipt.epoch == epoch) else {
        let known: Vec<String> = receipts
            .iter()
            .map(|receipt| receipt.epoch.to_string())
            .collect();
        let returned = match known.as_slice() {
            [] => format!("{} holds no receipt of this Unit", backend.source()),
            known => format!("there are receipts of the epochs {}", known.join(", ")),
        };
        let failure = Failure::failed(
            format!("Unit {unit} has no receipt of epoch {epoch}"),
            returned,
        )
        .next(context.call.own(&format!("history {unit}")));
        return Err(match &backend {
            Backend::Kube(_) => failure.next(format!(
                "etcd holds the last 100: {}",
                context.call.own_by_etcd(&format!("receipt {unit} {epoch}"))
            )),
            Backend::Etcd(_) => failure,
        });
    };
    super::show(
        args.output.output,
        found,
        |_| render::receipt(&unit, found, context.out),
        || vec![found.epoch.to_string()],
    )?;
    Ok(Exit::Done)
}

/// The Kubernetes API holds the transitions that were asked for and the last one; the full list is
/// in etcd. That is said, so that nobody takes the short list for the whole.
fn backend_note(backend: &Backend, context: &Context, words: &str, output: crate::args::Output) {
    if matches!(backend, Backend::Kube(_)) && !output.is_for_programs() {
        super::note(&format!(
            "{}\n",
            context.err.dim(&format!(
                "These are the last transition and those that were asked for by a Switchover. etcd \
                 holds the last 100: {}",
                context.call.own_by_etcd(words)
            ))
        ));
    }
}
