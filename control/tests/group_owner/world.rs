//! A laboratory network with an owner, members and the link between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pc5_control::clock::Now;
use pc5_control::credential::{Clock, Freshness, Identity, IssuerId, Judge, Role};
use pc5_control::group_owner::lockstep::{Conditions, Effect, Lockstep};
use pc5_control::group_owner::{Device, Input, Member, Notice, Order, Outgoing, Owner, SharedTrust, Trust};
use pc5_control::pki::{Authority, Curve, Request, Validity};
use pc5_control::policy::{GroupPolicy, MemberPolicy, OwnerPolicy};
use pc5_control::store::{Binding, Granted, MemoryStore, Store, StoreError};
use pc5_dataplane::ids::{GroupId, Layer2Id, PgkId};
use pc5_dataplane::keys::Command;
use pc5_dataplane::keys::table::{KeyError, KeyTable};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{SeedableRng, UnwrapErr};

pub(crate) type Rng = ChaCha20Rng;

pub(crate) fn rng() -> Rng {
    ChaCha20Rng::from_rng(&mut UnwrapErr(getrandom::SysRng))
}

/// Start of the simulated time.
pub(crate) const T: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 86_400;
pub(crate) const GROUP: GroupId = GroupId::from_octets([0xF0, 0, 1]);
pub(crate) const OWNER: Layer2Id = Layer2Id::from_octets([0xFF, 0xFF, 0xFE]);

pub(crate) fn member_id(n: u32) -> Layer2Id {
    Layer2Id::new(n).unwrap()
}

pub(crate) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn start() -> Now {
    Now { monotonic: Duration::ZERO, unix: Duration::from_secs(T), steady: Duration::from_secs(T) }
}

/// An authority and what everybody believes.
pub(crate) struct Lab {
    pub(crate) root: Authority,
    pub(crate) plmn: &'static str,
}

impl Lab {
    pub(crate) fn new(plmn: &'static str) -> Self {
        let validity = Validity::days(T, 3_650);
        Self {
            root: Authority::root(plmn.parse().unwrap(), Curve::P256, validity, &mut rng()).unwrap(),
            plmn,
        }
    }

    pub(crate) fn identity(&self, id: &str) -> Identity {
        Identity::new(self.plmn.parse().unwrap(), id).unwrap()
    }

    pub(crate) fn trust(&mut self) -> SharedTrust {
        let mut judge = Judge::new(vec![self.root.trust_entry().unwrap()], Freshness::default());
        let crl = self.root.crl(T, T + 7 * DAY).unwrap();
        judge.install_crl(&crl, Clock { now: T, floor: 0 }).unwrap();
        SharedTrust::new(Trust::new(judge, 0))
    }

    pub(crate) fn device_for(
        &self,
        id: &str,
        roles: Vec<Role>,
        groups: Vec<GroupId>,
        trust: SharedTrust,
    ) -> Device {
        let identity = self.identity(id);
        let request = Request { identity, roles, groups, validity: Validity::days(T, 365) };
        let device = self.root.enrol(&request, &mut rng()).unwrap();
        Device::new(Arc::new(device.key), device.chain, trust).unwrap()
    }

    pub(crate) fn member_device(&self, n: u32, trust: SharedTrust) -> Device {
        self.device_for(&format!("ue-{n}"), vec![Role::Member], vec![GROUP], trust)
    }

    pub(crate) fn owner_device(&self, trust: SharedTrust) -> Device {
        self.device_for("go-1", vec![Role::Owner], vec![GROUP], trust)
    }

    /// Revokes and makes the next CRL.
    pub(crate) fn revoke(&mut self, device: &Device, at: u64) -> Vec<u8> {
        let serial = pc5_control::pki::serial_of(&device.chain[0]).unwrap();
        self.root.revoke(&serial, at);
        self.root.crl(at, at + 7 * DAY).unwrap()
    }
}

/// Everything that a run did.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) notices: Vec<(Layer2Id, Notice)>,
    pub(crate) sent: Vec<Outgoing>,
    pub(crate) refused_commands: Vec<KeyError>,
    /// Both ends of every link whose keys were ever installed.
    pub(crate) links: BTreeSet<(Layer2Id, Layer2Id)>,
    /// Every group key ever installed, and where.
    pub(crate) group_keys: BTreeMap<Layer2Id, BTreeSet<Vec<u8>>>,
    /// Members served over their links, and the PGKs that the owner could send under when that was said.
    pub(crate) audiences: Vec<(Vec<Layer2Id>, Vec<PgkId>)>,
}

/// A run: nodes, the real key table of each node's engine, and a log.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) trust: SharedTrust,
    pub(crate) run: Lockstep,
    pub(crate) log: Log,
    pub(crate) table: KeyTable,
    pub(crate) rng: Rng,
}

