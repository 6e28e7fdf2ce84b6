//! What one worker has for another: bridged SDUs, which go to the worker that owns the outgoing context, and frames that
//! came by a socket they share.
//!
//! ```text
//! packing, one parcel a worker --post--> bounded channel, in order --> its worker
//! ```
//! Nobody waits: a parcel that its worker has no room for is dropped whole, and counted.

use std::net::SocketAddr;

use crossbeam::channel::{Receiver, Sender, bounded};
use pc5_dataplane::ids::{Layer2Id, Lcid, SduType};
use pc5_dataplane::pdu::Address;

use crate::run::channels::Waker;

/// Own limits.
mod limits {
    /// Parcels under way to a worker.
    pub(super) const PARCELS: usize = 64;
    /// Items of a parcel: a burst.
    pub(super) const ITEMS: usize = 256;
}

/// An SDU to be sealed and sent.
#[derive(Clone, Copy)]
pub(super) struct Sdu {
    pub address: Address,
    pub lcid: Lcid,
    pub sdu_type: SduType,
    /// Whose it is, if it goes to a group: who seals it sees to the copies for others.
    pub group_from: Option<Layer2Id>,
    /// One of several copies of a group SDU, which is accounted for apart.
    pub copy: bool,
}

/// What an item is.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Sdu(Sdu),
    /// A received frame, not parsed yet, and where it came from.
    Frame(Option<SocketAddr>),
}

/// Several items for one worker.
#[derive(Default)]
pub(super) struct Parcel {
    octets: Vec<u8>,
    items: Vec<(Item, u32)>,
}

impl Parcel {
    /// The items in order, each with its octets.
    pub(super) fn items(&self) -> impl Iterator<Item = (Item, &[u8])> {
        let mut start = 0;
        self.items.iter().map(move |&(item, end)| {
            let from = std::mem::replace(&mut start, end as usize);
            (item, self.octets.get(from..end as usize).unwrap_or_default())
        })
    }
}

/// What became of items that were posted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Posted {
    /// SDUs that are no copies, under way.
    pub sdus: u64,
    /// And those that there was no room for.
    pub lost_sdus: u64,
    pub copies: u64,
    pub frames: u64,
    pub lost_frames: u64,
}

/// A worker's letter box, and its ways to the others'.
pub(crate) struct Mail {
    letters: Receiver<Parcel>,
    doors: Vec<Door>,
    posted: Posted,
}

#[derive(Clone)]
struct Way {
    to: Sender<Parcel>,
    bell: Waker,
}

struct Door {
    to: Way,
    packing: Parcel,
}

impl Mail {
    /// One for each worker, by the bells that wake them.
    pub(crate) fn between(bells: &[Waker]) -> Vec<Self> {
        let (ways, boxes): (Vec<_>, Vec<_>) = bells
            .iter()
            .map(|bell| {
                let (to, letters) = bounded(limits::PARCELS);
                (Way { to, bell: bell.clone() }, letters)
            })
            .unzip();
        boxes
            .into_iter()
            .map(|letters| {
                let doors = ways.iter().cloned().map(|to| Door { to, packing: Parcel::default() });
                Self { letters, doors: doors.collect(), posted: Posted::default() }
            })
            .collect()
    }

    /// Packs an item for a worker.
    pub(super) fn add(&mut self, worker: usize, item: Item, octets: &[u8]) {
        let Some(door) = self.doors.get_mut(worker) else { return };
        door.packing.octets.extend_from_slice(octets);
        // A parcel holds 256 frames of 64 KiB at most.
        door.packing.items.push((item, door.packing.octets.len() as u32));
        if door.packing.items.len() >= limits::ITEMS {
            door.post(&mut self.posted);
        }
    }

    /// Sends everything that is packed. Says what became of all items since the last time.
    pub(super) fn post(&mut self) -> Posted {
        for door in &mut self.doors {
            door.post(&mut self.posted);
        }
        std::mem::take(&mut self.posted)
    }

    /// The next parcel for this worker.
    pub(super) fn fetch(&self) -> Option<Parcel> {
        self.letters.try_recv().ok()
    }
}

impl Door {
    fn post(&mut self, posted: &mut Posted) {
        if self.packing.items.is_empty() {
            return;
        }
        let parcel = std::mem::take(&mut self.packing);
        let mut of = Posted::default();
        for (item, _) in &parcel.items {
            match item {
                Item::Sdu(sdu) if sdu.copy => of.copies += 1,
                Item::Sdu(_) => of.sdus += 1,
                Item::Frame(_) => of.frames += 1,
            }
        }
        if self.to.to.try_send(parcel).is_ok() {
            self.to.bell.wake();
            posted.sdus += of.sdus;
            posted.copies += of.copies;
            posted.frames += of.frames;
        } else {
            posted.lost_sdus += of.sdus;
            posted.lost_frames += of.frames;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdu(copy: bool) -> Item {
        let (a, b) = (Layer2Id::from_octets([0, 0, 1]), Layer2Id::from_octets([0, 0, 2]));
        let address = Address::link(a, b);
        Item::Sdu(Sdu { address, lcid: Lcid::USER, sdu_type: SduType::Ip, group_from: None, copy })
    }

    #[test]
    fn items_arrive_in_order_and_what_there_is_no_room_for_is_counted() {
        let bells = [Waker::new().unwrap(), Waker::new().unwrap()];
        let mut mail = Mail::between(&bells);
        let many = (limits::PARCELS * limits::ITEMS) as u32;
        for n in 0..many + 10 {
            mail[0].add(1, sdu(false), &n.to_be_bytes()[..(n % 5).min(4) as usize]);
        }
        mail[0].add(1, Item::Frame(None), &[7; 64]);
        mail[0].add(1, sdu(true), &[]);
        let posted = mail[0].post();
        assert_eq!(
            posted,
            Posted { sdus: u64::from(many), lost_sdus: 10, lost_frames: 1, ..Posted::default() }
        );
        assert!(mail[0].fetch().is_none());
        let mut n = 0u32;
        while let Some(parcel) = mail[1].fetch() {
            for (_, octets) in parcel.items() {
                assert_eq!(octets, &n.to_be_bytes()[..(n % 5).min(4) as usize]);
                n += 1;
            }
        }
        assert_eq!(n, many);
        mail[0].add(1, Item::Frame(None), &[7; 64]);
        mail[0].add(1, sdu(true), &[1]);
        assert_eq!(mail[0].post(), Posted { frames: 1, copies: 1, ..Posted::default() });
        assert_eq!(mail[1].fetch().unwrap().items().map(|(_, o)| o.len()).collect::<Vec<_>>(), [64, 1]);
    }
}
