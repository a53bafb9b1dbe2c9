//! Three members that are promoted in any order, however far behind they are, and links that are
//! delivered in any order: whoever has followed the primary to its end without halting is its equal.

use std::collections::{BTreeMap, BTreeSet};

use change::{Flavor, Gtid, Position};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::{Ahead, Aside, Brought, Excess, NewestData, Way};
use crate::epoch::{EpochRow, Epochs, Fate};

const MEMBERS: usize = 3;
const NAMES: [&str; MEMBERS] = ["sh", "bj", "gz"];

/// What is in a member's binlog and was born there.
#[derive(Debug, Clone)]
enum Entry {
    Heartbeat,
    Data,
    Epoch(EpochRow),
}

/// What a link has brought to its target.
#[derive(Debug, Clone, Default)]
struct Link {
    applied: usize,
    newest: Option<NewestData>,
    halted: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Member {
    /// With the epoch that each was committed under.
    log: Vec<(u64, Entry)>,
    epochs: Epochs,
    /// Whose data is here, by member and place in its log.
    data: BTreeSet<(usize, usize)>,
    /// The same, of what was set aside instead of being applied, and by which epoch.
    filed: BTreeMap<(usize, usize), u64>,
    /// The same, of what was taken back.
    undone: BTreeMap<(usize, usize), u64>,
    links: [Link; MEMBERS],
}

fn gtid(member: usize, place: usize) -> Gtid {
    let text = format!("{member}-{member}-{}", place + 1);
    text.parse().expect("a GTID")
}

fn position(member: usize, applied: usize) -> Position {
    let mut position = Position::empty(Flavor::MariaDb);
    if applied > 0 {
        position
            .add(&gtid(member, applied - 1))
            .expect("one flavor");
    }
    position
}

/// Whom an election may take.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Elected {
    /// Anybody: an operator that allows loss, in the worst moment.
    Anybody,
    /// Whoever has the most of the newest epoch.
    MostAdvanced,
}

struct World {
    members: [Member; MEMBERS],
    primary: Option<usize>,
    epoch: u64,
    elected: Elected,
    /// What is not looked at before the row of an epoch.
    without: Option<Part>,
}

/// What can stand before the row of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Unknown,
    Behind,
    Ahead,
    Own,
    Forked,
}

impl World {
    fn new(elected: Elected, without: Option<Part>) -> Self {
        let mut world = Self {
            members: Default::default(),
            primary: None,
            epoch: 0,
            elected,
            without,
        };
        world.promote(0);
        for to in 1..MEMBERS {
            world.deliver(0, to);
        }
        world
    }

    /// The epoch of a member's own data: that of its own newest row.
    fn own_epoch(&self, member: usize) -> u64 {
        let log = self.members[member].log.iter().rev();
        log.map(|(epoch, _)| *epoch).next().unwrap_or(0)
    }

    fn append(&mut self, member: usize, entry: Entry) -> usize {
        let epoch = match &entry {
            Entry::Epoch(row) => row.epoch,
            _ => self.own_epoch(member),
        };
        let log = &mut self.members[member].log;
        log.push((epoch, entry));
        log.len() - 1
    }

    fn write(&mut self) {
        if let Some(primary) = self.primary {
            let place = self.append(primary, Entry::Data);
            self.members[primary].data.insert((primary, place));
        }
    }

    /// How much a member has of the newest epoch, by its number and then by its holder's log.
    fn advance(&self, member: usize) -> (u64, usize) {
        let it = &self.members[member];
        let holder = NAMES
            .iter()
            .position(|name| Some(*name) == it.epochs.holder());
        let applied = holder.map_or(0, |holder| {
            if holder == member {
                it.log.len()
            } else {
                it.links[holder].applied
            }
        });
        (it.epochs.newest(), applied)
    }

    fn elect(&mut self, member: usize, promoted: bool) {
        let may = match self.elected {
            Elected::Anybody => true,
            Elected::MostAdvanced => {
                let newest = self.members.iter().map(|it| it.epochs.newest()).max();
                let others = (0..MEMBERS).filter(|it| Some(*it) != self.primary);
                let most = others.map(|it| self.advance(it)).max();
                most == Some(self.advance(member)) && newest == most.map(|(epoch, _)| epoch)
            }
        };
        if !may {
            return;
        }
        self.epoch += 1;
        self.primary = None;
        if promoted {
            self.promote(member);
        }
    }

