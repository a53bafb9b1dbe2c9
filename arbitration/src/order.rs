//! What people order, for as long as it stands: that a member stays fenced, and that automation is
//! held.
//!
//! An order is a key in etcd, so it binds whoever has seen it, and whoever takes over compares that
//! it has not come since. A member that a person has taken out is not elected, not chosen, and not
//! opened; a holder fences and releases as when votes tell it to. An order that etcd lost in a
//! restore is gone: whoever acknowledges that has to look at the members, and to give it again.

use model::{IdcName, Order, Revision, UnitState};

use crate::core::{Core, Plan};
use crate::event::Slot;

impl Core {
    /// Whether automation is held, by the Unit's document or by an order.
    pub(crate) fn is_paused(&self) -> bool {
        self.state.as_ref().is_some_and(UnitState::is_paused)
    }

    /// The order that takes this member out, as far as this process has seen.
    pub(crate) fn fence_order(&self) -> Option<&Order> {
        let order = self.state.as_ref()?.fence_orders.get(&self.me)?;
        Some(&order.value)
    }

    /// Whether an order keeps this member from being elected and opened.
    pub(crate) fn is_barred_by_order(&self) -> bool {
        self.rules.orders_bar && self.fence_order().is_some()
    }

    /// Whether an order makes this member fence and release what it holds.
    pub(crate) fn is_fenced_by_order(&self) -> bool {
        self.rules.orders_fence && self.fence_order().is_some()
    }

    /// A takeover takes effect only while no order stands against it.
    pub(crate) fn compare_orders(&self, plan: Plan, state: &UnitState) -> Plan {
        let pause = state.pause_order.as_ref().map(|order| order.revision);
        plan.compare(Slot::PauseOrder, pause.unwrap_or(Revision::ABSENT))
            .compare_if(
                self.rules.orders_bar,
                Slot::FenceOrder(self.me.clone()),
                Revision::ABSENT,
            )
    }
}

/// The holder of the current epoch was taken out: it does not come back by itself.
pub(crate) fn holder_is_taken_out(state: &UnitState) -> bool {
    let holder = state.epoch.as_ref().map(|epoch| &epoch.value.idc);
    holder.is_some_and(|holder| state.fence_orders.contains_key(holder))
}

/// Why a member cannot be where a request goes.
pub(crate) fn taken_out(state: &UnitState, idc: &IdcName) -> Option<String> {
    let order = &state.fence_orders.get(idc)?.value;
    Some(format!(
        "IDC {idc} was fenced {order}. Lift that first, if it may take writes again: mactl unfence"
    ))
}
