//! Traffic of ordinary programs: datagrams that are counted, octets there and back; and chance.

#[path = "../lab/datagrams.rs"]
mod datagrams;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pc5_dataplane::io::netns::Namespace;

pub(crate) use self::datagrams::{Pool, Receiver, Sender};

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
