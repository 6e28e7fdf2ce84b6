//! Pairs of ports that are compared: how they are opened, what their ends do, and what a round comes to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pc5_dataplane::batch::Batch;
use pc5_dataplane::io::af_packet::{AfPacket, Receive, Settings};
use pc5_dataplane::io::af_xdp::Queue;
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::io::pnet::Pnet;
use pc5_dataplane::io::probe::{self, Choice, Request};
use pc5_dataplane::io::steer::{Steer, Steering};
use pc5_dataplane::io::udp::{self, Udp};
use pc5_dataplane::io::{PacketIo, Peers};
use pc5_dataplane::share::Share;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Fallible;
use crate::work::{BURST, LINKS, Lengths, Sink, Source, destination, receiver, sender};

pub(crate) type Port = Box<dyn PacketIo>;

/// Sender and receiver.
pub(crate) struct Ends {
    sender: Port,
    receiver: Port,
    /// What the ports set on their interfaces, put back with them.
    _steering: Vec<Steering>,
}

/// Both are made anew for each round: an open one would cost the others its copies.
pub(crate) type Open<'a> = Box<dyn Fn() -> Fallible<Ends> + 'a>;

/// Two ports and what is done at their ends.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'static str,
    pub(crate) lengths: Lengths,
    pub(crate) rounds: Vec<Round>,
    open: Open<'a>,
    /// Protects and verifies.
    works: bool,
    /// UDP addresses that frames are sent to.
    peers: usize,
}

/// One round of one pair.
pub(crate) struct Round {
    /// Million frames a second that arrived.
    pub(crate) mframes: f64,
    /// Nanoseconds of the sending thread a frame that arrived, the kernel's work on its behalf included.
    pub(crate) sender_ns: f64,
    /// The same of the receiving thread.
    pub(crate) receiver_ns: f64,
    /// What all processors of the machine worked a frame that arrived: what the kernel does on nobody's behalf is in it, and
    /// whatever else runs here.
    pub(crate) machine_ns: f64,
    /// Share of the sent ones that did not arrive, percent.
    pub(crate) lost: f64,
}

impl Round {
    /// Million frames a second that the busier thread would move with a core to itself.
    pub(crate) fn a_core(&self) -> f64 {
        1e3 / self.sender_ns.max(self.receiver_ns)
    }
}

pub(crate) const BASELINE: &str = "sendmmsg -> recvmmsg";
pub(crate) const AUTO: &str = "auto";
pub(crate) const AUTO_WORKS: &str = "auto, protect and verify";
pub(crate) const UNSTEERED: &str = "auto, unsteered";
pub(crate) const UNSTEERED_WORKS: &str = "unsteered, protect and verify";
pub(crate) const PNET: &str = "pnet -> pnet";
pub(crate) const UDP: &str = "UDP GSO -> GRO";
pub(crate) const UDP_WORKS: &str = "UDP, protect and verify";
pub(crate) const UDP_PEERS: &str = "UDP, 16 peers";
pub(crate) const UDP_PEERS_WORKS: &str = "UDP, 16 peers, protect and verify";
/// Peers of the last two.
pub(crate) const PEERS: usize = 16;

/// Pairs over an interface; with `all` those, too, that nothing is asked of.
pub(crate) fn raw<'a>(
    left: &'a Namespace,
    right: &'a Namespace,
    lengths: &Lengths,
    all: bool,
) -> Vec<Pair<'a>> {
    let packet = move |receive, bypass, xdp| -> Open<'a> {
        Box::new(move || {
            let open = |name: &str| {
                let settings = Settings { receive, bypass, xdp, ..Settings::new(name) };
                AfPacket::open(&settings).map(|p| Box::new(p) as Port).map_err(|e| e.to_string())
            };
            Ends::new(left.inside(|| open("air0"))??, right.inside(|| open("air1"))??)
        })
    };
    let auto = move |steer: Steer| -> Open<'a> {
        Box::new(move || {
            let open = |name: &str| {
                let raw = Some(Settings::new(name));
                let request =
                    Request { choice: Choice::Auto, raw, udp: None, workers: 1, steer: steer.clone() };
                let mut ports = probe::open(&request).map_err(|e| e.to_string())?;
                let port = ports.data.pop().ok_or_else(|| "no data port".to_owned())?;
                Ok::<_, String>((port, ports.steering))
            };
            let ((sender, near), (receiver, far)) =
                (left.inside(|| open("air0"))??, right.inside(|| open("air1"))??);
            Ok(Ends { sender, receiver, _steering: vec![near, far] })
        })
    };
    let plain: Open<'a> = Box::new(move || {
        let open = |name: &str| {
            let port = Pnet::open(&Settings::new(name), Share::WHOLE);
            port.map(|p| Box::new(p) as Port).map_err(|e| e.to_string())
        };
        Ends::new(left.inside(|| open("air0"))??, right.inside(|| open("air1"))??)
    });
    let pair = |name, open, works| Pair::new(name, lengths, open, works, 1);
    let mut pairs = vec![
        pair(BASELINE, packet(Receive::Socket, false, None), false),
        pair(AUTO, auto(Steer::Auto), false),
        pair(AUTO_WORKS, auto(Steer::Auto), true),
        pair(UNSTEERED, auto(Steer::Off), false),
        pair(UNSTEERED_WORKS, auto(Steer::Off), true),
        pair(PNET, plain, false),
    ];
    if all {
        let queue = Some(Queue::default());
        pairs.extend([
            pair("sendmmsg, bypass -> V3 blocks", packet(Receive::BLOCKS, true, None), false),
            pair("sendmmsg, bypass -> V2 frames", packet(Receive::FRAMES, true, None), false),
            pair("AF_XDP -> V3 blocks", packet(Receive::BLOCKS, true, queue), false),
            pair("AF_XDP -> V2 frames", packet(Receive::FRAMES, true, queue), false),
            pair("AF_XDP -> recvmmsg", packet(Receive::Socket, true, queue), false),
        ]);
    }
    pairs
}

