//! The control thread: procedures, the key table, timers, the store, and what operators ask. It never does data work.
//!
//! ```text
//! engine events, PC5-S --> Owner | Member --> commands --> key table (published) --> engine
//! asks, signals, time  -->                --> PC5-S    --> data thread
//!                                         --> notices  --> log, bridge, counts
//! ```

mod orders;
mod procedure;
mod screens;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pc5_control::clock::Now;
use pc5_control::credential::Identity;
use pc5_control::group_owner::{Ended, Input, Notice, Order, Output, SharedTrust};
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::keys::Event;
use pc5_dataplane::keys::table::KeyTable;
use tracing::{debug, error, info, warn};

pub(crate) use self::procedure::{Kind, Membership, Procedure};
use super::bridge::Bridge;
use super::channels::{ControlInbox, DataHandle, ToControl, ToData};
use super::clock::Clock;
use super::events::{self, Events};
use super::keylog::KeyLog;
use super::log::Paced;
use super::network::Reach;
use super::privileges;
use super::reload::Reloader;
use super::service_manager::{self, Pulse};
use super::status::{Answer, Body, PrivilegesStatus, VERSION};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// How long leaving may take at the end.
    pub(super) const DRAIN: Duration = Duration::from_millis(1_500);
    /// How long an answer of the data thread is waited for.
    pub(super) const STATUS: Duration = Duration::from_millis(80);
    /// Longest sleep, so that the clock of validity is looked at.
    pub(super) const SLEEP: Duration = Duration::from_secs(1);
    /// Messages that nobody vouches for taken in a row before looking at those that are proved.
    pub(super) const CLAIMED_IN_A_ROW: usize = 8;
}

/// What is known of the station and does not change.
pub(crate) struct Facts {
    pub identity: Identity,
    /// Group and our Layer-2 id in it.
    pub groups: Vec<(GroupId, Layer2Id)>,
    pub state: String,
    pub privileges: PrivilegesStatus,
    /// Way of the ports, and why there is no better one.
    pub way: String,
    pub refused: Vec<String>,
    /// Which processors do the kernel's work of receiving.
    pub steering: String,
    /// At an owner: what it tells of its members.
    pub bridge: Option<Bridge>,
    /// Whom this device believes.
    pub trust: SharedTrust,
    /// How it stands with the home network, where one is configured.
    pub network: Option<Reach>,
    /// Where what happens is told.
    pub events: Events,
}

/// Counters from which is shown since they were cleared.
struct Baseline {
    at: Instant,
    counts: BTreeMap<String, u64>,
}

/// The thread's state.
pub(crate) struct Control {
    procedure: Procedure,
    table: KeyTable,
    data: DataHandle,
    inbox: ControlInbox,
    facts: Facts,
    key_log: Option<KeyLog>,
    reloader: Reloader,
    clock: Clock,
    baseline: Baseline,
    notices: BTreeMap<String, u64>,
    /// Confirmed links of a UE, by its own Layer-2 id: the owner and who it is.
    uplinks: BTreeMap<Layer2Id, (Layer2Id, Identity)>,
    /// UE: when it began to join, by its own Layer-2 id, until a group frame has verified.
    joining_since: BTreeMap<Layer2Id, Instant>,
    late_entry: Option<Duration>,
    ended: Option<Option<String>>,
    /// Why the state took no write since an order was begun.
    unwritten: Option<String>,
    /// Of the log.
    paced: Paced,
    pulse: Pulse,
}

impl Control {
    pub(crate) fn new(
        procedure: Procedure,
        table: KeyTable,
        (data, inbox): (DataHandle, ControlInbox),
        facts: Facts,
        key_log: Option<KeyLog>,
        reloader: Reloader,
        clock: Clock,
    ) -> Self {
        Self {
            procedure,
            table,
            data,
            inbox,
            facts,
            key_log,
            reloader,
            clock,
            baseline: Baseline { at: clock.began, counts: BTreeMap::new() },
            notices: BTreeMap::new(),
            uplinks: BTreeMap::new(),
            joining_since: BTreeMap::new(),
            late_entry: None,
            ended: None,
            unwritten: None,
            paced: Paced::default(),
            pulse: Pulse::default(),
        }
    }