pub(crate) fn group_policy() -> GroupPolicy {
    GroupPolicy::new(GROUP, OWNER)
}

impl World {
    pub(crate) fn new(members: u32, conditions: Conditions) -> Self {
        Self::with(members, conditions, |_| {}, |_| {})
    }

    pub(crate) fn without_owner(conditions: Conditions) -> Self {
        let mut lab = Lab::new("001-01");
        let trust = lab.trust();
        let run = Lockstep::new(Vec::new(), Vec::new(), start(), conditions);
        Self { lab, trust, run, log: Log::default(), table: KeyTable::new(), rng: rng() }
    }

    pub(crate) fn with(
        members: u32,
        conditions: Conditions,
        group: impl FnOnce(&mut GroupPolicy),
        mut member: impl FnMut(&mut MemberPolicy),
    ) -> Self {
        let mut lab = Lab::new("001-01");
        let trust = lab.trust();
        let mut policy = group_policy();
        group(&mut policy);
        let owner = Owner::new(
            lab.owner_device(trust.clone()),
            OwnerPolicy::default(),
            vec![policy],
            Box::new(MemoryStore::default()),
        );
        let members = (1..=members)
            .map(|n| {
                let mut policy = MemberPolicy::new(GROUP, member_id(n), OWNER);
                member(&mut policy);
                Member::new(lab.member_device(n, trust.clone()), policy, Box::new(MemoryStore::default()))
            })
            .collect();
        let run = Lockstep::new(vec![owner.unwrap()], members, start(), conditions);
        Self { lab, trust, run, log: Log::default(), table: KeyTable::new(), rng: rng() }
    }

    pub(crate) fn member(&self, n: u32) -> Member {
        self.member_with(self.lab.member_device(n, self.trust.clone()), n)
    }

    pub(crate) fn member_with(&self, device: Device, n: u32) -> Member {
        let policy = MemberPolicy::new(GROUP, member_id(n), OWNER);
        Member::new(device, policy, Box::new(MemoryStore::default()))
    }

    pub(crate) fn owner_with(&self, store: Box<dyn Store>) -> Owner {
        self.owner_under(group_policy(), store)
    }

    pub(crate) fn owner_under(&self, policy: GroupPolicy, store: Box<dyn Store>) -> Owner {
        let device = self.lab.owner_device(self.trust.clone());
        Owner::new(device, OwnerPolicy::default(), vec![policy], store).unwrap()
    }

    /// Another member, or the same one after a restart: its engine begins with nothing.
    pub(crate) fn put_member(&mut self, member: Member) {
        self.forget(member.layer2());
        self.run.add_member(member);
    }

    pub(crate) fn put_owner(&mut self, owner: Owner) {
        self.forget(OWNER);
        self.run.add_owner(owner);
    }

    fn forget(&mut self, local: Layer2Id) {
        let links = self.table.current().links().filter(|l| l.local == local);
        let groups = self.table.current().groups().filter(|g| g.local == local);
        let gone: Vec<Command> = links
            .map(|l| Command::RemoveLink { local, peer: l.peer, id: l.id })
            .chain(groups.map(|g| {
                let (group, pgk_id, senders) = (g.group, g.pgk_id, g.senders);
                Command::VoidGroup { local, group, pgk_id, senders }
            }))
            .collect();
        gone.into_iter().for_each(|c| self.table.apply(c).unwrap());
    }

