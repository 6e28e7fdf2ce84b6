//! The key table against plain maps: any order of commands, valid or not, over a world small enough that they meet.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use pc5_dataplane::ids::{KdSessId, LinkRole, PgkId, PtkId};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keys::table::{KeyError, KeyTable, Snapshot, limits};
use pc5_dataplane::keys::{Command, Floor, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{group, ue};
use proptest::prelude::*;

/// A command as plain numbers.
#[derive(Clone, Debug)]
enum Op {
    Local(u32, bool),
    Install { at: At, key: u8, grant: Option<(u16, u16)>, floors: Floors },
    Grant(At, (u16, u16)),
    Floors(At, Floors),
    Retire(At),
    Void(At),
    Link { at: LinkAt, key: u8, integrity: bool, phase: LinkPhase },
    Phase(LinkAt, LinkPhase),
    Remove(LinkAt),
}

/// Holder, group, PGK id, and the one sender, if it is one's only.
type At = (u32, u32, u8, Option<u32>);
/// Our side, the other side, KD-sess id.
type LinkAt = (u32, u32, u16);
/// Newest PTK identity and next SN of each sender.
type Floors = BTreeMap<u32, (u16, u32)>;

#[derive(Clone, PartialEq, Eq, Debug)]
struct ModelGroup {
    key: u8,
    retired: bool,
    grants: Vec<(u16, u16)>,
    floors: Floors,
}

/// The maps.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    locals: std::collections::BTreeSet<u32>,
    groups: BTreeMap<At, ModelGroup>,
    links: BTreeMap<LinkAt, (u8, LinkPhase)>,
}

/// What the model says of a command that is refused.
type Refused = KeyError;

/// Where an install clashes with several PGKs at once, either may be named.
fn same_reason(a: &KeyError, b: &KeyError) -> bool {
    let clash = |e: &KeyError| matches!(e, KeyError::IndexInUse { .. } | KeyError::OtherContent { .. });
    discriminant(a) == discriminant(b) || (clash(a) && clash(b))
}

fn unknown() -> Refused {
    KeyError::Unknown(String::new())
}

fn raise(floors: &mut Floors, told: &Floors) {
    for (&sender, &to) in told {
        let held = floors.entry(sender).or_insert(to);
        *held = to.max(*held);
    }
}

fn give(grants: &mut Vec<(u16, u16)>, range: (u16, u16)) -> Result<(), Refused> {
    let (first, last) = range;
    if grants.contains(&range) {
        return Ok(());
    }
    let newest = grants.iter().map(|g| g.1).max().unwrap_or(0);
    if first > last || last - first >= limits::GRANT || first <= newest {
        return Err(KeyError::Grant { first, last });
    }
    grants.push(range);
    Ok(())
}