    /// Shows progress here.
    pub(crate) fn beats(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    /// Takes in the CRLs of the configured files: kept from now on, the time floor raised.
    pub(crate) fn takes(&mut self, crls: Vec<Vec<u8>>) {
        crls.into_iter().for_each(|der| self.input(Input::Crl(der)));
    }

    /// Works until a signal ends it.
    ///
    /// # Errors
    /// The data thread ended by itself.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        match &self.procedure {
            Procedure::Owner(_) => self.input(Input::Time),
            Procedure::Ue(memberships) => {
                let now = Instant::now();
                self.joining_since = memberships.iter().map(|m| (m.layer2, now)).collect();
                self.input(Input::Order(Order::Join));
            }
        }
        let signal = loop {
            if let Some(signal) = self.turn(limits::SLEEP) {
                break signal;
            }
            if let Some(why) = self.ended.take() {
                anyhow::bail!("{}", why.unwrap_or_else(|| "the data thread ended".into()));
            }
        };
        info!(signal, "draining");
        service_manager::stopping();
        self.input(Input::Order(Order::Leave));
        let until = Instant::now() + limits::DRAIN;
        while self.ended.is_none() && !self.procedure.is_apart(self.now()) && Instant::now() < until {
            self.turn(Duration::from_millis(50));
        }
        Ok(())
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Waits for the next thing and does it. Gives the signal that says to end.
    fn turn(&mut self, at_most: Duration) -> Option<i32> {
        let elapsed = self.clock.began.elapsed();
        let due = self.procedure.deadline().map(|d| d.saturating_sub(elapsed));
        let wait = due.map_or(at_most, |d| d.min(at_most));
        let first = crossbeam::select! {
            recv(self.inbox.proved) -> message => message.ok(),
            recv(self.inbox.claimed) -> message => message.ok(),
            default(wait) => None,
        };
        let mut end = first.and_then(|message| self.take(message));
        for _ in 0..limits::CLAIMED_IN_A_ROW {
            while let Ok(message) = self.inbox.proved.try_recv() {
                end = end.or(self.take(message));
            }
            let Ok(message) = self.inbox.claimed.try_recv() else { break };
            end = end.or(self.take(message));
        }
        if self.procedure.deadline().is_some_and(|d| d <= self.clock.began.elapsed()) {
            self.input(Input::Time);
        }
        self.pulse.beat();
        end
    }

    fn take(&mut self, message: ToControl) -> Option<i32> {
        match message {
            ToControl::Event(Event::Signalling(s)) => self.input(Input::Frame(s)),
            ToControl::Event(event @ Event::GroupFirstVerified { local, .. }) => {
                self.entered(local);
                self.input(Input::Engine(event));
            }
            ToControl::Event(event) => self.input(Input::Engine(event)),
            ToControl::Floors { group, pgk_id, floors } => {
                self.input(Input::Floors { group, pgk_id, floors });
            }
            ToControl::Ask(ask, reply) => {
                let body = self.answer(ask);
                // Who asked may have gone.
                let _ = reply.send(Answer { version: VERSION, body });
            }
            ToControl::Signal(signal_hook::consts::SIGHUP) => drop(self.reload()),
            ToControl::Fetched(input) => self.input(*input),
            ToControl::Signal(signal) => return Some(signal),
            ToControl::DataEnded(why) => self.ended = Some(why),
        }
        None
    }

    /// Reads the configuration again, with the files that it names. One that is not good changes nothing.
    fn reload(&mut self) -> Body {
        service_manager::reloading();
        let user = &self.facts.privileges.user;
        let body = match self.reloader.read().map_err(|e| privileges::explain(e, user)) {
            Err(e) => {
                metrics::counter!("pc5_reloads_total", "result" => "refused").increment(1);
                error!("reload refused, nothing changed: {e:#}");
                Body::Failed(format!("nothing changed: {e:#}"))
            }
            Ok(reload) => {
                metrics::counter!("pc5_reloads_total", "result" => "taken").increment(1);
                reload.inputs.into_iter().for_each(|input| self.input(input));
                let applied = said(&reload.changes.applied);
                if reload.changes.restart.is_empty() {
                    info!(applied, "configuration read again");
                    Body::Done(format!("configuration read again; changed: {applied}"))
                } else {
                    let restart = said(&reload.changes.restart);
                    warn!(applied, restart, "configuration read again; some changes wait for a restart");
                    Body::Done(format!(
                        "configuration read again; changed: {applied}; waits for a restart: {restart}"
                    ))
                }
            }
        };
        service_manager::ready("running");
        body
    }

    /// A group frame verified: the first one since the join began is the end of a UE's entry.
    fn entered(&mut self, local: Layer2Id) {
        let Some(since) = self.joining_since.remove(&local) else { return };
        let took = since.elapsed();
        info!(?took, "first verified group frame since the join began");
        self.late_entry = Some(took);
        self.facts.events.tell("late_entry", [("ms", took.as_millis().to_string())]);
    }

    /// Hands something to the procedures and does what they want.
    fn input(&mut self, input: Input) {
        let now = self.now();
        self.procedure.handle(input, now);
        self.carry_out();
    }

