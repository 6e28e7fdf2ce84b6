//! What the data thread and the control thread tell each other. Neither waits for the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use pc5_control::group_owner::{Input, Outgoing};
use pc5_dataplane::ids::{GroupId, Layer2Id, PgkId};
use pc5_dataplane::keys::{Event, Floor};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::share::Share;
use rustix::event::{EventfdFlags, eventfd};

use super::status::{Answer, Ask, DataStatus};

/// Own limits.
pub(crate) mod limits {
    /// What verified frames caused, under way to control.
    pub(crate) const PROVED: usize = 16_384;
    /// What nobody vouches for: PC5-S in clear, hints. A flood of it is cut off here.
    pub(crate) const CLAIMED: usize = 1_024;
}

/// Control to data.
pub(crate) enum ToData {
    /// Send PC5-S.
    Send(Outgoing),
    /// Owner: a group is sent under another key.
    Changed { group: GroupId },
    /// UE: where the data of one membership goes, or that it has no link.
    Uplink { local: Layer2Id, owner: Option<Layer2Id> },
    /// Tell how it stands.
    Status(Sender<DataStatus>),
    /// End.
    Stop,
}

/// To control.
pub(crate) enum ToControl {
    /// What the engine tells.
    Event(Event),
    /// What the engine knows of senders under a PGK.
    Floors { group: GroupId, pgk_id: PgkId, floors: Vec<Floor> },
    /// What an operator asks.
    Ask(Ask, Sender<Answer>),
    /// What was fetched from the network.
    Fetched(Box<Input>),
    /// A signal.
    Signal(i32),
    /// The data thread ended, and why if it was not told to.
    DataEnded(Option<String>),
}

/// Wakes the data thread from its waiting.
#[derive(Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A new one.
    ///
    /// # Errors
    /// No file descriptors left.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
    }

    pub(crate) fn wake(&self) {
        // Full means that it is awake.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub(crate) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Control's end of the way to data.
#[derive(Clone)]
pub(crate) struct DataHandle(Arc<[ToWorker]>);

/// The way to one worker.
struct ToWorker {
    sender: Sender<ToData>,
    waker: Waker,
}

impl ToWorker {
    fn tell(&self, message: ToData) {
        // Gone means that the daemon is on its way out.
        let _ = self.sender.send(message);
        self.waker.wake();
    }
}

impl DataHandle {
    /// How the workers stand together; `None` when one does not say so in time.
    pub(crate) fn status(&self, patience: Duration) -> Option<DataStatus> {
        let (reply, answers) = bounded(self.0.len());
        self.tell(ToData::Status(reply));
        let until = Instant::now() + patience;
        let mut all = DataStatus::default();
        for _ in 0..self.0.len() {
            all.add(answers.recv_deadline(until).ok()?);
        }
        Some(all)
    }

    fn tell_all(&self, message: impl Fn() -> ToData) {
        self.0.iter().for_each(|worker| worker.tell(message()));
    }

    /// Tells the workers that it concerns; they are awake then.
    pub(crate) fn tell(&self, message: ToData) {
        let worker = match &message {
            ToData::Send(out) => Share::owner(Address::to(out.to, out.from), self.0.len()),
            ToData::Status(reply) => return self.tell_all(|| ToData::Status(reply.clone())),
            ToData::Changed { group } => return self.tell_all(|| ToData::Changed { group: *group }),
            ToData::Stop => return self.tell_all(|| ToData::Stop),
            // A UE has one worker.
            ToData::Uplink { .. } => 0,
        };
        if let Some(worker) = self.0.get(worker) {
            worker.tell(message);
        }
    }
}

/// Everybody's end of the ways to control.
#[derive(Clone)]
pub(crate) struct ControlHandle {
    pub proved: Sender<ToControl>,
    pub claimed: Sender<ToControl>,
}

/// Control's own ends.
pub(crate) struct ControlInbox {
    pub proved: Receiver<ToControl>,
    pub claimed: Receiver<ToControl>,
}

/// Data's own ends.
pub(crate) struct DataInbox {
    pub receiver: Receiver<ToData>,
    pub waker: Waker,
}

/// The ways to so many data workers.
///
/// # Errors
/// As [`Waker::new`].
pub(crate) fn to_data(workers: usize) -> std::io::Result<(DataHandle, Vec<DataInbox>)> {
    let mut ways = Vec::with_capacity(workers);
    let mut inboxes = Vec::with_capacity(workers);
    for _ in 0..workers {
        let waker = Waker::new()?;
        let (sender, receiver) = unbounded();
        ways.push(ToWorker { sender, waker: waker.clone() });
        inboxes.push(DataInbox { receiver, waker });
    }
    Ok((DataHandle(ways.into()), inboxes))
}

/// The ways to control.
pub(crate) fn to_control() -> (ControlHandle, ControlInbox) {
    let (proved_in, proved) = bounded(limits::PROVED);
    let (claimed_in, claimed) = bounded(limits::CLAIMED);
    (ControlHandle { proved: proved_in, claimed: claimed_in }, ControlInbox { proved, claimed })
}