impl Model {
    fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        let before = self.clone();
        let result = self.try_apply(op);
        if result.is_err() {
            *self = before;
        }
        result
    }

    fn group(&mut self, at: &At) -> Result<&mut ModelGroup, Refused> {
        self.groups.get_mut(at).ok_or_else(unknown)
    }

    fn activate(&mut self, at: LinkAt, phase: LinkPhase) {
        for (other, (_, held)) in &mut self.links {
            let same_link = (other.0, other.1) == (at.0, at.1) && other.2 != at.2;
            if same_link && phase == LinkPhase::Active && *held == LinkPhase::Active {
                *held = LinkPhase::Retiring;
            }
        }
    }

    fn try_apply(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Local(id, true) => drop(self.locals.insert(*id)),
            Op::Local(id, false) => drop(self.locals.remove(id)),
            Op::Install { at, key, grant, floors } => {
                let only = at.3;
                for (held_at, held) in &self.groups {
                    let same_index = held_at.1 == at.1 && held_at.2 % 32 == at.2 % 32;
                    let same_senders = held_at.3 == only || held_at.3.is_none() || only.is_none();
                    if !same_index || !same_senders {
                        continue;
                    }
                    if held_at.2 != at.2 {
                        let (held, new) = (PgkId(held_at.2), PgkId(at.2));
                        return Err(KeyError::IndexInUse { group: group(at.1), held, new });
                    }
                    if held.key != *key || held_at.3 != only {
                        return Err(KeyError::OtherContent { group: group(at.1), pgk_id: PgkId(at.2) });
                    }
                }
                if let Some(held) = self.groups.get_mut(at) {
                    raise(&mut held.floors, floors);
                    return grant.map_or(Ok(()), |g| give(&mut held.grants, g));
                }
                if self.groups.keys().filter(|k| (k.0, k.1, k.3) == (at.0, at.1, at.3)).count()
                    >= limits::GROUP_KEYS
                {
                    return Err(KeyError::Limit { what: "", limit: limits::GROUP_KEYS });
                }
                let mut grants = Vec::new();
                grant.map_or(Ok(()), |g| give(&mut grants, g))?;
                let new = ModelGroup { key: *key, retired: false, grants, floors: floors.clone() };
                self.groups.insert(*at, new);
            }
            Op::Grant(at, range) => give(&mut self.group(at)?.grants, *range)?,
            Op::Floors(at, floors) => raise(&mut self.group(at)?.floors, floors),
            Op::Retire(at) => self.group(at)?.retired = true,
            Op::Void(at) => drop(self.groups.remove(at).ok_or_else(unknown)?),
            Op::Link { at, key, integrity, phase } => {
                if !integrity {
                    return Err(KeyError::SuiteWithoutIntegrity(Suite::Eea2));
                }
                if at.0 == at.1 {
                    return Err(KeyError::Loop(ue(at.0)));
                }
                if self.links.contains_key(at) {
                    let id = KdSessId::new(at.2).unwrap();
                    return Err(KeyError::IdInUse { local: ue(at.0), peer: ue(at.1), id });
                }
                if self.links.keys().filter(|k| (k.0, k.1) == (at.0, at.1)).count() >= limits::LINK_CONTEXTS {
                    return Err(KeyError::Limit { what: "", limit: limits::LINK_CONTEXTS });
                }
                self.links.insert(*at, (*key, *phase));
                self.activate(*at, *phase);
            }
            Op::Phase(at, phase) => {
                self.links.get_mut(at).ok_or_else(unknown)?.1 = *phase;
                self.activate(*at, *phase);
            }
            Op::Remove(at) => drop(self.links.remove(at).ok_or_else(unknown)?),
        }
        Ok(())
    }
}

fn range((first, last): (u16, u16)) -> std::ops::RangeInclusive<PtkId> {
    PtkId::new(first).unwrap()..=PtkId::new(last).unwrap()
}

fn told(floors: &Floors) -> Vec<Floor> {
    let one = |(&sender, &(ptk, next_sn)): (&u32, &(u16, u32))| Floor {
        sender: ue(sender),
        ptk_id: PtkId::new(ptk).unwrap(),
        next_sn,
    };
    floors.iter().map(one).collect()
}

fn command(op: &Op) -> Command {
    let link = |at: &LinkAt| (ue(at.0), ue(at.1), KdSessId::new(at.2).unwrap());
    let senders = |at: &At| at.3.map_or(PermittedSender::Any, |id| PermittedSender::Only(ue(id)));
    let named = |at: &At| (ue(at.0), group(at.1), PgkId(at.2), senders(at));
    match op {
        Op::Local(id, true) => Command::AddLocal(ue(*id)),
        Op::Local(id, false) => Command::RemoveLocal(ue(*id)),
        Op::Install { at, key, grant, floors } => Command::InstallGroup(GroupKey {
            local: ue(at.0),
            group: group(at.1),
            pgk_id: PgkId(at.2),
            pgk: Pgk::new([*key; 32]),
            suite: Suite::Aes128Gcm,
            senders: senders(at),
            not_before: 0,
            not_after: 100,
            grant: grant.map(range),
            floors: told(floors),
        }),
        Op::Grant(at, r) => {
            let (local, group, pgk_id, senders) = named(at);
            Command::Grant { local, group, pgk_id, senders, range: range(*r) }
        }
        Op::Floors(at, floors) => {
            let (local, group, pgk_id, senders) = named(at);
            Command::Floors { local, group, pgk_id, senders, floors: told(floors) }
        }
        Op::Retire(at) => {
            let (local, group, pgk_id, senders) = named(at);
            Command::RetireGroup { local, group, pgk_id, senders }
        }
        Op::Void(at) => {
            let (local, group, pgk_id, senders) = named(at);
            Command::VoidGroup { local, group, pgk_id, senders }
        }
        Op::Link { at, key, integrity, phase } => {
            let (local, peer, id) = link(at);
            let suite = if *integrity { Suite::Aes128Gcm } else { Suite::Eea2 };
            let kd_sess = KdSess::new([*key; 32]);
            Command::InstallLink(LinkKey { local, peer, id, kd_sess, suite, role: LinkRole::Ue1 }, *phase)
        }
        Op::Phase(at, phase) => {
            let (local, peer, id) = link(at);
            Command::SetLinkPhase { local, peer, id, phase: *phase }
        }
        Op::Remove(at) => {
            let (local, peer, id) = link(at);
            Command::RemoveLink { local, peer, id }
        }
    }
}

