//! The data thread: it owns the engine, the ports and the TUN device, and does nothing but move frames.
//!
//! ```text
//! signalling port --+                          +-- member's link | group     (owner)
//! data port --------+-> open -> PC5-S to control, user data -> bridge | TUN   (owner | UE)
//! TUN device -----------------> seal -> data port
//! control: PC5-S -------------> seal -> signalling port
//! ```
//! PC5-S comes first in every turn, on a socket of its own: what overload costs is new user data.

mod forward;
mod mail;
mod mark;
mod tell;
mod ue;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, Now};
use pc5_dataplane::ids::{GroupId, Lcid, SduType};
use pc5_dataplane::io::PacketIo;
use pc5_dataplane::keys::table::SharedSnapshot;
use pc5_dataplane::keys::{Event, Floor};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::share::Share;
use pc5_dataplane::verdict::{Counters, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::mail::Item;
pub(crate) use self::mail::Mail;
pub(crate) use self::ue::UeData;
use super::bridge::Bridge;
use super::channels::{ControlHandle, DataInbox, ToData};
use super::clock::Clock;
use super::config::MEMBERSHIPS;
use super::service_manager::Pulse;
use super::status::StageStatus;

/// Own limits.
mod limits {
    use std::time::Duration;

    /// Frames of a batch.
    pub(super) const BATCH: usize = 256;
    /// And of one where frames cost more than [`COSTLY`]: PC5-S and questions wait for the turn to end.
    pub(super) const SMALL_BATCH: usize = 16;
    /// Time a frame, from which on batches are small; below half of it they are whole again.
    pub(super) const COSTLY: Duration = Duration::from_micros(20);
    /// How long what other workers have may take in a turn, give or take a parcel.
    pub(super) const MAIL: Duration = Duration::from_millis(5);
    /// Parcels of other workers taken in a turn.
    pub(super) const PARCELS: usize = 16;
    /// How long the thread waits when nothing happens: interfaces that came back are seen then.
    pub(super) const IDLE: Duration = Duration::from_millis(200);
}

/// What user data meets here.
pub(crate) enum Role {
    /// It is bridged. All workers share what the bridge knows: a station that one worker's member used is reached by
    /// another's.
    Owner(Bridge),
    /// It goes to and comes from a TUN device, one a group.
    Ue(Vec<UeData>),
}

impl Role {
    /// Where an owner's members are known.
    pub(crate) fn bridge(&self) -> Option<&Bridge> {
        match self {
            Self::Owner(bridge) => Some(bridge),
            Self::Ue(_) => None,
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
    /// Of the first worker; the others get what is theirs by mail.
    signalling_port: Option<Box<dyn PacketIo>>,
    data_port: Box<dyn PacketIo>,
    /// PC5-S as it came, before it is known whose it is.
    arrived: Option<Batch>,
    share: Share,
    mail: Mail,
    processor: Option<usize>,
    role: Role,
    inbox: DataInbox,
    control: ControlHandle,
    /// Events that did not fit on the way to control and must not be lost.
    backlog: VecDeque<Event>,
    batch: Batch,
    /// In place of `batch` for data, while frames are costly.
    small: Batch,
    are_costly: bool,
    /// More may be there than polling tells.
    is_more: bool,
    copies: Batch,
    clock: Clock,
    signalling: u64,
    bridged: Counters,
    copied: u64,
    delivered: Counters,
    taken: Counters,
    control_overload: u64,
    handed: u64,
    taken_over: u64,
    handover_overload: u64,
    stages: [StageStatus; STAGES.len()],
    floors_at: Instant,
    /// By the serial of the group key.
    floors_told: HashMap<u64, Vec<Floor>>,
    pulse: Pulse,
    /// Changes of group keys that are still to be shown, and when.
    marks: Vec<(GroupId, Instant)>,
}

impl DataPlane {
    pub(crate) fn new(
        engine: Engine,
        keys: SharedSnapshot,
        (signalling_port, data_port): (Option<Box<dyn PacketIo>>, Box<dyn PacketIo>),
        (share, mail): (Share, Mail),
        role: Role,
        inbox: DataInbox,
        control: ControlHandle,
        clock: Clock,
    ) -> Self {
        Self {
            engine,
            keys,
            generation: 0,
            arrived: (signalling_port.is_some() && share.workers > 1).then(|| Batch::new(limits::BATCH)),
            signalling_port,
            data_port,
            share,
            mail,
            processor: None,
            handed: 0,
            taken_over: 0,
            handover_overload: 0,
            role,
            inbox,
            control,
            backlog: VecDeque::new(),
            batch: Batch::new(limits::BATCH),
            small: Batch::new(limits::SMALL_BATCH),
            are_costly: false,
            is_more: false,
            copies: Batch::new(limits::BATCH),
            clock,
            signalling: 0,
            bridged: Counters::new(),
            copied: 0,
            delivered: Counters::new(),
            taken: Counters::new(),
            control_overload: 0,
            stages: STAGES.map(|name| StageStatus { name: name.to_owned(), ..StageStatus::default() }),
            floors_at: Instant::now(),
            floors_told: HashMap::new(),
            pulse: Pulse::default(),
            marks: Vec::new(),
        }
    }

    /// Remembers the processor that it is pinned to.
    pub(crate) fn runs_on(&mut self, processor: Option<usize>) {
        self.processor = processor;
    }

    /// Shows progress here.
    pub(crate) fn beats(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    /// Moves frames until it is told to stop.
    ///
    /// # Errors
    /// A port, the TUN device or a kernel can no longer be used.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let wait = match (std::mem::take(&mut self.is_more), self.backlog.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, true) => limits::IDLE,
                (false, false) => Duration::from_millis(1),
            };
            let broken = self.wait(wait)?;
            if !self.obey()? {
                return Ok(());
            }
            self.receive_signalling(broken[0])?;
            self.take_mail()?;
            self.receive_data(broken[1])?;
            self.take_packets()?;
            self.announce()?;
            self.mark()?;
            self.tell_events();
            self.tell_floors();
            self.pulse.beat();
        }
    }

    /// Waits until something is to be done. Says which ports want to be looked at for errors or because nothing came.
    fn wait(&mut self, wait: Duration) -> anyhow::Result<[bool; 2]> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let tuns = match &self.role {
            Role::Ue(ues) => ues.as_slice(),
            Role::Owner(_) => &[],
        };
        let signalling = self.signalling_port.as_ref().and_then(|port| port.poll_fd());
        let ports = [signalling, self.data_port.poll_fd()];
        let wake = self.inbox.waker.as_fd();
        // What is not there is the waker once more.
        let mut fds: [_; 3 + MEMBERSHIPS] = std::array::from_fn(|i| {
            let fd = match i {
                0 => None,
                1 | 2 => ports[i - 1],
                _ => tuns.get(i - 3).map(|ue| ue.tun.poll_fd()),
            };
            PollFd::from_borrowed_fd(fd.unwrap_or(wake), PollFlags::IN)
        });
        let fds = &mut fds[..3 + tuns.len().min(MEMBERSHIPS)];
        let ready = match poll(fds, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e).context("waiting for frames"),
        };
        let woken = !fds[0].revents().is_empty();
        let is_odd = |i: usize| fds[i].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        let broken = [1, 2].map(|i| (ready == 0 && !wait.is_zero()) || is_odd(i));
        if woken {
            self.inbox.waker.reset();
        }
        Ok(broken)
    }

    fn now(&self) -> Now {
        self.clock.engine_now()
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
                ToData::Changed { group } => self.begin_marks(group),
                ToData::Uplink { local, owner } => {
                    if let Role::Ue(ues) = &mut self.role
                        && let Some(ue) = ues.iter_mut().find(|ue| ue.way.local == local)
                    {
                        ue.way.uplink = owner;
                        ue.announced = false;
                        ue.announce_at = owner.map(|_| Instant::now());
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

    /// Seals under the newest keys and sends what is in the batch, and empties it.
    fn send(&mut self, which: Which) -> anyhow::Result<()> {
        if !self.batch.is_empty() {
            let now = self.now();
            self.engine.follow(now)?;
        }
        self.send_routed(which)
    }

    /// The same under the keys that were the newest when its way was decided: who gets copies over links hangs on them.
    fn send_routed(&mut self, which: Which) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.seal_and_send(which)?;
        self.batch.clear();
        Ok(())
    }

    fn seal_and_send(&mut self, which: Which) -> anyhow::Result<()> {
        let began = Instant::now();
        self.engine.protect_as_followed(&mut self.batch)?;
        self.timed(Stage::Seal, began, self.batch.len());
        let began = Instant::now();
        let port = match (which, &mut self.signalling_port) {
            (Which::Signalling, Some(port)) => port,
            _ => &mut self.data_port,
        };
        let outcome = port.tx(&self.batch)?;
        self.timed(Stage::Send, began, outcome.total() as usize);
        Ok(())
    }

    /// Takes PC5-S from its socket. What is another worker's goes to it as it came.
    fn receive_signalling(&mut self, look: bool) -> anyhow::Result<()> {
        let Some(port) = &mut self.signalling_port else { return Ok(()) };
        self.batch.clear();
        let began = Instant::now();
        let mut origins: Vec<Option<SocketAddr>> = Vec::new();
        let received = match &mut self.arrived {
            None => {
                let received = port.rx(&mut self.batch, patience(look))?;
                origins.extend((0..received).map(|i| port.origin(i)));
                received
            }
            Some(arrived) => {
                arrived.clear();
                let received = port.rx(arrived, patience(look))?;
                for i in 0..received {
                    let frame = arrived.received(i);
                    match Share::owner_of_frame(frame, self.share.workers) {
                        own if own == self.share.worker => {
                            // As large as the batch that it was taken into.
                            if self.batch.push_frame(frame, Meta::default()).is_some() {
                                origins.push(port.origin(i));
                            }
                        }
                        other => self.mail.add(other, Item::Frame(port.origin(i)), frame),
                    }
                }
                self.post();
                received
            }
        };
        self.is_more |= received == limits::BATCH;
        self.timed(Stage::Receive, began, received);
        self.open_and_route(|i| origins.get(i).copied().flatten())
    }

    /// Takes data from its port, so much at a time that PC5-S and control do not wait long for their turn.
    fn receive_data(&mut self, look: bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let are_costly = self.are_costly;
        if are_costly {
            std::mem::swap(&mut self.batch, &mut self.small);
        }
        let received = self.receive_batch(look);
        if are_costly {
            std::mem::swap(&mut self.batch, &mut self.small);
        }
        let received = received?;
        if received > 0 {
            let a_frame = began.elapsed() / u32::try_from(received).unwrap_or(u32::MAX);
            self.are_costly = a_frame > if are_costly { limits::COSTLY / 2 } else { limits::COSTLY };
        }
        Ok(())
    }

    fn receive_batch(&mut self, look: bool) -> anyhow::Result<usize> {
        self.batch.clear();
        let began = Instant::now();
        let received = self.data_port.rx(&mut self.batch, patience(look))?;
        if received == 0 {
            return Ok(0);
        }
        self.is_more |= self.batch.is_full_for(0);
        self.timed(Stage::Receive, began, received);
        let origins: Vec<_> = match self.data_port.origin(0) {
            None => Vec::new(),
            Some(_) => (0..received).map(|i| self.data_port.origin(i)).collect(),
        };
        self.open_and_route(|i| origins.get(i).copied().flatten())?;
        Ok(received)
    }

    /// Does what other workers have for this one.
    fn take_mail(&mut self) -> anyhow::Result<()> {
        // So many at most: who fills the box faster than it is emptied does not keep this thread from its ports.
        let began = Instant::now();
        for _ in 0..limits::PARCELS {
            if began.elapsed() > limits::MAIL {
                break;
            }
            let Some(parcel) = self.mail.fetch() else { return Ok(()) };
            self.batch.clear();
            let mut origins = Vec::new();
            let now = self.now();
            self.engine.follow(now)?;
            let view = self.view();
            for (item, octets) in parcel.items() {
                match item {
                    Item::Sdu(sdu) => {
                        if self.batch.is_full_for(octets.len()) {
                            self.send_routed(Which::Data)?;
                        }
                        // The batch was emptied for it.
                        let pushed =
                            self.batch.push_sdu(sdu.address, sdu.lcid, sdu.sdu_type, octets, Meta::default());
                        if let (Some(i), Some(from), Some(view)) = (pushed, sdu.group_from, &view) {
                            self.copy_to_links(i, sdu.address.source(), from, view)?;
                        }
                    }
                    Item::Frame(origin) => origins.push((origin, octets)),
                }
            }
            self.send_copies()?;
            self.post();
            self.send_routed(Which::Data)?;
            self.taken_over += origins.len() as u64;
            for chunk in origins.chunks(limits::BATCH / 2) {
                self.batch.clear();
                for (_, frame) in chunk {
                    let _ = self.batch.push_frame(frame, Meta::default());
                }
                self.open_and_route(|i| chunk.get(i).and_then(|(origin, _)| *origin))?;
            }
        }
        // Its bell may have rung before: what is left is not to wait for the next one.
        self.is_more = true;
        Ok(())
    }

    /// Sends mail, and counts what became of it.
    fn post(&mut self) {
        let posted = self.mail.post();
        self.handed += posted.frames;
        self.handover_overload += posted.lost_frames;
        self.copied += posted.copies;
        (0..posted.sdus).for_each(|_| self.bridged.count(Verdict::Accepted));
        (0..posted.lost_sdus).for_each(|_| self.bridged.count(Verdict::Overload));
    }

    /// Opens the frames in the batch, and finds the way of what they carry.
    fn open_and_route(&mut self, origin: impl Fn(usize) -> Option<SocketAddr>) -> anyhow::Result<()> {
        let frames = self.batch.len();
        if frames == 0 {
            return Ok(());
        }
        let began = Instant::now();
        let now = self.now();
        self.engine.open(&mut self.batch, now)?;
        self.timed(Stage::Open, began, frames);
        for (i, s) in self.batch.slots().iter().enumerate() {
            if s.verdict == Verdict::Accepted
                && s.lcid != Lcid::CLEAR
                && !s.address.is_group()
                && let Some(origin) = origin(i)
            {
                self.data_port.learn(s.address.source(), origin);
            }
        }
        let began = Instant::now();
        let forward = self.route()?;
        self.post();
        self.timed(Stage::Route, began, frames);
        if forward { self.send_routed(Which::Data) } else { Ok(()) }
    }
}

/// Only when it may wait does a port look after errors and lost interfaces.
fn patience(look: bool) -> Duration {
    if look { Duration::from_nanos(1) } else { Duration::ZERO }
}