    fn promote(&mut self, member: usize) {
        self.epoch += 1;
        let it = &self.members[member];
        let holder = NAMES
            .iter()
            .position(|name| Some(*name) == it.epochs.holder());
        let ended = holder
            .filter(|holder| *holder != member)
            .map(|holder| position(holder, it.links[holder].applied))
            .filter(|position| !position.is_empty());
        let newest = it.epochs.newest();
        let row = EpochRow {
            epoch: self.epoch,
            idc: NAMES[member].to_owned(),
            ended,
            follows: (newest > 0).then_some(newest),
            needs: holder
                .filter(|holder| *holder != member)
                .and_then(|holder| it.links[holder].newest.as_ref())
                .map(|newest| newest.within.clone()),
        };
        self.put(member, &row);
        self.append(member, Entry::Epoch(row));
        self.primary = Some(member);
    }

    fn put(&mut self, member: usize, row: &EpochRow) {
        let rows = &mut self.members[member].epochs.0;
        if rows.iter().all(|it| it.epoch != row.epoch) {
            rows.push(row.clone());
            rows.sort_by_key(|row| row.epoch);
        }
    }

    /// Delivers the next entry of a link. False if it has to wait, or there is none.
    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let link = &self.members[to].links[from];
        let place = link.applied;
        let Some((epoch, entry)) = self.members[from].log.get(place).cloned() else {
            return false;
        };
        if from == to || link.halted.is_some() {
            return false;
        }
        match entry {
            Entry::Heartbeat => {}
            Entry::Data => match self.data(from, to, epoch, place) {
                Ok(()) => {}
                Err(why) => self.members[to].links[from].halted = Some(why),
            },
            Entry::Epoch(row) => match self.way(from, to, &row) {
                Way::Clear => self.put(to, &row),
                Way::TakeBack(excess) if self.take_back(from, to, &excess, row.epoch) => {
                    self.put(to, &row);
                }
                Way::TakeBack(_) | Way::Behind { .. } | Way::Unknown { .. } => return false,
                halted @ (Way::Forked { .. } | Way::Entangled) => {
                    self.members[to].links[from].halted = Some(format!("{halted:?}"));
                }
            },
        }
        let link = &mut self.members[to].links[from];
        link.applied += usize::from(link.halted.is_none());
        link.halted.is_none()
    }

    fn data(&mut self, from: usize, to: usize, epoch: u64, place: usize) -> Result<(), String> {
        let gtid = gtid(from, place);
        let member = &mut self.members[to];
        match member.epochs.fate(epoch, &gtid, NAMES[from], NAMES[to]) {
            Fate::Applied => {
                member.data.insert((from, place));
                let mut within = Position::empty(Flavor::MariaDb);
                within.add(&gtid).expect("one flavor");
                member.links[from].newest = Some(NewestData { epoch, within });
            }
            Fate::Stranded { ended_by } => {
                member.filed.insert((from, place), ended_by);
            }
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    fn way(&self, from: usize, to: usize, row: &EpochRow) -> Way {
        let member = &self.members[to];
        let brought: Vec<Brought> = (0..MEMBERS)
            .map(|of| Brought {
                idc: NAMES[of].to_owned(),
                position: Some(position(of, member.links[of].applied)),
                newest: member.links[of].newest.clone(),
            })
            .collect();
        let aside: Vec<Aside> = member
            .filed
            .iter()
            .chain(&member.undone)
            .map(|((of, place), ended_by)| Aside {
                idc: NAMES[*of].to_owned(),
                gtid: gtid(*of, *place),
                epoch: self.members[*of].log[*place].0,
                ended_by: *ended_by,
            })
            .collect();
        let way = member
            .epochs
            .way(row, NAMES[from], NAMES[to], &brought, &aside);
        self.blind(way)
    }

    /// What is seen of it.
    fn blind(&self, way: Way) -> Way {
        match (self.without, way) {
            (Some(Part::Unknown), Way::Unknown { .. })
            | (Some(Part::Behind), Way::Behind { .. })
            | (Some(Part::Forked), Way::Forked { .. } | Way::Entangled) => Way::Clear,
            (Some(Part::Ahead), Way::TakeBack(excess)) => Way::TakeBack(Excess {
                thirds: Vec::new(),
                ..excess
            }),
            (Some(Part::Own), Way::TakeBack(excess)) => Way::TakeBack(Excess {
                own: false,
                ..excess
            }),
            (_, way) => way,
        }
    }

    /// What the source has set aside of what is here, once it has seen all of it. In one step:
    /// nobody is elected in the middle, since who is held shows an older epoch.
    fn take_back(&mut self, from: usize, to: usize, excess: &Excess, epoch: u64) -> bool {
        let source = &self.members[from];
        let saw_own = source.links[to].applied == self.members[to].log.len();
        let place = |it: &Ahead| {
            NAMES
                .iter()
                .position(|name| *name == it.idc)
                .expect("a member")
        };
        let saw =
            |it: &Ahead| position(place(it), source.links[place(it)].applied).contains(&it.newest);
        let own_may = self.primary != Some(to) && saw_own;
        if (excess.own && !own_may) || !excess.thirds.iter().all(saw) {
            return false;
        }
        if excess.own {
            self.take_filed_back(to, from, to, epoch);
        }
        for it in &excess.thirds {
            self.take_filed_back(place(it), from, to, epoch);
            self.members[to].links[place(it)].newest = Some(it.left.clone());
        }
        true
    }

    fn take_filed_back(&mut self, of: usize, from: usize, to: usize, epoch: u64) {
        let filed = self.members[from].filed.clone();
        for piece in filed.into_keys().filter(|(member, _)| *member == of) {
            if self.members[to].data.remove(&piece) {
                self.members[to].undone.insert(piece, epoch);
            }
        }
    }

    fn act(&mut self, (what, one, other): (u8, usize, usize)) {
        match what {
            0..=3 => self.write(),
            4 => {
                self.append(one, Entry::Heartbeat);
            }
            5 => self.elect(one, other > 0),
            _ => {
                self.deliver(one, other);
            }
        }
    }

    /// Nobody is elected any more; whatever can be delivered is.
    fn end(&mut self) {
        if self.primary.is_none() {
            let all = 0..MEMBERS;
            let advanced = all.max_by_key(|it| self.advance(*it)).unwrap_or(0);
            self.promote(advanced);
        }
        self.write();
        while (0..MEMBERS * MEMBERS).any(|pair| self.deliver(pair / MEMBERS, pair % MEMBERS)) {}
    }

    fn halted(&self) -> Vec<&String> {
        let links = self.members.iter().flat_map(|it| &it.links);
        links.filter_map(|link| link.halted.as_ref()).collect()
    }

    /// Who has followed the primary to its end and is not its equal, and who was left behind though
    /// nothing has halted.
    fn wrong(&self) -> Vec<String> {
        let Some(primary) = self.primary else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        let whole = &self.members[primary];
        for (index, member) in self.members.iter().enumerate() {
            if index == primary {
                continue;
            }
            let through = member.links[primary].applied == whole.log.len();
            let well = member.links.iter().all(|link| link.halted.is_none());
            if through && well && member.data != whole.data {
                let differ: Vec<_> = member.data.symmetric_difference(&whole.data).collect();
                wrong.push(format!("{} differs silently: {differ:?}", NAMES[index]));
            }
            if !through && self.halted().is_empty() {
                wrong.push(format!("{} waits for ever", NAMES[index]));
            }
        }
        wrong
    }
}

fn acts() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    prop::collection::vec((0_u8..16, 0..MEMBERS, 0..MEMBERS), 0..90)
}

