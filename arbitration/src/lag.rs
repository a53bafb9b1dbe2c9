//! The lag guard: how far a candidate was behind when the old primary was last known to live.

use model::{Intent, UnitState, Versioned};

use crate::Now;
use crate::automatic::holder_boots_fenced;
use crate::bid::has_fence_proof;
use crate::core::Core;
use crate::signals::noticed_after;

impl Core {
    pub(crate) fn note_life(&mut self, now: Now) {
        let lives = self.holder_elsewhere_lives();
        if self.holder_lived && !lives && self.evidence.is_some() {
            self.evidence = Some(now.at);
        }
        self.holder_lived = lives;
    }

    /// How far this member was behind when the primary was last known to live, if that is allowed;
    /// else why not, with the figures.
    pub(crate) fn forced_lag(
        &self,
        now: Now,
        state: &UnitState,
        intent: &Versioned<Intent>,
    ) -> Result<u64, String> {
        let doc = self
            .doc()
            .ok_or_else(|| "the unit was deleted".to_owned())?;
        let epoch = state.epoch.as_ref().map(|epoch| &epoch.value);
        let holder = epoch.map_or("the primary".to_owned(), |epoch| epoch.idc.to_string());
        let missed = self.missed_an_epoch(state);
        let own = epoch.is_some_and(|epoch| epoch.idc == self.me);
        let lag = if own && !missed {
            Some(0)
        } else {
            self.lag(now, state)
        };
        if intent.value.allow_data_loss {
            return Ok(lag.unwrap_or_default());
        }
        if !own && !holder_boots_fenced(state) && !has_fence_proof(state) {
            return Err(format!(
                "the server of {holder} was not seen to start read_only, so it may take writes \
                 beside the new primary when it comes back. Bring it back, so that its arbiter \
                 fences it; or see to it that it stays off, and then: mactl failover \
                 --allow-data-loss"
            ));
        }
        if let Some(count) = self.not_in_line() {
            return Err(format!(
                "{count} transactions that {} committed under an ended epoch are nowhere else, and \
                 were not taken back yet. Let the link to it finish (see its status); to promote it \
                 all the same, with those and without what it lacks: mactl failover \
                 --allow-data-loss",
                self.me
            ));
        }
        if !self.copied_by().is_empty() {
            return Err(format!(
                "link {} still copies tables to {}, so rows are missing there. Let it finish (see its \
                 status), or promote another member; to promote this one all the same, without them: \
                 mactl failover --allow-data-loss",
                self.copied_by().join(", "),
                self.me
            ));
        }
        if missed {
            return Err(format!(
                "{} has received a later epoch than etcd knows of, and what its holder wrote last may \
                 be missing here. Promote the member that held it (the last one in \
                 multiactive.epoch), or accept the loss: mactl failover --allow-data-loss",
                self.me
            ));
        }
        let bound = doc.value.failover.max_lag_millis;
        let way_out = "Repair the link or bring the old primary back; to promote all the same and \
             accept the loss: mactl failover --allow-data-loss";
        match lag {
            Some(lag) if lag <= bound => Ok(lag),
            Some(lag) => Err(format!(
                "{} was {lag} ms behind {holder} when that was last known to live, more than \
                 failover.maxLag of {bound} ms. {way_out}",
                self.me
            )),
            None => Err(format!(
                "{} has never received a heartbeat of {holder}, so nobody knows what it lacks. \
                 {way_out}",
                self.me
            )),
        }
    }

    /// How far this member was behind when the primary was last known to live, in milliseconds;
    /// `None` if nobody knows.
    pub(crate) fn lag(&self, now: Now, state: &UnitState) -> Option<u64> {
        let fenced = self.catch_up_position().map(|(_, position)| position);
        let caught_up = fenced.is_some() && self.caught_up == fenced;
        if caught_up || self.was_holder(state) || self.held_a_forgotten_epoch(state) {
            return Some(0);
        }
        self.lag_at_last_evidence(now, state)
    }

    /// The age that the newest heartbeat of the old primary had here when that primary was last
    /// known to live. An arbiter that saw no sign of life itself counts up to now, which is never
    /// less.
    fn lag_at_last_evidence(&self, now: Now, state: &UnitState) -> Option<u64> {
        let (seen_at, seen) = self.member.seen.as_ref()?;
        let heartbeat = seen_at.minus(seen.lag_millis?);
        let holder = state.primary.as_ref().map(|primary| &primary.value.idc);
        let reachable = holder
            .and_then(|holder| state.members.get(holder))
            .is_some_and(|record| record.value.reachable);
        let check = self.doc().map(|doc| &doc.value.heartbeat);
        let vacancy = self.vacancy.as_ref().filter(|_| state.vacated.is_none());
        let last_sign = match (vacancy, self.evidence) {
            // The key went with its lease: the last sign was the last keep-alive.
            (Some(vacancy), _) => vacancy.renewed_by,
            (None, Some(evidence)) if !reachable => evidence.minus(check.map_or(0, noticed_after)),
            _ => now.at,
        };
        // The holder's own arbiter says that ordinary writes fail: there have been none since. What
        // others cannot reach may well go on accepting writes, and then the lag goes on growing.
        let began = self
            .renounced_since
            .map(|since| since.minus(check.map_or(0, noticed_after)));
        let last_sign = began.map_or(last_sign, |began| began.min(last_sign));
        // A holder that was promised time may have gone on writing until the promise's end.
        let promised = self.promised_to_wait_until().map(|until| until.min(now.at));
        let last_sign = promised.map_or(last_sign, |until| until.max(last_sign));
        Some(last_sign.since(heartbeat))
    }
}
