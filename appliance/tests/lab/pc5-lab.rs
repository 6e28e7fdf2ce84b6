//! Traffic of ordinary programs, and the ears of a stranger: what `scripts/netns-demo` has in its namespaces.
//!
//! Results are lines of a name and a value. What runs until it is told to end does so on SIGTERM, and says `ready` first.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The live tests share it, and look at more.
mod datagrams;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write, stdin};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Parser;
use pc5_pcap::{Format, Interface, Reader, Writer};
use rustix::net::sockopt::{
    Timeout, set_ip_multicast_if, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};
use serde_json::Value;

use crate::datagrams::{Pool, Receiver, Sender};

/// Traffic and captures of `scripts/netns-demo`.
#[derive(Parser)]
enum Do {
    /// TCP: sends one connection back what it sent.
    Echo { at: SocketAddr },
    /// TCP: sends a file, and compares what comes back with it.
    Transfer { to: SocketAddr, file: PathBuf },
    /// UDP: sends numbered datagrams, their octets taken from a file.
    Talk {
        /// Own address, to send from its device.
        from: Ipv4Addr,
        to: SocketAddrV4,
        file: PathBuf,
        /// Bits of payload a second.
        #[arg(long, default_value_t = 1_000_000)]
        rate: u64,
        /// Seconds; without, until SIGTERM.
        #[arg(long)]
        seconds: Option<f64>,
        /// Octets a datagram.
        #[arg(long, default_value_t = 1_400)]
        length: usize,
    },
    /// UDP: counts datagrams of `talk` until SIGTERM.
    Listen {
        /// Own address, to hear at its device.
        at: Ipv4Addr,
        group: SocketAddrV4,
        file: PathBuf,
    },
    /// Writes everything that passes any interface, until SIGTERM.
    Capture { pcap: PathBuf },
    /// Counts the runs of 8 octets of a file in captures.
    Readable {
        file: PathBuf,
        #[arg(required = true)]
        captures: Vec<PathBuf>,
    },
    /// Of the JSON on standard input, the value at a pointer (RFC 6901): objects as lines, arrays as lines.
    Json { pointer: String },
}

fn main() -> anyhow::Result<()> {
    match Do::parse() {
        Do::Echo { at } => echo(at),
        Do::Transfer { to, file } => transfer(to, &fs::read(file)?),
        Do::Talk { from, to, file, rate, seconds, length } => {
            let socket = UdpSocket::bind((from, 0))?;
            set_ip_multicast_if(&socket, &from)?;
            let ends = ends()?;
            let began = Instant::now();
            let sender = Sender::new(socket, to.into(), pool(file, length)?, rate, length);
            println!("ready");
            while !ends.load(Ordering::Relaxed) && seconds.is_none_or(|s| began.elapsed().as_secs_f64() < s) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let (sent, took) = (sender.stop(), began.elapsed().as_secs_f64());
            println!("sent {sent}");
            println!("mbit/s {:.0}", sent as f64 * length as f64 * 8.0 / took / 1e6);
            println!("seconds {took:.1}");
            Ok(())
        }
        Do::Listen { at, group, file } => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, group.port()))?;
            // Root may have more than the system's limit.
            let _ = set_socket_recv_buffer_size_force(&socket, 32 << 20);
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            socket.join_multicast_v4(group.ip(), &at)?;
            let receiver = Receiver::new(socket, pool(file, 16)?);
            wait(&*ends()?)?;
            let arrived = receiver.stop();
            println!("arrived {}", arrived.datagrams);
            println!("repeated {}", arrived.repeated);
            println!("altered {}", arrived.altered);
            Ok(())
        }
        Do::Capture { pcap } => capture(pcap),
        Do::Readable { file, captures } => readable(&fs::read(file)?, &captures),
        Do::Json { pointer } => {
            let all: Value = serde_json::from_reader(stdin())?;
            print(all.pointer(&pointer).with_context(|| format!("nothing at {pointer}"))?);
            Ok(())
        }
    }
}

/// Set by SIGTERM.
fn ends() -> anyhow::Result<Arc<AtomicBool>> {
    let ends = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, ends.clone())?;
    Ok(ends)
}

/// Says that it can begin, and waits.
fn wait(ends: &AtomicBool) -> anyhow::Result<()> {
    println!("ready");
    while !ends.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn pool(file: PathBuf, length: usize) -> anyhow::Result<Arc<Pool>> {
    let octets = fs::read(file)?;
    ensure!(octets.len() > 65_536 && length >= 16, "64 KiB of payload at least, 16 octets a datagram");
    Ok(Pool::of(octets))
}

fn echo(at: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("ready");
    let (mut stream, _) = listener.accept()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    stream.write_all(&all)?;
    Ok(())
}

fn transfer(to: SocketAddr, octets: &[u8]) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(octets)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    ensure!(back == octets, "{} of {} octets came back, or others", back.len(), octets.len());
    println!("octets {}", octets.len());
    println!("ms {}", began.elapsed().as_millis());
    Ok(())
}

fn capture(pcap: PathBuf) -> anyhow::Result<()> {
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::ALL))?;
    let _ = set_socket_recv_buffer_size_force(&socket, 256 << 20);
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100)))?;
    let mut out = Writer::create(&pcap, Format::PcapNg)?;
    let interface = out.add_interface(&Interface::ethernet())?;
    let ends = ends()?;
    println!("ready");
    let (mut frames, mut octets, mut buffer) = (0u64, 0u64, vec![0; 65_536]);
    let mut last = None;
    // What is on its way at the end comes in within this time, however much follows.
    while last.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(300)) {
        if last.is_none() && ends.load(Ordering::Relaxed) {
            last = Some(Instant::now());
        }
        // An error: nothing came for a while, or a signal did.
        if let Ok((_, n)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            let ns = u64::try_from(UNIX_EPOCH.elapsed()?.as_nanos())?;
            out.write(interface, ns, u32::try_from(n)?, &buffer[..n])?;
            (frames, octets) = (frames + 1, octets + n as u64);
        }
    }
    out.finish()?;
    println!("frames {frames}");
    println!("octets {octets}");
    Ok(())
}

fn readable(secret: &[u8], captures: &[PathBuf]) -> anyhow::Result<()> {
    let runs: HashSet<&[u8]> = secret.windows(8).collect();
    let (mut frames, mut found) = (0u64, 0usize);
    for capture in captures {
        let mut reader = Reader::open(capture)?;
        while let Some(record) = reader.next()? {
            frames += 1;
            found += record.data.windows(8).filter(|w| runs.contains(w)).count();
        }
    }
    println!("frames {frames}");
    println!("runs {found}");
    Ok(())
}

fn print(value: &Value) {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match value {
        Value::Object(all) => all.iter().for_each(|(name, v)| println!("{name} {}", plain(v))),
        Value::Array(all) => all.iter().for_each(|v| println!("{}", plain(v))),
        one => println!("{}", plain(one)),
    }
}