    /// Hands something to one membership alone.
    fn input_of(&mut self, group: GroupId, input: Input) {
        let now = self.now();
        if let Procedure::Ue(memberships) = &mut self.procedure
            && let Some(membership) = memberships.iter_mut().find(|m| m.group == group)
        {
            membership.handle(input, now);
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.procedure.poll() {
            match output {
                Output::Install(command) => {
                    if let Some(log) = &mut self.key_log
                        && let Err(e) = log.note(&command)
                    {
                        error!("key log: {e}");
                    }
                    match self.table.apply(command) {
                        Ok(()) => self.table.publish(),
                        // The procedures ask for nothing that cannot be; if they do, the table is as it was.
                        Err(e) => error!("key table: {e}"),
                    }
                }
                Output::Send(message) => self.data.tell(ToData::Send(message)),
                Output::Notice(notice) => self.notice(notice),
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        let owner = matches!(self.procedure, Procedure::Owner(_));
        let name = events::name(&notice);
        // What others can cause as often as they like is told in the log once a second, and always counted.
        let paced =
            caused_by_others(&notice).map(|cause| self.paced.due((name, cause), self.clock.began.elapsed()));
        let (told, held_back) = match paced {
            Some(due) => (due.is_some(), due.filter(|n| *n > 0)),
            None => (true, None),
        };
        match &notice {
            Notice::Joined { group, local, peer, identity, suite, .. } => {
                info!(%group, %peer, %identity, %suite, "joined");
                if let Some(bridge) = &self.facts.bridge {
                    bridge.join(*local, *peer, identity);
                } else {
                    self.uplinks.insert(*local, (*peer, identity.clone()));
                    self.data.tell(ToData::Uplink { local: *local, owner: Some(*peer) });
                }
            }
            Notice::Ended { group, local, peer, identity, why } => {
                info!(%group, %peer, %identity, ?why, "link ended");
                if let Some(bridge) = &self.facts.bridge {
                    bridge.leave(*local, *peer);
                } else if *why != Ended::Replaced
                    && self.uplinks.get(local).is_some_and(|(owner, _)| owner == peer)
                {
                    self.uplinks.remove(local);
                    self.joining_since.insert(*local, Instant::now());
                    self.data.tell(ToData::Uplink { local: *local, owner: None });
                }
            }
            Notice::Audience { group, by_link, .. } => {
                // At once: the key that makes copies needed is published after this.
                if let Some(bridge) = &self.facts.bridge {
                    bridge.set_by_link(*group, by_link.iter().copied());
                }
            }
            Notice::GroupKey { group, epoch, pgk_id, exclusive } => {
                info!(%group, epoch, pgk_id = pgk_id.0, exclusive, "group key");
                if self.facts.bridge.is_some() {
                    self.data.tell(ToData::Changed { group: *group });
                }
            }
            Notice::Rekeyed { peer, id, refreshed, .. } => {
                info!(%peer, %id, refreshed, "link re-keyed");
            }
            Notice::Refused { group, claimed_source, cause, detail } if told => {
                warn!(%group, %claimed_source, ?cause, detail, held_back, "refused");
            }
            // A member's refusal has a tag; what has none is anybody's, and of no use to an owner.
            Notice::PeerRefused { group, claimed_source, cause, proved } if told && (*proved || !owner) => {
                let cause = format_args!("{cause:#04x}");
                warn!(%group, %claimed_source, cause, proved, held_back, "the other side refuses");
            }
            Notice::AttemptOver { group, waiting_for } => {
                info!(%group, waiting_for, "join without answer");
            }
            Notice::CrlTaken { number, .. } => {
                info!(?number, "CRL taken");
            }
            Notice::CrlRefused(why) if told => {
                warn!(held_back, "CRL refused: {why}");
            }
            Notice::NotRenewed(why) => {
                error!("renewed certificate not taken: {why}");
            }
            Notice::CrlInGrace(identity) if told => {
                warn!(%identity, held_back, "relied on within the CRL's grace only: fetch a new CRL");
            }
            Notice::StoreFailed(why) => {
                if told {
                    error!(held_back, "state cannot be written, nothing that needs it is handed out: {why}");
                }
                self.unwritten = Some(why.clone());
            }
            Notice::Ignored { source, detail } => {
                debug!(%source, detail, "ignored");
            }
            other => {
                debug!(?other, "notice");
            }
        }
        metrics::counter!("pc5_events_total", "event" => name).increment(1);
        if let Some(about) = events::about(&notice) {
            self.facts.events.tell(name, about);
        }
        *self.notices.entry(name.to_owned()).or_default() += 1;
    }
}

/// For notices of which others can cause one after the other: the cause octet that they name, 0 without one.
fn caused_by_others(notice: &Notice) -> Option<u8> {
    match notice {
        Notice::Refused { cause, .. } => Some(cause.cause()),
        Notice::PeerRefused { cause, proved: true, .. } => Some(*cause),
        Notice::PeerRefused { .. } => Some(0),
        Notice::CrlRefused(_) | Notice::CrlInGrace(_) | Notice::StoreFailed(_) => Some(0),
        _ => None,
    }
}

fn said(changes: &[String]) -> String {
    if changes.is_empty() { "nothing".into() } else { changes.join(", ") }
}