/// What a snapshot holds, as the maps.
fn read(snapshot: &Snapshot) -> Model {
    let mut model = Model { locals: snapshot.locals().iter().map(|l| l.get()).collect(), ..Model::default() };
    for r in snapshot.groups() {
        let found = ModelGroup {
            key: r.pgk.expose()[0],
            retired: r.retired,
            grants: r.grants.iter().map(|g| (g.start().get(), g.end().get())).collect(),
            floors: r.floors.iter().map(|f| (f.sender.get(), (f.ptk_id.get(), f.next_sn))).collect(),
        };
        assert_eq!(r.floors.len(), found.floors.len(), "one floor a sender");
        let only = match r.senders {
            PermittedSender::Any => None,
            PermittedSender::Only(id) => Some(id.get()),
        };
        assert!(model.groups.insert((r.local.get(), r.group.get(), r.pgk_id.0, only), found).is_none());
    }
    for r in snapshot.links() {
        let found = (r.kd_sess.expose()[0], r.phase);
        assert!(model.links.insert((r.local.get(), r.peer.get(), r.id.get()), found).is_none());
    }
    model
}

fn at() -> impl Strategy<Value = At> {
    // 33 and 1 share an index; 65 puts holders 1 and 65 into one shard.
    let id = prop_oneof![0u8..12, Just(33), Just(34)];
    let only = proptest::option::weighted(0.3, 1u32..4);
    (prop_oneof![Just(1u32), Just(65), Just(2)], 1u32..3, id, only)
}

fn grants() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![
        8 => (1u16..600, 0u16..40).prop_map(|(a, n)| (a, a + n)),
        1 => (1u16..60_000, 500u16..530).prop_map(|(a, n)| (a, a + n)),
        1 => (2u16..600).prop_map(|a| (a, a - 1)),
    ]
}

fn floors() -> impl Strategy<Value = Floors> {
    proptest::collection::btree_map(1u32..5, (1u16..50, 0u32..=65_536), 0..3)
}

fn link_at() -> impl Strategy<Value = LinkAt> {
    (1u32..4, 1u32..4, 1u16..7)
}

fn phase() -> impl Strategy<Value = LinkPhase> {
    use LinkPhase::{Active, Pending, ReceiveOnly, Retiring};
    proptest::sample::select(vec![Pending, ReceiveOnly, Active, Retiring])
}

fn op() -> impl Strategy<Value = Op> {
    let install = (at(), 0u8..2, proptest::option::of(grants()), floors());
    let link = (link_at(), 0u8..2, proptest::bool::weighted(0.95), phase());
    prop_oneof![
        1 => (1u32..5, any::<bool>()).prop_map(|(id, add)| Op::Local(id, add)),
        6 => install.prop_map(|(at, key, grant, floors)| Op::Install { at, key, grant, floors }),
        2 => (at(), grants()).prop_map(|(at, r)| Op::Grant(at, r)),
        2 => (at(), floors()).prop_map(|(at, f)| Op::Floors(at, f)),
        1 => at().prop_map(Op::Retire),
        2 => at().prop_map(Op::Void),
        6 => link.prop_map(|(at, key, integrity, phase)| Op::Link { at, key, integrity, phase }),
        3 => (link_at(), phase()).prop_map(|(at, p)| Op::Phase(at, p)),
        2 => link_at().prop_map(Op::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_table_equals_maps_and_snapshots_stay(ops in proptest::collection::vec(op(), 1..160)) {
        let mut table = KeyTable::new();
        let mut model = Model::default();
        let workers = table.shared();
        let mut taken: Vec<(Arc<Snapshot>, Model)> = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            let (was, is) = (model.apply(op), table.apply(command(op)));
            match (&was, &is) {
                (Ok(()), Ok(())) => {}
                (Err(a), Err(b)) => prop_assert!(same_reason(a, b), "{:?}: {} but {}", op, a, b),
                _ => prop_assert!(false, "{:?}: {:?} but {:?}", op, was, is),
            }
            prop_assert_eq!(&read(table.current()), &model, "after {:?}", op);
            if i % 16 == 15 {
                table.publish();
                prop_assert_eq!(workers.generation(), taken.len() as u64 + 1);
                taken.push((workers.load(), model.clone()));
            }
        }
        // What a worker holds is what it was when it took it, whatever came after.
        for (snapshot, then) in &taken {
            prop_assert_eq!(&read(snapshot), then);
        }
    }
}
