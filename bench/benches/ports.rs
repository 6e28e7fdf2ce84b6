//! Bare port pairs side by side over a veth pair in two namespaces: what the ports move without any protection.
//!
//! Rounds are interleaved, so that whatever else the machine does meets all pairs alike; figures are medians, and the
//! ratios are what counts. One thread a side, each on a core of its own where there are two.
//!
//! ```text
//! cargo bench -p pc5-bench --bench ports -- [--rounds N] [--round-ms N] [--len N] [--only NAME]
//! ```
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::io::af_packet::{AfPacket, Receive, Settings};
use pc5_dataplane::io::af_xdp::Queue;
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::io::pnet::Pnet;
use pc5_dataplane::io::udp::{self, Udp};
use pc5_dataplane::io::{PacketIo, Peers, Share};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::verdict::Verdict;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

type Port = Box<dyn PacketIo>;
type Fallible<T> = Result<T, String>;

/// Ports are made anew for each round: an open one would cost the others its copies.
type Open<'a> = Box<dyn Fn() -> Fallible<(Port, Port)> + 'a>;

struct Pair<'a> {
    name: &'static str,
    open: Open<'a>,
    rounds: Vec<Round>,
}

/// One round of one pair.
struct Round {
    /// Million frames a second that arrived.
    mframes: f64,
    /// Nanoseconds of the sending thread a frame that arrived, the kernel's work on its behalf included.
    sender_ns: f64,
    /// The same of the receiving thread.
    receiver_ns: f64,
    /// Share of the sent ones that did not arrive, percent.
    lost: f64,
}

struct Plan {
    rounds: usize,
    round: Duration,
    lengths: Vec<usize>,
    only: Option<String>,
}

fn main() -> Fallible<()> {
    let plan = Plan::from_arguments(std::env::args().skip(1))?;
    let Some(left) = Namespace::or_skip("ports") else { return Ok(()) };
    let right = Namespace::new()?;
    left.wire("air0", &right, "air1")?;
    left.ip("addr add 10.9.0.1/24 dev air0")?;
    right.ip("addr add 10.9.0.2/24 dev air1")?;
    for &len in &plan.lengths {
        let mut pairs = pairs(&left, &right);
        pairs.retain(|p| plan.wants(p));
        for _ in 0..plan.rounds {
            for pair in &mut pairs {
                let round = pair.run(len, plan.round)?;
                pair.rounds.push(round);
            }
        }
        print(len, &pairs);
    }
    println!("\nidle link, there and back            median      p99   us");
    for pair in pairs(&left, &right).iter().filter(|p| plan.wants(p)) {
        let (median, p99) = pair.ping(300)?;
        println!("{:<33} {median:8.0} {p99:8.0}", pair.name);
    }
    Ok(())
}

impl Plan {
    fn wants(&self, pair: &Pair<'_>) -> bool {
        self.only.as_ref().is_none_or(|only| pair.name.contains(only.as_str()))
    }

    fn from_arguments(arguments: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut plan =
            Self { rounds: 7, round: Duration::from_millis(300), lengths: vec![64, 1_420], only: None };
        let mut arguments = arguments.filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = || value.parse::<usize>().map_err(|e| format!("{name} {value}: {e}"));
            match name.as_str() {
                "--rounds" => plan.rounds = number()?.clamp(1, 1_000),
                "--round-ms" => plan.round = Duration::from_millis(number()?.clamp(10, 60_000) as u64),
                "--len" => plan.lengths = vec![number()?.clamp(60, 1_500)],
                "--only" => plan.only = Some(value),
                _ => return Err(format!("{name}: not an option")),
            }
        }
        Ok(plan)
    }
}

