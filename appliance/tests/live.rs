//! A group owner and three UEs, each a process in a network namespace of its own, on one wire with an eavesdropper.
//! Needs root; skipped with the reason elsewhere.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pc5_dataplane::io::netns::Namespace;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

const GROUP: &str = "f00001";
const MULTICAST: Ipv4Addr = Ipv4Addr::new(239, 77, 0, 1);

/// One appliance: its namespace, its folder, its process.
struct Node {
    space: Namespace,
    admin: PathBuf,
    config: PathBuf,
    process: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pc5(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pc5")).current_dir(folder).args(args).output().unwrap()
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

impl Node {
    fn new(hub: &Namespace, folder: &Path, name: &str, text: &str) -> Self {
        let space = Namespace::new().unwrap();
        hub.wire(name, &space, "eth0").unwrap();
        hub.ip(&format!("link set {name} master br0")).unwrap();
        let (admin, config) = (folder.join(format!("{name}.sock")), folder.join(format!("{name}.toml")));
        let text = format!(
            "admin = \"{name}.sock\"\nstate = \"{name}.sqlite\"\ncrl_freshness = \"refuse\"\n{text}\n[port]\nkind = \"auto\"\ninterface = \"eth0\"\n\
             [credential]\ncertificate = \"pki/issued/{name}.pem\"\nkey = \"pki/issued/{name}.key\"\n\
             [[trust]]\nplmn = \"001-01\"\nroot = \"pki/ca.pem\"\ncrl = [\"pki/crl.pem\"]\n"
        );
        // Top-level keys stand before the first table.
        let (tables, top): (Vec<_>, Vec<_>) = text.split("\n[").enumerate().partition(|(i, _)| *i > 0);
        let top: String = top.into_iter().map(|(_, t)| t).collect();
        let tables: String = tables.into_iter().map(|(_, t)| format!("\n[{t}")).collect();
        fs::write(&config, top + &tables).unwrap();
        Self { space, admin, config, process: None }
    }

    fn owner(hub: &Namespace, folder: &Path, name: &str) -> Self {
        let group =
            format!("[[group]]\nid = \"{GROUP}\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n");
        Self::new_with(hub, folder, name, "role = \"owner\"", &group)
    }

    fn ue(hub: &Namespace, folder: &Path, n: u8) -> Self {
        let tables = format!(
            "[ue]\ngroup = \"{GROUP}\"\nlayer2 = \"00000{n}\"\n[tun]\nname = \"pc5\"\naddresses = [\"10.77.0.{n}/24\"]\n"
        );
        Self::new_with(hub, folder, &format!("ue-{n}"), "role = \"ue\"", &tables)
    }

    fn new_with(hub: &Namespace, folder: &Path, name: &str, top: &str, tables: &str) -> Self {
        Self::new(hub, folder, name, &format!("{top}\n{tables}"))
    }

    fn start(&mut self) {
        let log = fs::File::create(self.config.with_extension("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", self.space.name(), env!("CARGO_BIN_EXE_pc5"), "run"])
            .arg(&self.config)
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    fn show(&self, what: &str) -> Option<Value> {
        let out = pc5(Path::new("/"), &["show", what, "-o", "json", "--admin", self.admin.to_str().unwrap()]);
        if out.status.success() { serde_json::from_slice(&out.stdout).ok() } else { None }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }

    fn await_show(&self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.show(what);
            if let Some(shown) = &shown
                && until(shown)
            {
                return shown.clone();
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{what} of {:?} stays {shown:?}\n{}",
                self.config,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as an operator does; whether it ended well.
    fn stop(&mut self) -> bool {
        let Some(mut child) = self.process.take() else { return false };
        let pid = child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

/// Everything on the wire, as somebody without keys sees it.
struct Eavesdropper {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Vec<u8>>>,
}

impl Eavesdropper {
    fn new(space: &Namespace) -> Self {
        let all = 3u16; // ETH_P_ALL
        let socket = space
            .inside(|| {
                let s = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all.to_be()))))
                    .unwrap();
                s.set_recv_buffer_size(32 << 20).unwrap();
                s.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                s
            })
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut frames, mut buffer) = (Vec::new(), vec![0; 65_536]);
            while !ends.load(Ordering::Relaxed) {
                if let Ok(n) = (&socket).read(&mut buffer) {
                    frames.push(buffer[..n].to_vec());
                }
            }
            frames
        });
        Self { stop, thread }
    }

