//! What the data thread tells: events and floors to control, its counters to whoever asks.

use std::collections::BTreeMap;
use std::time::Instant;

use crossbeam::channel::TrySendError;
use pc5_dataplane::ids::Lcid;
use pc5_dataplane::io::Link;
use pc5_dataplane::io::tun::Tun;
use pc5_dataplane::keys::Event;
use pc5_dataplane::verdict::Verdict;

use super::{DataPlane, Role};
use crate::run::channels::ToControl;
use crate::run::status::{DataStatus, PortStatus, WorkerStatus, tally};

/// Own limits.
mod limits {
    use std::time::Duration;

    /// How often control is told what was sent under group keys. What was sent since could be played again to a UE that
    /// left and joined meanwhile.
    pub(super) const FLOORS: Duration = Duration::from_millis(20);
}

impl DataPlane {
    /// Hands events to control. What frames that nobody vouches for caused gives way when there is no room.
    pub(super) fn tell_events(&mut self) {
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
    pub(super) fn tell_floors(&mut self) {
        // Owners tell floors to joiners, and so do those who talk in a group without one.
        let told = match &self.role {
            Role::Owner(_) => true,
            Role::Ue(ues) => ues.iter().any(|ue| ue.way.ownerless),
        };
        if self.floors_at.elapsed() < limits::FLOORS || !told {
            return;
        }
        self.floors_at = Instant::now();
        let snapshot = self.keys.load();
        self.floors_told.retain(|serial, _| snapshot.groups().any(|root| root.serial == *serial));
        for root in snapshot.groups() {
            let mut floors = self.engine.verified_floors(root.group, root.pgk_id);
            floors.extend(self.engine.sent_floor(root.local, root.group, root.pgk_id));
            if floors.is_empty() || self.floors_told.get(&root.serial) == Some(&floors) {
                continue;
            }
            let told = ToControl::Floors { group: root.group, pgk_id: root.pgk_id, floors: floors.clone() };
            // Where there is no room the next ones say more.
            if self.control.proved.try_send(told).is_ok() {
                self.floors_told.insert(root.serial, floors);
            }
        }
    }

    pub(super) fn status(&mut self) -> DataStatus {
        let mut ports = Vec::new();
        let own = [("signalling", self.signalling_port.as_mut()), ("data", Some(&mut self.data_port))];
        for (traffic, port) in own.into_iter().filter_map(|(traffic, port)| Some((traffic, port?))) {
            let link = text(port.link());
            let counters = port.counters();
            ports.push(PortStatus::new(port.name(), traffic, link, port.max_frame(), counters));
        }
        let snapshot = self.keys.load();
        let suites = snapshot.groups().map(|g| g.suite).chain(snapshot.links().map(|l| l.suite));
        let kernels: BTreeMap<String, String> =
            suites.map(|s| (s.name().to_owned(), self.engine.kernel_of(s).name().to_owned())).collect();
        let mut stations = BTreeMap::<String, Vec<String>>::new();
        let mut tuns = match &self.role {
            Role::Owner(bridge) => {
                // One of the workers tells for all.
                let view = (self.share.worker == 0).then(|| bridge.view());
                for (_, member, inner) in view.iter().flat_map(|view| view.stations()) {
                    stations.entry(member.to_string()).or_default().push(inner.to_string());
                }
                stations.values_mut().for_each(|list| list.sort());
                Vec::new()
            }
            Role::Ue(ues) => {
                let told = |tun: &Tun| (tun.name().to_owned(), tun.mtu(), text(tun.link()));
                ues.iter().map(|ue| told(&ue.tun)).collect()
            }
        }
        .into_iter();
        let worker = WorkerStatus {
            worker: self.share.worker,
            processor: self.processor,
            received: ports.iter().map(|p| p.received).sum(),
            sealed: self.engine.sealed().get(Verdict::Accepted),
            busy_ns: self.stages.iter().map(|s| s.ns).sum(),
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
            handed: self.handed,
            taken_over: self.taken_over,
            handover_overload: self.handover_overload,
            workers: vec![worker],
            stages: self.stages.to_vec(),
            kernels,
            receiving_contexts: self.engine.receiving_contexts(),
            advisory_windows: self.engine.has_advisory_windows(),
            tun: tuns.next(),
            more_tuns: tuns.collect(),
            stations,
        }
    }
}

fn text(link: Link) -> String {
    format!("{link:?}").to_lowercase()
}
