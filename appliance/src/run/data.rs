//! The data thread: it owns the engine, the ports and the TUN device, and does nothing but move frames.
//!
//! ```text
//! signalling port --+                          +-- member's link | group     (owner)
//! data port --------+-> open -> PC5-S to control, user data -> bridge | TUN   (owner | UE)
//! TUN device -----------------> seal -> data port
//! control: PC5-S -------------> seal -> signalling port
//! ```
//! PC5-S comes first in every turn, on a socket of its own: what overload costs is new user data.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use crossbeam::channel::TrySendError;
use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, Now};
use pc5_dataplane::ids::{GroupId, Layer2Id, Lcid, SduType};
use pc5_dataplane::io::tun::{Kind, Tun};
use pc5_dataplane::io::{Link, PacketIo};
use pc5_dataplane::keys::table::SharedSnapshot;
use pc5_dataplane::keys::{Event, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::{Counters, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::bridge::{Bridge, Route};
use super::channels::{ControlHandle, DataInbox, ToControl, ToData};
use super::inner::{self, Inner, To};
use super::status::{DataStatus, PortStatus, StageStatus, tally};
use super::tun::OVERHEAD;

/// Own limits.
mod limits {
    use std::time::Duration;

    /// Frames of a batch.
    pub(super) const BATCH: usize = 256;
    /// How long the thread waits when nothing happens: interfaces that came back are seen then.
    pub(super) const IDLE: Duration = Duration::from_millis(200);
    /// How often control is told what was sent under group keys.
    pub(super) const FLOORS: Duration = Duration::from_millis(250);
    /// Own inner sources that a UE remembers.
    pub(super) const OWN_SOURCES: usize = 64;
    /// How often a UE announces its addresses, after the first two times.
    pub(super) const ANNOUNCE: Duration = Duration::from_secs(30);
    /// Time from the first announcement to the second.
    pub(super) const ANNOUNCE_AGAIN: Duration = Duration::from_secs(1);
}

/// What user data meets here.
pub(crate) enum Role {
    /// It is bridged.
    Owner(Bridge),
    /// It goes to and comes from a TUN device.
    Ue(UeData),
}

/// A UE's side of user data.
pub(crate) struct UeData {
    tun: Tun,
    way: Way,
    /// Own addresses, to be announced.
    addresses: Vec<IpAddr>,
    announce_at: Option<Instant>,
    announced: bool,
}

/// Where a UE's user data goes.
struct Way {
    kind: Kind,
    local: Layer2Id,
    group: GroupId,
    broadcasts: Vec<Ipv4Addr>,
    /// Inner sources of what was sent: multicast from them is our own coming back.
    own: HashSet<Inner>,
    uplink: Option<Layer2Id>,
    /// The group's key lets members send one-to-many.
    direct: bool,
}

impl UeData {
    pub(crate) fn new(
        tun: Tun,
        local: Layer2Id,
        group: GroupId,
        addresses: Vec<IpAddr>,
        broadcasts: Vec<Ipv4Addr>,
    ) -> Self {
        let own = addresses.iter().map(|&ip| Inner::Ip(ip)).collect();
        let way = Way { kind: tun.kind(), local, group, broadcasts, own, uplink: None, direct: false };
        Self { tun, way, addresses, announce_at: None, announced: false }
    }
}

impl Way {
    /// Whether an SDU that was opened may go to the device.
    fn admits(&self, sdu_type: SduType, sdu: &[u8]) -> Verdict {
        if sdu_type != self.kind.sdu_type() {
            return Verdict::NotForUs;
        }
        match inner::addresses(sdu_type, sdu, &self.broadcasts) {
            None => Verdict::InnerSource,
            Some((from, To::Many)) if self.own.contains(&from) => Verdict::OwnSource,
            Some(_) => Verdict::Accepted,
        }
    }

    /// Where what the device gives goes.
    fn address_of(&mut self, sdu: &[u8], fits: usize) -> Result<Address, Verdict> {
        if sdu.len() > fits {
            return Err(Verdict::TooLong);
        }
        let (from, to) =
            inner::addresses(self.kind.sdu_type(), sdu, &self.broadcasts).ok_or(Verdict::InnerSource)?;
        let owner = self.uplink.ok_or(Verdict::NoKey)?;
        if self.own.len() < limits::OWN_SOURCES {
            self.own.insert(from);
        }
        match to {
            To::Many if self.direct => Ok(Address::group(self.group, self.local)),
            _ => Ok(Address::link(owner, self.local)),
        }
    }
}

#[derive(Clone, Copy)]
enum Which {
    Signalling,
    Data,
}

#[derive(Clone, Copy)]
enum Stage {
    Receive,
    Open,
    Route,
    Seal,
    Send,
}

const STAGES: [&str; 5] = ["receive", "open", "route", "seal", "send"];

/// The thread's state.
pub(crate) struct DataPlane {
    engine: Engine,
    keys: SharedSnapshot,
    generation: u64,
    signalling_port: Box<dyn PacketIo>,
    data_port: Box<dyn PacketIo>,
    role: Role,
    inbox: DataInbox,
    control: ControlHandle,
    /// Events that did not fit on the way to control and must not be lost.
    backlog: VecDeque<Event>,
    batch: Batch,
    copies: Batch,
    began: Instant,
    signalling: u64,
    bridged: Counters,
    copied: u64,
    delivered: Counters,
    taken: Counters,
    control_overload: u64,
    stages: [StageStatus; STAGES.len()],
    floors_at: Instant,
}

impl DataPlane {
    pub(crate) fn new(
        engine: Engine,
        keys: SharedSnapshot,
        (signalling_port, data_port): (Box<dyn PacketIo>, Box<dyn PacketIo>),
        role: Role,
        inbox: DataInbox,
        control: ControlHandle,
    ) -> Self {
        Self {
            engine,
            keys,
            generation: 0,
            signalling_port,
            data_port,
            role,
            inbox,
            control,
            backlog: VecDeque::new(),
            batch: Batch::new(limits::BATCH),
            copies: Batch::new(limits::BATCH),
            began: Instant::now(),
            signalling: 0,
            bridged: Counters::new(),
            copied: 0,
            delivered: Counters::new(),
            taken: Counters::new(),
            control_overload: 0,
            stages: STAGES.map(|name| StageStatus { name: name.to_owned(), ..StageStatus::default() }),
            floors_at: Instant::now(),
        }
    }

    /// Moves frames until it is told to stop.
    ///
    /// # Errors
    /// A port, the TUN device or a kernel can no longer be used.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let wait = if self.backlog.is_empty() { limits::IDLE } else { Duration::from_millis(1) };
            let broken = self.wait(wait)?;
            if !self.obey()? {
                return Ok(());
            }
            self.receive(Which::Signalling, broken[0])?;
            self.receive(Which::Data, broken[1])?;
            self.take_packets()?;
            self.announce()?;
            self.tell_events();
            self.tell_floors();
        }
    }

    /// Waits until something is to be done. Says which ports want to be looked at for errors or because nothing came.
    fn wait(&mut self, wait: Duration) -> anyhow::Result<[bool; 2]> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let tun = match &self.role {
            Role::Ue(ue) => Some(ue.tun.poll_fd()),
            Role::Owner(_) => None,
        };
        let ports = [self.signalling_port.poll_fd(), self.data_port.poll_fd()];
        let wake = self.inbox.waker.as_fd();
        // What is not there is the waker once more.
        let mut fds = [Some(wake), ports[0], ports[1], tun]
            .map(|fd| PollFd::from_borrowed_fd(fd.unwrap_or(wake), PollFlags::IN));
        let ready = match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e).context("waiting for frames"),
        };
        let woken = !fds[0].revents().is_empty();
        let is_odd = |i: usize| fds[i].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        let broken = [1, 2].map(|i| ready == 0 || is_odd(i));
        if woken {
            self.inbox.waker.reset();
        }
        Ok(broken)
    }

    fn now(&self) -> Now {
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let monotonic_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now { unix_seconds, monotonic_ns }
    }

    fn timed(&mut self, stage: Stage, since: Instant, frames: usize) {
        if frames > 0 {
            let s = &mut self.stages[stage as usize];
            s.ns += u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            s.frames += frames as u64;
            s.batches += 1;
        }
    }

    /// Does what control wants; `false` when that is to stop.
    fn obey(&mut self) -> anyhow::Result<bool> {
        self.batch.clear();
        let mut go_on = true;
        while let Ok(message) = self.inbox.receiver.try_recv() {
            match message {
                ToData::Send(out) => {
                    if self.batch.is_full_for(out.sdu.len()) {
                        self.send(Which::Signalling)?;
                    }
                    let address = Address::to(out.to, out.from);
                    let pushed = self.batch.push_sdu(
                        address,
                        out.lcid,
                        SduType::Pc5Signalling,
                        &out.sdu,
                        Meta::default(),
                    );
                    if let Some(i) = pushed {
                        self.batch.slots_mut()[i].key_id = out.under.map_or(0, |id| id.get());
                    }
                }
                ToData::Joined { owner, member, identity } => {
                    if let Role::Owner(bridge) = &mut self.role {
                        bridge.join(owner, member, &identity);
                    }
                }
                ToData::Left { owner, member } => {
                    if let Role::Owner(bridge) = &mut self.role {
                        bridge.leave(owner, member);
                    }
                }
                ToData::Audience { group, by_link } => {
                    if let Role::Owner(bridge) = &mut self.role {
                        bridge.set_by_link(group, by_link);
                    }
                }
                ToData::Uplink(uplink) => {
                    if let Role::Ue(ue) = &mut self.role {
                        ue.way.uplink = uplink;
                        ue.announced = false;
                        ue.announce_at = uplink.map(|_| Instant::now());
                    }
                }
                ToData::Status(reply) => {
                    // Who asked may have gone.
                    let _ = reply.send(self.status());
                }
                ToData::Stop => {
                    go_on = false;
                    break;
                }
            }
        }
        self.send(Which::Signalling)?;
        Ok(go_on)
    }

    /// Seals and sends what is in the batch, and empties it.
    fn send(&mut self, which: Which) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.seal_and_send(which)?;
        self.batch.clear();
        Ok(())
    }

    fn seal_and_send(&mut self, which: Which) -> anyhow::Result<()> {
        let began = Instant::now();
        let now = self.now();
        self.engine.protect(&mut self.batch, now)?;
        self.timed(Stage::Seal, began, self.batch.len());
        let began = Instant::now();
        let port = match which {
            Which::Signalling => &mut self.signalling_port,
            Which::Data => &mut self.data_port,
        };
        let outcome = port.tx(&self.batch)?;
        self.timed(Stage::Send, began, outcome.total() as usize);
        Ok(())
    }

    fn receive(&mut self, which: Which, look: bool) -> anyhow::Result<()> {
        self.batch.clear();
        let began = Instant::now();
        let port = match which {
            Which::Signalling => &mut self.signalling_port,
            Which::Data => &mut self.data_port,
        };
        // Only when it may wait does a port look after errors and lost interfaces.
        let wait = if look { Duration::from_nanos(1) } else { Duration::ZERO };
        let received = port.rx(&mut self.batch, wait)?;
        if received == 0 {
            return Ok(());
        }
        self.timed(Stage::Receive, began, received);
        let began = Instant::now();
        let now = self.now();
        self.engine.open(&mut self.batch, now)?;
        self.timed(Stage::Open, began, received);
        let port = match which {
            Which::Signalling => &mut self.signalling_port,
            Which::Data => &mut self.data_port,
        };
        for (i, s) in self.batch.slots().iter().enumerate() {
            if s.verdict == Verdict::Accepted
                && s.lcid != Lcid::CLEAR
                && !s.address.is_group()
                && let Some(origin) = port.origin(i)
            {
                port.learn(s.address.source(), origin);
            }
        }
        let began = Instant::now();
        let forward = self.route()?;
        self.timed(Stage::Route, began, received);
        if forward { self.send(Which::Data) } else { Ok(()) }
    }

    /// Finds the way of opened SDUs. Says whether something in the batch is to be sent on.
    fn route(&mut self) -> anyhow::Result<bool> {
        let mut forward = false;
        for i in 0..self.batch.len() {
            let slot = self.batch.slots()[i];
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            // What goes no further must not look like a frame to send.
            self.batch.slots_mut()[i].verdict = Verdict::NotForwarded;
            if !slot.lcid.is_user() {
                self.signalling += 1;
                continue;
            }
            let bridge = match &mut self.role {
                Role::Ue(ue) => {
                    match ue.way.admits(slot.sdu_type, self.batch.data(i)) {
                        Verdict::Accepted => self.batch.slots_mut()[i].verdict = Verdict::Accepted,
                        dropped => self.delivered.count(dropped),
                    }
                    continue;
                }
                Role::Owner(bridge) => bridge,
            };
            let verdict = match bridge.route(slot.address, slot.sdu_type, self.batch.data(i)) {
                Route::Drop(verdict) => verdict,
                Route::Taken => Verdict::Accepted,
                Route::Member(member) => {
                    self.pass_on(i, Address::link(member, owner_of(slot.address)));
                    forward = true;
                    Verdict::Accepted
                }
                Route::Group(group) => {
                    let owner = owner_of(slot.address);
                    self.copy_to_links(i, owner)?;
                    self.pass_on(i, Address::group(group, owner));
                    forward = true;
                    Verdict::Accepted
                }
            };
            self.bridged.count(verdict);
        }
        if let Role::Ue(ue) = &mut self.role {
            let taken = ue.tun.tx(&self.batch)?;
            let outcomes = [
                (Verdict::Accepted, taken.sent),
                (Verdict::Overload, taken.overload + taken.link_down),
                (Verdict::TooLong, taken.too_long),
                (Verdict::Reserved, taken.no_address),
            ];
            for (verdict, n) in outcomes {
                (0..n).for_each(|_| self.delivered.count(verdict));
            }
        }
        self.send_copies()?;
        Ok(forward)
    }

    /// Makes an opened slot one to be sealed, in place.
    fn pass_on(&mut self, i: usize, address: Address) {
        let slot = &mut self.batch.slots_mut()[i];
        (slot.address, slot.verdict, slot.key_id) = (address, Verdict::Pending, 0);
    }

    /// Group data for members that have not got the key in use, one by one.
    fn copy_to_links(&mut self, i: usize, owner: Layer2Id) -> anyhow::Result<()> {
        let slot = self.batch.slots()[i];
        let Role::Owner(bridge) = &self.role else { return Ok(()) };
        let members: Vec<Layer2Id> = bridge.copies(owner, slot.address.source()).collect();
        for member in members {
            if self.copies.is_full_for(self.batch.data(i).len()) {
                self.send_copies()?;
            }
            let address = Address::link(member, owner);
            let data = self.batch.data(i);
            if self.copies.push_sdu(address, slot.lcid, slot.sdu_type, data, Meta::default()).is_some() {
                self.copied += 1;
            }
        }
        Ok(())
    }

    fn send_copies(&mut self) -> anyhow::Result<()> {
        if self.copies.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut self.batch, &mut self.copies);
        let sent = self.seal_and_send(Which::Data);
        std::mem::swap(&mut self.batch, &mut self.copies);
        self.copies.clear();
        sent
    }

    /// Takes packets from the TUN device and sends them.
    fn take_packets(&mut self) -> anyhow::Result<()> {
        let fits = self.data_port.max_frame().saturating_sub(OVERHEAD);
        let generation = self.keys.generation();
        let Role::Ue(ue) = &mut self.role else { return Ok(()) };
        if self.generation != generation {
            self.generation = generation;
            let snapshot = self.keys.load();
            ue.way.direct = snapshot.groups().any(|g| {
                g.group == ue.way.group
                    && g.senders == PermittedSender::Any
                    && !g.grants.is_empty()
                    && !g.retired
            });
        }
        self.batch.clear();
        let (tun, way, taken) = (&mut ue.tun, &mut ue.way, &mut self.taken);
        tun.rx(&mut self.batch, Duration::ZERO, |sdu| {
            let address = way.address_of(sdu, fits);
            taken.count(address.err().unwrap_or(Verdict::Accepted));
            address.ok()
        })?;
        self.send(Which::Data)
    }

    /// Tells the owner which addresses are here, so that others reach them before they have sent anything.
    fn announce(&mut self) -> anyhow::Result<()> {
        let Role::Ue(ue) = &mut self.role else { return Ok(()) };
        let (Some(owner), Some(at)) = (ue.way.uplink, ue.announce_at) else { return Ok(()) };
        let now = Instant::now();
        if now < at {
            return Ok(());
        }
        let again = if ue.announced { limits::ANNOUNCE } else { limits::ANNOUNCE_AGAIN };
        (ue.announce_at, ue.announced) = (Some(now + again), true);
        self.batch.clear();
        let [_, _, _, _, _, _, mac @ .., _, _] = Address::link(owner, ue.way.local).ethernet_header();
        for address in &ue.addresses {
            if let IpAddr::V4(v4) = address {
                let sdu = inner::announcement(*v4, mac);
                let link = Address::link(owner, ue.way.local);
                // A batch takes more than a device has addresses.
                let _ = self.batch.push_sdu(link, Lcid::USER, SduType::Arp, &sdu, Meta::default());
            }
        }
        self.send(Which::Data)
    }

    /// Hands events to control. What frames that nobody vouches for caused gives way when there is no room.
    fn tell_events(&mut self) {
        self.backlog.extend(self.engine.take_events());
        while let Some(event) = self.backlog.pop_front() {
            let claimed = match &event {
                Event::Signalling(s) => s.lcid == Lcid::CLEAR,
                Event::UnknownIndex { .. } | Event::FloorsWanted { .. } => true,
                _ => false,
            };
            let message = matches!(event, Event::Signalling(_));
            let way = if claimed { &self.control.claimed } else { &self.control.proved };
            match way.try_send(ToControl::Event(event)) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                // Messages are repeated by who sent them; hints come again by themselves.
                Err(TrySendError::Full(_)) if claimed || message => self.control_overload += 1,
                Err(TrySendError::Full(ToControl::Event(event))) => {
                    self.backlog.push_front(event);
                    return;
                }
                Err(TrySendError::Full(_)) => {}
            }
        }
    }

    /// What was sent and verified under group keys: floors for those who join.
    fn tell_floors(&mut self) {
        if self.floors_at.elapsed() < limits::FLOORS || matches!(self.role, Role::Ue(_)) {
            return;
        }
        self.floors_at = Instant::now();
        let snapshot = self.keys.load();
        for root in snapshot.groups() {
            let mut floors = self.engine.verified_floors(root.group, root.pgk_id);
            floors.extend(self.engine.sent_floor(root.local, root.group, root.pgk_id));
            if !floors.is_empty() {
                let told = ToControl::Floors { group: root.group, pgk_id: root.pgk_id, floors };
                // The next ones say more.
                let _ = self.control.proved.try_send(told);
            }
        }
    }

    fn status(&mut self) -> DataStatus {
        let mut ports = Vec::new();
        for (traffic, port) in [("signalling", &mut self.signalling_port), ("data", &mut self.data_port)] {
            let link = match port.link() {
                Link::Up => "up".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            };
            let counters = port.counters();
            ports.push(PortStatus::new(port.name(), traffic, link, port.max_frame(), counters));
        }
        let snapshot = self.keys.load();
        let suites = snapshot.groups().map(|g| g.suite).chain(snapshot.links().map(|l| l.suite));
        let kernels: BTreeMap<String, String> =
            suites.map(|s| (s.name().to_owned(), self.engine.kernel_of(s).name().to_owned())).collect();
        let mut stations = BTreeMap::<String, Vec<String>>::new();
        let tun = match &self.role {
            Role::Owner(bridge) => {
                for (_, member, inner) in bridge.stations() {
                    stations.entry(member.to_string()).or_default().push(inner.to_string());
                }
                stations.values_mut().for_each(|list| list.sort());
                None
            }
            Role::Ue(ue) => Some((ue.tun.name().to_owned(), ue.tun.mtu())),
        };
        DataStatus {
            ports,
            opened: tally(self.engine.opened()),
            signalling: self.signalling,
            bridged: tally(&self.bridged),
            copies: self.copied,
            delivered: tally(&self.delivered),
            taken: tally(&self.taken),
            sealed: tally(self.engine.sealed()),
            control_overload: self.control_overload,
            stages: self.stages.to_vec(),
            kernels,
            receiving_contexts: self.engine.receiving_contexts(),
            advisory_windows: self.engine.has_advisory_windows(),
            tun,
            stations,
        }
    }
}

/// Our side of a link that a frame came over.
fn owner_of(address: Address) -> Layer2Id {
    address.reversed().source()
}