fn pairs<'a>(left: &'a Namespace, right: &'a Namespace) -> Vec<Pair<'a>> {
    let raw = move |receive, bypass, xdp| -> Open<'a> {
        Box::new(move || {
            let open = |name: &str| {
                let settings = Settings { receive, bypass, xdp, ..Settings::new(name) };
                AfPacket::open(&settings).map(|p| Box::new(p) as Port).map_err(|e| e.to_string())
            };
            Ok((left.inside(|| open("air0"))??, right.inside(|| open("air1"))??))
        })
    };
    let plain: Open<'a> = Box::new(move || {
        let open = |name: &str| {
            let port = Pnet::open(&Settings::new(name), Share::WHOLE);
            port.map(|p| Box::new(p) as Port).map_err(|e| e.to_string())
        };
        Ok((left.inside(|| open("air0"))??, right.inside(|| open("air1"))??))
    });
    let datagrams = move |offload| -> Open<'a> {
        Box::new(move || {
            let open = |ip: &str, peer: Option<&str>| -> Fallible<Port> {
                let at = |ip: &str| format!("{ip}:40000").parse::<SocketAddr>().map_err(|e| e.to_string());
                let peers = peer.map(|p| Ok::<_, String>((ids().0, at(p)?))).transpose()?;
                let settings = udp::Settings { bind: at(ip)?, peers: Peers::new(peers), offload };
                Ok(Box::new(Udp::open(&settings).map_err(|e| e.to_string())?))
            };
            let sender = left.inside(|| open("10.9.0.1", Some("10.9.0.2")))??;
            Ok((sender, right.inside(|| open("10.9.0.2", None))??))
        })
    };
    let ways: [(&'static str, Open<'a>); 8] = [
        (BASELINE, raw(Receive::Socket, false, None)),
        ("sendmmsg, bypass -> V3 blocks", raw(Receive::BLOCKS, true, None)),
        ("sendmmsg, bypass -> V2 frames", raw(Receive::FRAMES, true, None)),
        ("AF_XDP -> V3 blocks", raw(Receive::BLOCKS, true, Some(Queue::default()))),
        ("AF_XDP -> V2 frames", raw(Receive::FRAMES, true, Some(Queue::default()))),
        ("pnet -> pnet", plain),
        ("UDP sendmmsg -> recvmmsg", datagrams(false)),
        ("UDP GSO -> GRO", datagrams(true)),
    ];
    ways.into_iter().map(|(name, open)| Pair { name, open, rounds: Vec::new() }).collect()
}

/// Receiver and sender.
fn ids() -> (Layer2Id, Layer2Id) {
    (Layer2Id::from_octets([0, 0, 1]), Layer2Id::from_octets([0, 0, 2]))
}

/// A burst of `n` frames of `len` octets, as if they had been sealed.
fn burst(len: usize, n: usize, (to, from): (Layer2Id, Layer2Id)) -> Fallible<Batch> {
    let mut frame = Address::link(to, from).ethernet_header().to_vec();
    frame.extend([1, 0, 0x60, 0, 1, 0, 0]);
    frame.resize(len, 0xa5);
    let mut batch = Batch::new(n);
    for _ in 0..n {
        let slot = batch.push_frame(&frame, Meta::default()).ok_or("the burst does not fit a batch")?;
        let slot = &mut batch.slots_mut()[slot];
        slot.len = (len - 21) as u32;
        slot.verdict = Verdict::Accepted;
    }
    Ok(batch)
}

