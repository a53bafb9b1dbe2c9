//! `status`.

use jiff::Timestamp;

use super::Context;
use crate::args::{Output, StatusArgs};
use crate::backend::{Backend, Scope, Snapshot};
use crate::diagnose;
use crate::failure::{Exit, Failure};
use crate::render;
use crate::view::StatusView;

pub(super) async fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Failure> {
    let call = &context.call;
    let scope = scope(context, args)?;
    let backend = Backend::connect(&context.kube, &args.etcd, call).await?;
    let Snapshot {
        idcs,
        units,
        hidden,
        operator_seen,
        notes,
    } = backend.snapshot(&scope, call).await?;
    let mut view = StatusView {
        source: backend.source(),
        at: Timestamp::now(),
        operator_seen,
        problems: Vec::new(),
        idcs,
        units,
    };
    view.problems = diagnose::problems(&view, call);
    let names = || {
        let units = view.units.iter();
        units
            .map(|unit| format!("unit.multiactive.dev/{}", unit.unit.name()))
            .collect()
    };
    let people = |wide| render::status(&view, wide, context.out);
    super::show(args.output.output, &view, people, names)?;
    for text in notes {
        super::note(&format!("{text}\n"));
    }
    if let (Scope::Namespace(namespace), true, false) = (
        &scope,
        view.units.is_empty(),
        args.output.output == Output::Name,
    ) && hidden > 0
    {
        let number = render::count(hidden as u64, "Unit");
        super::note(&format!(
            "No Unit in namespace {namespace}; {number} elsewhere: {}\n",
            call.own("status -A")
        ));
    }
    Ok(Exit::Done)
}

fn scope(context: &Context, args: &StatusArgs) -> Result<Scope, Failure> {
    let namespace = crate::kubeconfig::namespace(&context.kube)?;
    Ok(match &args.unit {
        Some(unit) => Scope::Unit(super::key(unit, &namespace)?),
        None if args.all_namespaces => Scope::All,
        None => Scope::Namespace(namespace),
    })
}