    fn with_run<T>(&mut self, f: impl FnOnce(&mut Lockstep, &mut Rng, &mut dyn FnMut(Effect<'_>)) -> T) -> T {
        let Self { run, log, table, rng, .. } = self;
        let mut effect = |e: Effect<'_>| match e {
            Effect::Install(command) => {
                match &command {
                    Command::InstallLink(key, _) => drop(log.links.insert((key.local, key.peer))),
                    Command::InstallGroup(key) => {
                        log.group_keys.entry(key.local).or_default().insert(key.pgk.expose().to_vec());
                    }
                    _ => {}
                }
                if let Err(e) = table.apply(command) {
                    log.refused_commands.push(e);
                }
            }
            Effect::Sent(frame) => log.sent.push(frame.clone()),
            Effect::Notice(node, notice) => {
                if let Notice::Audience { by_link, .. } = &notice {
                    let own = table.current().groups().filter(|g| g.local == node && !g.retired);
                    log.audiences.push((by_link.clone(), own.map(|g| g.pgk_id).collect()));
                }
                log.notices.push((node, notice));
            }
        };
        f(run, rng, &mut effect)
    }

    pub(crate) fn join_all(&mut self) -> bool {
        self.with_run(|run, rng, effect| run.join_all(secs(60), rng, effect))
    }

    pub(crate) fn input(&mut self, node: Layer2Id, input: Input) {
        self.with_run(|run, rng, effect| run.input(node, input, rng, effect));
    }

    pub(crate) fn order(&mut self, node: Layer2Id, order: Order) {
        self.input(node, Input::Order(order));
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.with_run(|run, rng, effect| run.run_for(time, rng, effect));
    }

    pub(crate) fn run_until(&mut self, limit: Duration, done: impl FnMut(&Lockstep) -> bool) -> bool {
        self.with_run(|run, rng, effect| run.run(limit, rng, effect, done))
    }

    pub(crate) fn settle(&mut self) -> bool {
        self.run_until(secs(60), |run| {
            run.owner(OWNER).is_some_and(Owner::is_settled)
                && run.members().filter(|m| m.owner().is_some()).all(Member::is_settled)
        })
    }

    pub(crate) fn owner(&self) -> &Owner {
        self.run.owner(OWNER).unwrap()
    }

    /// PGK ids that the owner's engine would send under now.
    pub(crate) fn sendable(&self) -> Vec<PgkId> {
        let now = self.run.now().key_seconds();
        let valid = self.table.current().groups().filter(|g| g.local == OWNER && !g.retired);
        valid.filter(|g| (g.not_before..=g.not_after).contains(&now)).map(|g| g.pgk_id).collect()
    }

    /// PGK ids that a node holds, sorted.
    pub(crate) fn held(&self, local: Layer2Id) -> Vec<PgkId> {
        let mut held: Vec<PgkId> =
            self.table.current().groups().filter(|g| g.local == local).map(|g| g.pgk_id).collect();
        held.sort();
        held
    }

    pub(crate) fn notices(&self, node: Layer2Id) -> impl Iterator<Item = &Notice> {
        self.log.notices.iter().filter(move |(n, _)| *n == node).map(|(_, notice)| notice)
    }

    pub(crate) fn refusals(&self, node: Layer2Id) -> Vec<pc5_control::reject::Reject> {
        let cause = |n: &Notice| match n {
            Notice::Refused { cause, .. } => Some(*cause),
            _ => None,
        };
        self.notices(node).filter_map(cause).collect()
    }

    /// Both ends of every live link use the same key, and every member holds what the owner sends under.
    pub(crate) fn assert_consistent(&self) {
        assert_eq!(self.log.refused_commands, [], "the key table takes every command");
        let (_, pgk_id) = self.owner().group_key(GROUP).unwrap();
        let of = |local| {
            let mut groups = self.table.current().groups();
            groups.find(|g| g.local == local && g.pgk_id == pgk_id && !g.retired).unwrap()
        };
        let sending = of(OWNER);
        for view in self.owner().members(self.run.now()) {
            assert!(self.run.agree(OWNER, view.layer2), "link of {}", view.layer2);
            if self.owner().served_by_link(GROUP).contains(&view.layer2) {
                continue;
            }
            assert!(of(view.layer2).pgk == sending.pgk, "group key of {}", view.layer2);
        }
    }
}

/// A store that the test can look into, and break, while an owner uses it.
#[derive(Clone, Default)]
pub(crate) struct SharedStore(Arc<Mutex<MemoryStore>>);

impl SharedStore {
    /// Lets every write fail, or none.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.0.lock().unwrap().broken = broken;
    }
}

macro_rules! forward {
    ($($name:ident(&$($m:ident)? $(, $a:ident: $t:ty)*) -> $r:ty;)+) => {
        impl Store for SharedStore {
            $(forward!(@ $name, $($m)?, $($a: $t),*; $r);)+
        }
    };
    (@ $name:ident, mut, $($a:ident: $t:ty),*; $r:ty) => {
        fn $name(&mut self, $($a: $t),*) -> $r { self.0.lock().unwrap().$name($($a),*) }
    };
    (@ $name:ident, , $($a:ident: $t:ty),*; $r:ty) => {
        fn $name(&self, $($a: $t),*) -> $r { self.0.lock().unwrap().$name($($a),*) }
    };
}

forward! {
    epochs_reserved(&, g: GroupId) -> u64;
    reserve_epochs(&mut, g: GroupId, t: u64) -> Result<(), StoreError>;
    record_grants(&mut, g: GroupId, e: u64, l: &[Granted]) -> Result<(), StoreError>;
    bindings(&, g: GroupId) -> Vec<Binding>;
    bind(&mut, b: Binding) -> Result<(), StoreError>;
    unbind(&mut, g: GroupId, l: Layer2Id) -> Result<(), StoreError>;
    evicted(&, g: GroupId) -> std::collections::BTreeSet<Identity>;
    set_evicted(&mut, g: GroupId, i: &Identity, e: bool) -> Result<(), StoreError>;
    time_floor(&) -> u64;
    raise_time_floor(&mut, to: u64) -> Result<(), StoreError>;
    crls(&) -> Vec<Vec<u8>>;
    keep_crl(&mut, i: &IssuerId, d: &[u8]) -> Result<(), StoreError>;
}