impl Pair<'_> {
    /// Median and 99th percentile of `n` round trips of one frame, 3 ms apart, in microseconds.
    fn ping(&self, n: usize) -> Fallible<(f64, f64)> {
        let (mut near, mut far) = (self.open)()?;
        let (there, back) = (burst(100, 1, ids())?, burst(100, 1, (ids().1, ids().0))?);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = Batch::new(BURST);
                while !stop.load(Ordering::Relaxed) {
                    batch.clear();
                    if far.rx(&mut batch, Duration::from_millis(5)).is_ok_and(|n| n > 0) {
                        if let Some(from) = far.origin(0) {
                            far.learn(ids().1, from);
                        }
                        let _ = far.tx(&back);
                    }
                }
            });
            let mut times = Vec::new();
            let mut batch = Batch::new(BURST);
            for _ in 0..n {
                std::thread::sleep(Duration::from_millis(3));
                let start = Instant::now();
                near.tx(&there).map_err(|e| e.to_string())?;
                batch.clear();
                if near.rx(&mut batch, Duration::from_millis(100)).map_err(|e| e.to_string())? > 0 {
                    times.push(start.elapsed().as_secs_f64() * 1e6);
                }
            }
            stop.store(true, Ordering::Relaxed);
            times.sort_by(f64::total_cmp);
            let at =
                |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
            Ok((at(0.5), at(0.99)))
        })
    }

    fn run(&mut self, len: usize, length: Duration) -> Fallible<Round> {
        let batch = burst(len, BURST, ids())?;
        let stop = AtomicBool::new(false);
        let (mut sender, mut receiver) = (self.open)()?;
        std::thread::scope(|scope| {
            let far = scope.spawn(|| receive(receiver.as_mut(), &stop));
            pin(0);
            let (start, cpu_start) = (Instant::now(), cpu_time());
            let mut sent = 0;
            while start.elapsed() < length {
                sent += sender.tx(&batch).map_err(|e| e.to_string())?.sent;
            }
            let (took, sender_cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu_start));
            stop.store(true, Ordering::Relaxed);
            let (received, receiver_cpu) = far.join().map_err(|_| "the receiver panicked")??;
            let a_frame = |cpu: Duration| cpu.as_nanos() as f64 / received.max(1) as f64;
            Ok(Round {
                mframes: received as f64 / took.as_secs_f64() / 1e6,
                sender_ns: a_frame(sender_cpu),
                receiver_ns: a_frame(receiver_cpu),
                lost: 100.0 * (sent.saturating_sub(received)) as f64 / sent.max(1) as f64,
            })
        })
    }
}

/// Receives until told to stop and nothing more comes.
fn receive(port: &mut dyn PacketIo, stop: &AtomicBool) -> Fallible<(u64, Duration)> {
    pin(1);
    let mut batch = Batch::new(BURST);
    let (mut received, start) = (0, cpu_time());
    loop {
        batch.clear();
        let last = stop.load(Ordering::Relaxed);
        let n = port.rx(&mut batch, Duration::from_millis(5)).map_err(|e| e.to_string())?;
        received += n as u64;
        if last && n == 0 {
            return Ok((received, cpu_time().saturating_sub(start)));
        }
    }
}

/// Where there are not that many cores, the system chooses.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// `rate` is by the clock on the wall; `a core` is what the busier thread would do with a core to itself, in the median
/// round and in the best one: on a machine that has other work only these mean something.
fn print(len: usize, pairs: &[Pair<'_>]) {
    let busier = |r: &Round| 1e3 / r.sender_ns.max(r.receiver_ns);
    let best = |pair: &Pair<'_>| pair.rounds.iter().map(busier).fold(0.0, f64::max);
    let base = pairs.iter().find(|p| p.name == BASELINE);
    let (base_median, base_best) = base.map_or((f64::NAN, f64::NAN), |p| (median(p, busier), best(p)));
    println!(
        "\n{len} octets: Mframes/s, ns/frame       rate  a core   ratio    best   ratio  sender  receiver    lost"
    );
    for pair in pairs {
        println!(
            "{:<33} {:8.3} {:7.3} {:7.2} {:7.3} {:7.2} {:7.0} {:9.0} {:6.1} %",
            pair.name,
            median(pair, |r| r.mframes),
            median(pair, busier),
            median(pair, busier) / base_median,
            best(pair),
            best(pair) / base_best,
            median(pair, |r| r.sender_ns),
            median(pair, |r| r.receiver_ns),
            median(pair, |r| r.lost),
        );
    }
}

fn median(pair: &Pair<'_>, of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<_> = pair.rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

const BURST: usize = 256;
const BASELINE: &str = "sendmmsg -> recvmmsg";