/// Pairs over UDP.
pub(crate) fn udp<'a>(
    left: &'a Namespace,
    right: &'a Namespace,
    peers: usize,
    lengths: &Lengths,
) -> Vec<Pair<'a>> {
    let datagrams = move |offload| -> Open<'a> {
        Box::new(move || {
            let open = |ip: &str, peers: Vec<_>| -> Fallible<Port> {
                let bind = format!("{ip}:{PORT}").parse::<SocketAddr>().map_err(|e| e.to_string())?;
                let settings = udp::Settings { bind, peers: Peers::new(peers), offload };
                Ok(Box::new(Udp::open(&settings).map_err(|e| e.to_string())?))
            };
            let near = (0..LINKS).map(|link| (sender(link), SocketAddr::from(([10, 9, 0, 1], PORT))));
            let far = (0..LINKS).map(|link| {
                let at = SocketAddr::from(([10, 9, 0, 100 + (link % peers) as u8], PORT));
                (destination(link, peers), at)
            });
            let (near, far) = (near.collect(), far.collect());
            Ends::new(left.inside(|| open("10.9.0.1", far))??, right.inside(|| open("0.0.0.0", near))??)
        })
    };
    let pair = |name, offload, works| Pair::new(name, lengths, datagrams(offload), works, peers);
    if peers > 1 {
        return vec![pair(UDP_PEERS, true, false), pair(UDP_PEERS_WORKS, true, true)];
    }
    vec![pair("UDP sendmmsg -> recvmmsg", false, false), pair(UDP, true, false), pair(UDP_WORKS, true, true)]
}

const PORT: u16 = 40_000;

impl Ends {
    fn new(sender: Port, receiver: Port) -> Fallible<Self> {
        Ok(Self { sender, receiver, _steering: Vec::new() })
    }
}

impl<'a> Pair<'a> {
    fn new(name: &'static str, lengths: &Lengths, open: Open<'a>, works: bool, peers: usize) -> Self {
        Self { name, lengths: lengths.clone(), rounds: Vec::new(), open, works, peers }
    }

    /// Whether its ends only move frames.
    pub(crate) fn is_bare(&self) -> bool {
        !self.works
    }