fn run(acts: &[(u8, usize, usize)], elected: Elected, without: Option<Part>) -> World {
    let mut world = World::new(elected, without);
    for act in acts {
        world.act(*act);
    }
    world.end();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_follows_without_halting_is_the_primary_s_equal(acts in acts()) {
        let world = run(&acts, Elected::Anybody, None);
        prop_assert!(world.wrong().is_empty(), "{:?}", world.wrong());
    }

    #[test]
    fn nothing_halts_where_the_most_advanced_is_elected(acts in acts()) {
        let world = run(&acts, Elected::MostAdvanced, None);
        prop_assert!(world.halted().is_empty(), "{:?}", world.halted());
        prop_assert!(world.wrong().is_empty(), "{:?}", world.wrong());
    }
}

/// With any part of the way left out members differ silently: the tests above would see it.
#[test]
fn every_part_of_the_way_is_needed() {
    for part in [
        Part::Unknown,
        Part::Behind,
        Part::Ahead,
        Part::Own,
        Part::Forked,
    ] {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let differs = |_| {
            let acts = acts().new_tree(&mut runner).expect("a list of acts");
            let world = run(&acts.current(), Elected::Anybody, Some(part));
            world
                .wrong()
                .iter()
                .any(|it| it.contains("differs silently"))
        };
        assert!(
            (0..20_000).any(differs),
            "without {part:?} nothing was found"
        );
    }
}
