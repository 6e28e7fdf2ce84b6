//! A laboratory: a bridge as the wire, an authority, appliances in namespaces, traffic between them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pc5_dataplane::io::netns::Namespace;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

pub(crate) const GROUP: &str = "f00001";
pub(crate) const MULTICAST: Ipv4Addr = Ipv4Addr::new(239, 77, 0, 1);

/// Whether the long forms are wanted.
pub(crate) fn long() -> bool {
    std::env::var("PC5_LIVE").is_ok_and(|v| v == "long")
}

/// The binary under test; `PC5` names another one.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("PC5").map_or_else(|| env!("CARGO_BIN_EXE_pc5").into(), PathBuf::from)
}

/// `pc5` with arguments.
pub(crate) fn pc5(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary()).current_dir(folder).args(args).output().unwrap()
}

/// What it said.
pub(crate) fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The wire, the authority, a folder for everything. One at a time.
pub(crate) struct Lab {
    pub(crate) hub: Namespace,
    temp: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// `None`, with the reason printed, where there can be no namespaces or TUN devices.
    pub(crate) fn new(test: &str) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = Namespace::or_skip(test)?;
        if !Path::new("/dev/net/tun").exists() {
            eprintln!("{test} skipped: no /dev/net/tun");
            return None;
        }
        // No learning: everybody on the bridge sees every frame.
        hub.ip("link add br0 type bridge ageing_time 0 mcast_snooping 0").unwrap();
        hub.ip("link set br0 up").unwrap();
        // In memory where there is room: times here are those of the appliance, not of a disk that others keep busy.
        let shm = Path::new("/dev/shm");
        let temp = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        let lab = Self { hub, temp: temp.unwrap(), _alone: alone };
        lab.pc5(&["pki", "root", "pki", "--plmn", "001-01"]);
        Some(lab)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.temp.path()
    }

    /// `pc5` with arguments, which has to succeed.
    pub(crate) fn pc5(&self, args: &[&str]) -> String {
        let out = pc5(self.folder(), args);
        assert!(out.status.success(), "{args:?}: {}", said(&out));
        said(&out)
    }

    /// A file that only its owner may read.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        let file = self.folder().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Issues a certificate for a role.
    pub(crate) fn issue(&self, name: &str, role: &str) {
        self.pc5(&["pki", "issue", "pki", name, "--role", role]);
    }

    /// A namespace on the wire, as `eth0`.
    pub(crate) fn station(&self, name: &str) -> Namespace {
        let space = Namespace::new().unwrap();
        self.hub.wire(name, &space, "eth0").unwrap();
        self.hub.ip(&format!("link set {name} master br0")).unwrap();
        space
    }

    /// An appliance with a certificate of its own, on the wire.
    pub(crate) fn node(&self, name: &str, role: &str, config: &Text) -> Node {
        self.issue(name, if role == "owner" { "owner" } else { "member" });
        self.node_at(self.station(name), name, role, config)
    }

    /// An appliance in a namespace that is there, with a certificate that is there.
    pub(crate) fn node_at(&self, space: Namespace, name: &str, role: &str, config: &Text) -> Node {
        let (admin, file) =
            (self.folder().join(format!("{name}.sock")), self.folder().join(format!("{name}.toml")));
        let port = config.port.as_deref().unwrap_or("kind = \"auto\"\ninterface = \"eth0\"");
        let text = format!(
            "role = \"{role}\"\nadmin = \"{name}.sock\"\nstate = \"{name}.sqlite\"\nkey_log = \"{name}.keys\"\n\
             {top}\n[port]\n{port}\n[credential]\ncertificate = \"pki/issued/{name}.pem\"\n\
             key = \"pki/issued/{name}.key\"\n[[trust]]\nplmn = \"001-01\"\nroot = \"pki/ca.pem\"\n\
             crl = [\"pki/crl.pem\"]\n{tables}\n",
            top = config.top,
            tables = config.tables,
        );
        fs::write(&file, text).unwrap();
        Node { name: name.to_owned(), space, admin, config: file, environment: Vec::new(), process: None }
    }

    /// The owner of the group, with settings of the group and at the top of the file.
    pub(crate) fn owner(&self, top: &str, group: &str) -> Node {
        let tables = format!(
            "[[group]]\nid = \"{GROUP}\"\nowner = \"fffffe\"\nnetworks = [\"10.77.0.0/24\"]\n{group}\n"
        );
        self.node("go-1", "owner", &Text { top: top.to_owned(), tables, port: None })
    }

    /// UE `n` of the group, 10.77.0.n.
    pub(crate) fn ue(&self, n: u8) -> Node {
        self.node(&format!("ue-{n}"), "ue", &Text::ue(n))
    }

    /// Every key of every node that wrote a key log.
    pub(crate) fn key_logs(&self) -> String {
        let logs = fs::read_dir(self.folder()).unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            path.extension().is_some_and(|e| e == "keys").then(|| fs::read_to_string(path).unwrap())
        });
        logs.collect()
    }
}

/// What a configuration has besides what all have.
#[derive(Default, Clone)]
pub(crate) struct Text {
    /// Keys before the first table.
    pub(crate) top: String,
    /// Tables.
    pub(crate) tables: String,
    /// The port, if it is not the interface.
    pub(crate) port: Option<String>,
}

impl Text {
    /// UE `n` of the group.
    pub(crate) fn ue(n: u8) -> Self {
        let tables = format!(
            "[ue]\ngroup = \"{GROUP}\"\nlayer2 = \"{n:06x}\"\n[tun]\nname = \"pc5\"\naddresses = [\"10.77.0.{n}/24\"]\n"
        );
        Self { tables, ..Self::default() }
    }
}

