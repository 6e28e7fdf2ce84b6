//! Two ports joined by queues: for tests, simulated members and in-process hops.

use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::{IoError, Link, PacketIo, PortCounters, TxOutcome};
use crate::batch::{Batch, Meta};
use crate::verdict::Verdict;

/// One end of a pair.
pub struct Mem {
    name: String,
    from: Receiver<Box<[u8]>>,
    to: Sender<Box<[u8]>>,
    /// Taken from the queue, but the batch had no room.
    held: Option<Box<[u8]>>,
    max_frame: usize,
    counters: PortCounters,
}

/// Two ends; each direction holds at most `depth` frames of at most `max_frame` octets, what is beyond is overload.
pub fn pair(depth: usize, max_frame: usize) -> (Mem, Mem) {
    let (a_to_b, b_from_a) = bounded(depth);
    let (b_to_a, a_from_b) = bounded(depth);
    let end = |name: &str, from, to| Mem {
        name: name.to_owned(),
        from,
        to,
        held: None,
        max_frame,
        counters: PortCounters::default(),
    };
    (end("mem a", a_from_b, a_to_b), end("mem b", b_from_a, b_to_a))
}

impl Mem {
    /// Queues a frame as if the other end's peer had sent it, for tests that speak octets; whether there was room.
    pub fn inject(&mut self, frame: &[u8]) -> bool {
        self.to.try_send(frame.into()).is_ok()
    }

    /// Takes the next frame as it came, for tests that speak octets.
    pub fn take(&mut self) -> Option<Box<[u8]>> {
        self.held.take().or_else(|| self.from.try_recv().ok())
    }

    fn push(&mut self, batch: &mut Batch, frame: Box<[u8]>) -> bool {
        let meta = Meta::default();
        if batch.push_frame(&frame, meta).is_some() {
            self.counters.received += 1;
            return true;
        }
        if batch.is_empty() {
            self.counters.refused += 1;
            return true;
        }
        self.held = Some(frame);
        false
    }
}

impl PacketIo for Mem {
    fn name(&self) -> &str {
        &self.name
    }

    fn rx(&mut self, batch: &mut Batch, wait: Duration) -> Result<usize, IoError> {
        let before = batch.len();
        let mut next = self.take();
        if next.is_none() && !wait.is_zero() {
            next = match self.from.recv_timeout(wait) {
                Ok(frame) => Some(frame),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    // A lost peer is a link that is down: silence that takes its time.
                    std::thread::sleep(wait);
                    None
                }
            };
        }
        while let Some(frame) = next {
            if !self.push(batch, frame) {
                break;
            }
            next = self.from.try_recv().ok();
        }
        Ok(batch.len() - before)
    }

    fn tx(&mut self, batch: &Batch) -> Result<TxOutcome, IoError> {
        let mut outcome = TxOutcome::default();
        for (i, slot) in batch.slots().iter().enumerate() {
            if slot.verdict != Verdict::Accepted {
                continue;
            }
            let frame = batch.frame(i);
            if frame.len() > self.max_frame {
                outcome.too_long += 1;
                continue;
            }
            match self.to.try_send(frame.into()) {
                Ok(()) => outcome.sent += 1,
                Err(TrySendError::Full(_)) => outcome.overload += 1,
                Err(TrySendError::Disconnected(_)) => outcome.link_down += 1,
            }
        }
        self.counters.tx.add(&outcome);
        Ok(outcome)
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }

    fn link(&mut self) -> Link {
        Link::Up
    }

    fn max_frame(&self) -> usize {
        self.max_frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Layer2Id, Lcid, SduType};
    use crate::pdu::Address;

    fn batch(n: u8) -> Batch {
        let mut b = Batch::new(n.into());
        let a = Address::link(Layer2Id::new(1).unwrap(), Layer2Id::new(2).unwrap());
        for i in 0..n {
            b.push_sdu(a, Lcid::USER, SduType::NonIp, &[i; 80], Meta::default()).unwrap();
            b.slots_mut()[i as usize].verdict = Verdict::Accepted;
        }
        b
    }

    #[test]
    fn frames_cross_and_sums_add_up() {
        let (mut a, mut b) = pair(4, 200);
        let mut out = batch(6);
        out.slots_mut()[1].verdict = Verdict::NoKey;
        let outcome = a.tx(&out).unwrap();
        assert_eq!((outcome.sent, outcome.overload, outcome.total()), (4, 1, 5));
        let mut small = Batch::new(3);
        assert_eq!(b.rx(&mut small, Duration::ZERO).unwrap(), 3);
        assert_eq!(small.received(0), out.frame(0));
        assert_eq!(small.received(1), out.frame(2));
        assert_eq!(b.rx(&mut small, Duration::ZERO).unwrap(), 0, "full");
        small.clear();
        assert_eq!(b.rx(&mut small, Duration::ZERO).unwrap(), 1, "the held one");
        assert_eq!(b.rx(&mut small, Duration::from_millis(1)).unwrap(), 0);
        assert_eq!(b.counters().received, 4);
        assert_eq!(a.counters().tx, outcome);
    }

    #[test]
    fn too_long_ones_and_a_lost_peer_are_outcomes() {
        let (mut a, b) = pair(4, 100);
        assert_eq!(a.tx(&batch(2)).unwrap().too_long, 2);
        let (mut c, _) = pair(4, 200);
        drop(b);
        assert_eq!(c.tx(&batch(2)).unwrap().link_down, 2);
        assert_eq!(c.rx(&mut Batch::new(1), Duration::from_millis(1)).unwrap(), 0);
    }
}
