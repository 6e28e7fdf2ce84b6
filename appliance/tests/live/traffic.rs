//! Numbered datagrams at a steady rate, and who counts what arrives.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pc5_dataplane::io::netns::Namespace;

/// Octets by TCP from one space to an address in another, which sends them back.
pub(crate) fn there_and_back(from: &Namespace, to: &Namespace, at: &str, payload: &[u8]) {
    let at: SocketAddr = at.parse().unwrap();
    let server = to.inside(|| TcpListener::bind(at).unwrap()).unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let connect = || TcpStream::connect_timeout(&at, Duration::from_secs(10));
    let mut stream = from.inside(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(payload).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    echo.join().unwrap();
    assert!(back == payload, "{} of {} octets came back", back.len(), payload.len());
}

/// Random octets that payloads are cut from: each datagram another piece.
pub(crate) struct Pool(Vec<u8>);

impl Pool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(super::lab::octets(1 << 20)))
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

/// Numbers that a printed seed brings back: xorshift64*.
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// By `PC5_SEED`, else by the clock.
    pub(crate) fn new() -> Self {
        let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("PC5_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock) | 1;
        Self { seed, state: seed }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// One of its own for somebody else.
    pub(crate) fn another(&mut self) -> Self {
        let seed = self.below(u64::from(u32::MAX)) | 1;
        Self { seed, state: seed }
    }

    /// 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
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