    /// Median and 99th percentile of `n` round trips of one frame, 3 ms apart, in microseconds.
    pub(crate) fn ping(&self, n: usize) -> Fallible<(f64, f64)> {
        pin(None);
        let Ends { sender: mut near, receiver: mut far, _steering } = (self.open)()?;
        let there = one_frame(receiver(), sender(0))?;
        let back = one_frame(sender(0), receiver())?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = Batch::new(BURST);
                while !stop.load(Ordering::Relaxed) {
                    batch.clear();
                    if far.rx(&mut batch, Duration::from_millis(5)).is_ok_and(|n| n > 0) {
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

    /// One round; the first part of it, in which rings and keys get warm, does not count.
    pub(crate) fn run(&mut self, length: Duration) -> Fallible<()> {
        let (mut source, mut sink) = if self.works {
            (Source::protected(&self.lengths, self.peers)?, Sink::verified(self.peers)?)
        } else {
            (Source::made(&self.lengths, self.peers)?, Sink::Counted)
        };
        // Ports see all processors, and the other thread begins where this one may run.
        pin(None);
        let Ends { mut sender, mut receiver, _steering } = (self.open)()?;
        let stop = AtomicBool::new(false);
        let warm = AtomicBool::new(false);
        let round = std::thread::scope(|scope| {
            let far = scope.spawn(|| receive(receiver.as_mut(), &mut sink, &warm, &stop));
            pin(Some(SENDER_CORE));
            let began = Instant::now();
            let (mut start, mut cpu_start, mut sent) = (began, cpu_time(), 0);
            let mut machine_start = machine_time();
            let mut is_warm = false;
            while !is_warm || start.elapsed() < length {
                if !is_warm && began.elapsed() >= WARM_UP {
                    warm.store(true, Ordering::Relaxed);
                    (start, cpu_start, sent, is_warm) = (Instant::now(), cpu_time(), 0, true);
                    machine_start = machine_time();
                }
                let Some(batch) = source.next()? else { break };
                sent += sender.tx(batch).map_err(|e| e.to_string())?.sent;
            }
            let (took, sender_cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu_start));
            let machine = machine_time().saturating_sub(machine_start);
            stop.store(true, Ordering::Relaxed);
            let (received, receiver_cpu) = far.join().map_err(|_| "the receiver panicked")??;
            let a_frame = |cpu: Duration| cpu.as_nanos() as f64 / received.max(1) as f64;
            Ok::<_, String>(Round {
                mframes: received as f64 / took.as_secs_f64() / 1e6,
                sender_ns: a_frame(sender_cpu),
                receiver_ns: a_frame(receiver_cpu),
                machine_ns: a_frame(machine),
                lost: 100.0 * (sent.saturating_sub(received)) as f64 / sent.max(1) as f64,
            })
        })?;
        self.rounds.push(round);
        Ok(())
    }
}

fn one_frame(to: pc5_dataplane::ids::Layer2Id, from: pc5_dataplane::ids::Layer2Id) -> Fallible<Batch> {
    use pc5_dataplane::batch::Meta;
    use pc5_dataplane::pdu::Address;
    let mut frame = Address::link(to, from).ethernet_header().to_vec();
    frame.extend([1, 0, 0x60, 0, 1, 0, 0]);
    frame.resize(100, 0xa5);
    let mut batch = Batch::new(1);
    batch.push_frame(&frame, Meta::default()).ok_or("a frame does not fit a batch")?;
    let slot = &mut batch.slots_mut()[0];
    (slot.len, slot.verdict) = (79, pc5_dataplane::verdict::Verdict::Accepted);
    Ok(batch)
}

/// Receives until told to stop and nothing more comes. Counts from the moment that all is warm.
fn receive(
    port: &mut dyn PacketIo,
    sink: &mut Sink,
    warm: &AtomicBool,
    stop: &AtomicBool,
) -> Fallible<(u64, Duration)> {
    pin(Some(RECEIVER_CORE));
    let mut batch = Batch::new(BURST);
    let (mut received, mut start, mut is_warm) = (0, cpu_time(), false);
    loop {
        batch.clear();
        let last = stop.load(Ordering::Relaxed);
        let n = port.rx(&mut batch, Duration::from_millis(5)).map_err(|e| e.to_string())?;
        let counted = sink.take(&mut batch)?;
        if !is_warm && warm.load(Ordering::Relaxed) {
            (received, start, is_warm) = (0, cpu_time(), true);
        } else {
            received += counted;
        }
        if last && n == 0 {
            return Ok((received, cpu_time().saturating_sub(start)));
        }
    }
}

const SENDER_CORE: usize = 0;
const RECEIVER_CORE: usize = 1;

/// Long enough for a port to notice that its link is busy, on a loaded machine, too.
const WARM_UP: Duration = Duration::from_millis(300);

/// To one core, or to none. Where there are not that many cores, the system chooses.
fn pin(core: Option<usize>) {
    let mut set = CpuSet::new();
    match core {
        Some(core) => set.set(core),
        None => (0..CpuSet::MAX_CPU).for_each(|core| set.set(core)),
    }
    let _ = sched_setaffinity(None, &set);
}

fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// What all processors have worked, interrupts included, in the kernel's ticks of 10 ms; zero where the system does not tell.
fn machine_time() -> Duration {
    let all = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = all.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq
    let ticks = line.split_ascii_whitespace().skip(1).take(7).enumerate();
    let worked = ticks.filter(|(i, _)| !(3..=4).contains(i)).filter_map(|(_, t)| t.parse::<u64>().ok());
    Duration::from_millis(10 * worked.sum::<u64>())
}
