//! Which objects are to be looked at again: one queue a kind, fed by all watches.

use crds::{DataRepair, Idc, Switchover, SyncLink, Unit};
use futures::Stream;
use futures::stream::poll_fn;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use model::{IdcName, LinkKey, UnitKey};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// An object to be looked at again. Whether it exists is seen then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An Idc.
    Idc(String),
    /// A Unit: namespace and name.
    Unit(String, String),
    /// A SyncLink: namespace and name.
    Link(String, String),
    /// A Switchover: namespace and name.
    Switchover(String, String),
    /// A DataRepair: namespace and name.
    Repair(String, String),
}

impl Target {
    /// An Idc.
    pub fn idc(name: &IdcName) -> Self {
        Self::Idc(name.to_string())
    }

    /// A Unit.
    pub fn unit(key: &UnitKey) -> Self {
        Self::Unit(key.namespace().to_owned(), key.name().to_owned())
    }

    /// A SyncLink.
    pub fn link(key: &LinkKey) -> Self {
        Self::Link(key.namespace().to_owned(), key.name().to_owned())
    }

    /// The custom resource that owns this object, if one of ours does.
    pub fn owner_of<K: Resource>(object: &K) -> Option<Self> {
        let namespace = object.namespace().unwrap_or_default();
        object.owner_references().iter().find_map(|owner| {
            if !owner.api_version.starts_with(crds::GROUP) {
                return None;
            }
            let name = owner.name.clone();
            match owner.kind.as_str() {
                "Idc" => Some(Self::Idc(name)),
                "Unit" => Some(Self::Unit(namespace.clone(), name)),
                "SyncLink" => Some(Self::Link(namespace.clone(), name)),
                "DataRepair" => Some(Self::Repair(namespace.clone(), name)),
                _ => None,
            }
        })
    }
}

/// The sending ends.
#[derive(Debug, Clone)]
pub struct Queues {
    idcs: UnboundedSender<ObjectRef<Idc>>,
    units: UnboundedSender<ObjectRef<Unit>>,
    links: UnboundedSender<ObjectRef<SyncLink>>,
    switchovers: UnboundedSender<ObjectRef<Switchover>>,
    repairs: UnboundedSender<ObjectRef<DataRepair>>,
}

/// The receiving ends, one a controller.
#[derive(Debug)]
pub struct Inboxes {
    /// Idcs.
    pub idcs: UnboundedReceiver<ObjectRef<Idc>>,
    /// Units.
    pub units: UnboundedReceiver<ObjectRef<Unit>>,
    /// SyncLinks.
    pub links: UnboundedReceiver<ObjectRef<SyncLink>>,
    /// Switchovers.
    pub switchovers: UnboundedReceiver<ObjectRef<Switchover>>,
    /// DataRepairs.
    pub repairs: UnboundedReceiver<ObjectRef<DataRepair>>,
}

/// Empty queues. They need no bound: their scheduler holds each object once at most.
pub fn queues() -> (Queues, Inboxes) {
    let (idcs, idc_inbox) = unbounded_channel();
    let (units, unit_inbox) = unbounded_channel();
    let (links, link_inbox) = unbounded_channel();
    let (switchovers, switchover_inbox) = unbounded_channel();
    let (repairs, repair_inbox) = unbounded_channel();
    (
        Queues {
            idcs,
            units,
            links,
            switchovers,
            repairs,
        },
        Inboxes {
            idcs: idc_inbox,
            units: unit_inbox,
            links: link_inbox,
            switchovers: switchover_inbox,
            repairs: repair_inbox,
        },
    )
}

impl Queues {
    /// Asks that objects be looked at again. Once the controllers have ended this does nothing.
    pub fn send(&self, targets: impl IntoIterator<Item = Target>) {
        for target in targets {
            let sent = match target {
                Target::Idc(name) => self.idcs.send(ObjectRef::new(&name)).is_ok(),
                Target::Unit(space, name) => self
                    .units
                    .send(ObjectRef::new(&name).within(&space))
                    .is_ok(),
                Target::Link(space, name) => self
                    .links
                    .send(ObjectRef::new(&name).within(&space))
                    .is_ok(),
                Target::Switchover(space, name) => self
                    .switchovers
                    .send(ObjectRef::new(&name).within(&space))
                    .is_ok(),
                Target::Repair(space, name) => self
                    .repairs
                    .send(ObjectRef::new(&name).within(&space))
                    .is_ok(),
            };
            if !sent {
                tracing::debug!("a trigger came after the controllers had ended");
            }
        }
    }
}

/// An inbox as the stream that a controller's scheduler takes.
pub fn requests<K>(
    mut inbox: UnboundedReceiver<ObjectRef<K>>,
) -> impl Stream<Item = Result<ReconcileRequest<K>, std::convert::Infallible>>
where
    K: Resource<DynamicType = ()> + 'static,
{
    poll_fn(move |context| {
        inbox
            .poll_recv(context)
            .map(|request| request.map(|object| Ok(object.into())))
    })
}