    fn frames(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn octets(n: usize) -> Vec<u8> {
    let mut random = vec![0; n];
    getrandom::fill(&mut random).unwrap();
    random
}

fn ping(from: &Node, to: &str) -> bool {
    let args = ["netns", "exec", from.space.name(), "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", to];
    let out = Command::new("ip").args(args).output().unwrap();
    out.status.success()
}

/// A multicast socket in a UE's namespace.
fn listener(node: &Node, n: u8) -> UdpSocket {
    node.space
        .inside(|| {
            let s = UdpSocket::bind("0.0.0.0:7000").unwrap();
            s.join_multicast_v4(&MULTICAST, &Ipv4Addr::new(10, 77, 0, n)).unwrap();
            s.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            s
        })
        .unwrap()
}

fn heard(socket: &UdpSocket, wanted: &[u8], patience: Duration) -> bool {
    let began = Instant::now();
    let mut buffer = [0; 2_048];
    while began.elapsed() < patience {
        if socket.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == wanted) {
            return true;
        }
    }
    false
}

fn multicast(node: &Node, n: u8, payload: &[u8]) {
    node.space
        .inside(|| {
            let s = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            s.bind(&SocketAddr::from(([10, 77, 0, n], 0)).into()).unwrap();
            s.set_multicast_if_v4(&Ipv4Addr::new(10, 77, 0, n)).unwrap();
            s.send_to(payload, &SocketAddr::from((MULTICAST, 7000)).into()).unwrap();
        })
        .unwrap();
}

#[test]
fn a_group_owner_and_three_ues_on_one_wire() {
    let Some(hub) = Namespace::or_skip("live") else { return };
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("live skipped: no /dev/net/tun");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    // No learning: everybody on the bridge sees every frame.
    hub.ip("link add br0 type bridge ageing_time 0 mcast_snooping 0").unwrap();
    hub.ip("link set br0 up").unwrap();

    for args in [
        &["pki", "root", "pki", "--plmn", "001-01"][..],
        &["pki", "issue", "pki", "go-1", "--role", "owner", "--group", GROUP],
        &["pki", "issue", "pki", "ue-1", "--role", "member", "--group", GROUP],
        &["pki", "issue", "pki", "ue-2", "--role", "member", "--group", GROUP],
        &["pki", "issue", "pki", "ue-3", "--role", "member", "--group", GROUP],
    ] {
        let out = pc5(folder, args);
        assert!(out.status.success(), "{args:?}: {}", said(&out));
    }
    let mut go = Node::owner(&hub, folder, "go-1");
    let mut ues: Vec<Node> = (1..=3).map(|n| Node::ue(&hub, folder, n)).collect();
    let eve = Namespace::new().unwrap();
    hub.wire("eve", &eve, "eth0").unwrap();
    hub.ip("link set eve master br0").unwrap();
    let eavesdropper = Eavesdropper::new(&eve);

    let out = pc5(folder, &["check", "go-1.toml"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = pc5(folder, &["show", "--admin", "nobody.sock"]);
    assert_eq!(out.status.code(), Some(3), "nobody answers yet: {}", said(&out));

    // Two join, the third comes late, into running group traffic.
    go.start();
    ues[0].start();
    ues[1].start();
    go.await_show("members", |s| s["members"].as_array().unwrap().len() == 2);
    for ue in &ues[..2] {
        ue.await_show("groups", |s| s["groups"][0]["state"] == "joined" && s["groups"][0]["epoch"] != 0);
    }
    let stations = |s: &Value, n: usize| {
        let members = s["members"].as_array().unwrap();
        members.len() == n && members.iter().all(|m| !m["addresses"].as_array().unwrap().is_empty())
    };
    go.await_show("members", |s| stations(s, 2));
    assert!(ping(&ues[0], "10.77.0.2"), "{}\n{}", go.log(), ues[0].log());

    // Random octets by TCP through the owner's bridge, and back.
    let payload = octets(512 << 10);
    let server = ues[1].space.inside(|| TcpListener::bind("10.77.0.2:7001").unwrap()).unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut stream = ues[0]
        .space
        .inside(|| {
            TcpStream::connect_timeout(&SocketAddr::from(([10, 77, 0, 2], 7001)), Duration::from_secs(5))
        })
        .unwrap()
        .unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&payload).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    echo.join().unwrap();
    assert!(back == payload, "{} of {} octets came back", back.len(), payload.len());

    ues[2].start();
    go.await_show("members", |s| stations(s, 3));
    ues[2].await_show("groups", |s| s["groups"][0]["state"] == "joined" && s["groups"][0]["epoch"] != 0);

    // Multicast of one UE reaches the two others.
    let sockets: Vec<UdpSocket> = (1u8..=3).zip(&ues).map(|(n, ue)| listener(ue, n)).collect();
    let datagram = octets(1_200);
    multicast(&ues[0], 1, &datagram);
    for n in [1, 2] {
        assert!(heard(&sockets[n], &datagram, Duration::from_secs(3)), "ue-{}\n{}", n + 1, go.log());
    }

    // The group key changes, nothing is lost.
    let admin = go.admin.to_str().unwrap();
    let epoch = |s: &Value| s["groups"][0]["epoch"].as_u64().unwrap();
    let before = epoch(&go.show("groups").unwrap());
    assert!(pc5(folder, &["group", "rekey", "--admin", admin]).status.success());
    go.await_show("groups", |s| epoch(s) > before && s["groups"][0]["by_link"] == 0);
    let datagram = octets(1_200);
    multicast(&ues[1], 2, &datagram);
    for n in [0, 2] {
        assert!(heard(&sockets[n], &datagram, Duration::from_secs(3)), "ue-{} after the rekey", n + 1);
    }
    assert!(pc5(folder, &["link", "rekey", "000001", "--refresh", "--admin", admin]).status.success());

    // Who is evicted hears nothing further; the others go on.
    let out = pc5(folder, &["group", "evict", "pc5:001-01:ue:ue-3", "--admin", admin]);
    assert!(out.status.success(), "{}", said(&out));
    go.await_show("groups", |s| s["groups"][0]["members"] == 2 && s["groups"][0]["by_link"] == 0);
    let datagram = octets(1_200);
    multicast(&ues[0], 1, &datagram);
    assert!(heard(&sockets[1], &datagram, Duration::from_secs(3)), "ue-2 after the eviction");
    assert!(!heard(&sockets[2], &datagram, Duration::from_secs(1)), "the evicted one heard it");
    assert!(!ping(&ues[2], "10.77.0.1"), "the evicted one still gets through");
    assert!(ping(&ues[0], "10.77.0.2"));
    let out = pc5(folder, &["group", "rekey", "--admin", ues[0].admin.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(4), "only the owner: {}", said(&out));

    // The owner is killed and comes back: everybody joins again, and who was evicted stays out.
    let mut killed = go.process.take().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    go.start();
    go.await_show("members", |s| stations(s, 2));
    let groups = go.show("groups").unwrap();
    assert_eq!(groups["groups"][0]["evicted"][0], "pc5:001-01:ue:ue-3", "{groups:#}");
    assert!(epoch(&groups) > before, "epochs only rise");
    assert!(ping(&ues[1], "10.77.0.1"), "{}", go.log());

    // Every screen answers; counters add up on every node.
    for node in std::iter::once(&go).chain(&ues) {
        for what in ["all", "groups", "links", "members", "keys", "runtime", "drops"] {
            let shown =
                node.show(what).unwrap_or_else(|| panic!("{what} of {:?}: {}", node.config, node.log()));
            assert_eq!(shown["version"], 1);
        }
        let began = Instant::now();
        let runtime = node.show("runtime").unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(runtime["runtime"]["discrepancies"], Value::Array(vec![]), "{runtime:#}");
        assert_ne!(runtime["runtime"]["data"]["opened"]["accepted"], 0);
    }

    // Nothing of the payload was readable on the wire.
    let frames = eavesdropper.frames();
    let captured: usize = frames.iter().map(Vec::len).sum();
    assert!(captured > 2 * payload.len(), "the eavesdropper saw {captured} octets only");
    let runs: HashSet<&[u8]> = payload.windows(8).collect();
    let readable = frames.iter().flat_map(|f| f.windows(8)).filter(|w| runs.contains(w)).count();
    assert_eq!(readable, 0, "runs of 8 octets of the payload on the wire");

    for node in ues.iter_mut().chain([&mut go]) {
        assert!(node.stop(), "{:?} did not end well\n{}", node.config, node.log());
        assert!(!node.admin.exists(), "the admin socket is removed");
    }
    eprintln!("live: {} frames, {captured} octets on the wire", frames.len());
}
