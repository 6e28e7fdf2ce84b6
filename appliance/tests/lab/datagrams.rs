//! Numbered datagrams at a steady rate, and who counts what arrives.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Random octets that payloads are cut from: each datagram another piece.
pub(crate) struct Pool(Vec<u8>);

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        let mut random = vec![0; 1 << 20];
        getrandom::fill(&mut random).unwrap();
        Self::of(random)
    }

    /// Of these, more than any datagram has.
    pub(crate) fn of(octets: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(octets))
    }

    /// Datagram `n`: its number, then random octets that no other nearby has.
    fn datagram(&self, n: u64, len: usize, into: &mut Vec<u8>) {
        into.clear();
        into.extend(n.to_be_bytes());
        let from = (n as usize).wrapping_mul(1_009) % (self.0.len() - len);
        into.extend(&self.0[from..from + len - 8]);
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Sends until stopped; gives how many went.
pub(crate) struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    /// `rate` in bit/s of UDP payload, in bursts of about a millisecond.
    pub(crate) fn new(socket: UdpSocket, to: SocketAddr, pool: Arc<Pool>, rate: u64, len: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let (began, mut n, mut datagram) = (Instant::now(), 0u64, Vec::new());
            while !ends.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * rate as f64 / 8.0 / len as f64) as u64;
                // Who was not given the processor for long does not make up for it with a burst that no queue holds.
                let burst = due.saturating_sub(n).min(64);
                for _ in 0..burst {
                    pool.datagram(n, len, &mut datagram);
                    // A device that is full, or gone for a moment: that datagram was never sent.
                    if socket.send_to(&datagram, to).is_ok() {
                        n += 1;
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            n
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What arrived.
#[derive(Default, Debug)]
pub(crate) struct Arrived {
    pub(crate) datagrams: u64,
    pub(crate) octets: u64,
    /// Came more than once.
    pub(crate) repeated: u64,
    /// And how many numbers later at most.
    pub(crate) late: u64,
    /// Other octets than were sent.
    pub(crate) altered: u64,
    /// Later than one with a higher number.
    pub(crate) reordered: u64,
}

/// Counts until stopped.
pub(crate) struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Arrived>,
    /// Arrived so far.
    pub(crate) arrived: Arc<AtomicU64>,
}

impl Receiver {
    /// `socket` has a read timeout.
    pub(crate) fn new(socket: UdpSocket, pool: Arc<Pool>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let (ends, count) = (stop.clone(), arrived.clone());
        let thread = std::thread::spawn(move || {
            let (mut a, mut buffer, mut wanted) = (Arrived::default(), [0; 2_048], Vec::new());
            let (mut seen, mut newest) = (Vec::<u64>::new(), 0);
            loop {
                let Ok(len) = socket.recv(&mut buffer) else {
                    if ends.load(Ordering::Relaxed) {
                        return a;
                    }
                    continue;
                };
                let Some(number) = buffer[..len].first_chunk() else { continue };
                let n = u64::from_be_bytes(*number);
                if n < u64::from(u32::MAX) && len >= 16 {
                    pool.datagram(n, len, &mut wanted);
                }
                if wanted != buffer[..len] {
                    a.altered += 1;
                    continue;
                }
                let (word, bit) = (n as usize / 64, 1 << (n % 64));
                if seen.len() <= word {
                    seen.resize(word + 1, 0);
                }
                if seen[word] & bit != 0 {
                    a.repeated += 1;
                    a.late = a.late.max(newest - n);
                }
                seen[word] |= bit;
                a.reordered += u64::from(n < newest);
                newest = newest.max(n);
                a.datagrams += 1;
                a.octets += len as u64;
                count.store(a.datagrams, Ordering::Relaxed);
            }
        });
        Self { stop, thread, arrived }
    }

    /// Stops once nothing came for the socket's timeout.
    pub(crate) fn stop(self) -> Arrived {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