/// One appliance: its namespace, its files, its process.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) space: Namespace,
    pub(crate) admin: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    process: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", self.space.name()])
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg(binary())
            .arg("run")
            .arg(&self.config)
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    fn log_file(&self) -> PathBuf {
        self.config.with_extension("log")
    }

    /// The durable state, and what SQLite has beside it.
    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        let folder = self.config.parent().unwrap();
        ["", "-wal", "-shm"].iter().map(|s| folder.join(format!("{}.sqlite{s}", self.name))).collect()
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it as an operator does; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        let Some(pid) = self.pid() else { return false };
        Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
        self.await_end() == Some(0)
    }

    /// Its exit code, once it ended; it is made to in the end.
    pub(crate) fn await_end(&mut self) -> Option<i32> {
        let mut child = self.process.take()?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(6) {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().unwrap())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let all = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What helps to understand a failure.
    pub(crate) fn story(&self) -> String {
        let screen = |what| self.show(what).map_or_else(String::new, |s| s.to_string());
        let screens = ["drops", "links", "keys", "groups"].map(screen);
        format!("{}\n{}\n{}", self.name, self.log(), screens.join("\n"))
    }

    /// An order or question to its admin socket.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let mut all = args.to_vec();
        all.extend(["--admin", self.admin.to_str().unwrap()]);
        pc5(Path::new("/"), &all)
    }

    pub(crate) fn show(&self, what: &str) -> Option<Value> {
        let out = self.ask(&["show", what, "-o", "json"]);
        if out.status.success() { serde_json::from_slice(&out.stdout).ok() } else { None }
    }

    /// A screen, as soon as it is so.
    pub(crate) fn await_show(&self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        self.await_for(Duration::from_secs(20), what, until)
    }

    pub(crate) fn await_for(&self, patience: Duration, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let shown = self.show(what);
            if let Some(shown) = &shown
                && until(shown)
            {
                return shown.clone();
            }
            assert!(began.elapsed() < patience, "{what} of {} stays {shown:#?}\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for `n` members who can be reached, at an owner.
    pub(crate) fn await_members(&self, n: usize) {
        self.await_show("members", |s| {
            let members = s["members"].as_array().unwrap();
            members.len() == n && members.iter().all(|m| !m["addresses"].as_array().unwrap().is_empty())
        });
    }

    /// Waits until it has a link and a group key, at a UE.
    pub(crate) fn await_joined(&self) {
        self.await_show("groups", |s| s["groups"][0]["state"] == "joined" && s["groups"][0]["epoch"] != 0);
    }

    /// Dropped frames by cause since the start.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let shown = self.show("drops").unwrap_or_else(|| panic!("{}\n{}", self.name, self.log()));
        let totals = shown["drops"]["totals"].as_object().unwrap();
        totals.iter().map(|(cause, n)| (cause.clone(), n.as_u64().unwrap())).collect()
    }

    /// Packets that programs gave to the TUN device and its queue had no room for.
    pub(crate) fn device_overload(&self) -> u64 {
        let args = ["-n", self.space.name(), "-s", "-j", "link", "show", "dev", "pc5"];
        let shown: Value =
            serde_json::from_slice(&Command::new("ip").args(args).output().unwrap().stdout).unwrap();
        shown[0]["stats64"]["tx"]["dropped"].as_u64().unwrap()
    }

    /// Counters that do not add up fail the test.
    pub(crate) fn assert_adds_up(&self) -> Value {
        let shown = self.show("runtime").unwrap_or_else(|| panic!("{}\n{}", self.name, self.log()));
        let runtime = shown["runtime"].clone();
        assert_eq!(runtime["discrepancies"], Value::Array(vec![]), "{}: {runtime:#}", self.name);
        runtime
    }

    /// Pings, `-c 3`: whether all came back.
    pub(crate) fn ping(&self, to: &str) -> bool {
        let args = ["netns", "exec", self.space.name(), "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", to];
        Command::new("ip").args(args).output().unwrap().status.success()
    }
}

/// A UDP socket in a UE's namespace that hears the multicast address too.
pub(crate) fn listener(node: &Node, n: u8) -> UdpSocket {
    listener_in(node, &format!("10.77.0.{n}"))
}

/// The same, on the device that has an address.
pub(crate) fn listener_in(node: &Node, address: &str) -> UdpSocket {
    let socket = listener_at(node, 7000);
    socket.join_multicast_v4(&MULTICAST, &address.parse().unwrap()).unwrap();
    socket
}

/// A UDP socket in a UE's namespace.
pub(crate) fn listener_at(node: &Node, port: u16) -> UdpSocket {
    let open = || {
        let s = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        // Root may have more than the system's limit; without, what there is.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&s, 32 << 20);
        s.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
        let s = UdpSocket::from(s);
        s.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        s
    };
    node.space.inside(open).unwrap()
}

/// A UDP socket in a UE's namespace to send from, also to the multicast address.
pub(crate) fn talker(node: &Node, n: u8) -> UdpSocket {
    talker_from(node, &format!("10.77.0.{n}"))
}

/// The same, from the device that has an address.
pub(crate) fn talker_from(node: &Node, address: &str) -> UdpSocket {
    let address: Ipv4Addr = address.parse().unwrap();
    let open = || {
        let s = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        s.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        s.set_multicast_if_v4(&address).unwrap();
        UdpSocket::from(s)
    };
    node.space.inside(open).unwrap()
}

/// Random octets.
pub(crate) fn octets(n: usize) -> Vec<u8> {
    let mut random = vec![0; n];
    getrandom::fill(&mut random).unwrap();
    random
}
