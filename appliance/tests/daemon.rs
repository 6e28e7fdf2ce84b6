//! The daemon as its system sees it: rights given up, what the service manager is told.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

mod station;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use getrandom::SysRng;
use pc5_control::credential::{LongTermKey, Role, SoftwareKey};
use pc5_control::pki::{Folder, Request, Validity};
use pc5_control::store::Store;
use pc5_control::store::sqlite::SqliteStore;
use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::io::PacketIo;
use pc5_dataplane::io::af_packet::{AfPacket, Settings};
use pc5_dataplane::verdict::Verdict;
use rand_core::UnwrapErr;
use serde_json::Value;

use station::{Station, pc5, said};

fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let pairs = text.lines().filter_map(|l| l.split_once(':'));
            pairs.map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
        })
        .collect()
}

#[test]
fn rights_are_given_up_in_every_thread() {
    let Some(mut owner) = Station::owner("privileges") else { return };
    // Another user, who reaches the certificates and the state and nothing else.
    let user = 54_321;
    owner.configure(&format!("user = \"{user}\"\nstate = \"state/go.sqlite\""), "");
    fs::set_permissions(owner.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(owner.path("state"), Some(user), Some(user)).unwrap();
    let secret = owner.path("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();

    owner.start(&[]);
    let shown = owner.await_show("runtime", |_| true);
    let privileges = &shown["runtime"]["privileges"];
    assert_eq!(privileges["user"], user.to_string());
    assert_eq!(privileges["capabilities"], 0);
    for refused in ["starting a program", "another packet socket", "reading /etc/shadow"] {
        assert!(privileges["refused"].as_array().unwrap().iter().any(|r| r == refused), "{privileges}");
    }
    // Receiving was steered while there was a right to: it stays, and the next check says so.
    let steering = shown["runtime"]["steering"].as_str().unwrap().to_owned();
    assert!(owner.log().contains(&format!("receive steering: {steering}")), "{}", owner.log());
    let check = || {
        let binary = env!("CARGO_BIN_EXE_pc5");
        let command = ["netns", "exec", owner.space.name(), binary, "check", "go.toml"];
        let out = Command::new("ip").current_dir(owner.folder.path()).args(command).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        said(&out)
    };
    if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        assert!(steering.starts_with("to processor "), "{steering}");
        assert!(check().contains("receive steering: left alone: rps_cpus of eth0 is "), "{}", check());
    } else {
        assert!(check().contains("receive steering: left alone: there is one processor"), "{}", check());
    }
    let threads = threads(owner.pid());
    assert!(threads.len() >= 4, "{threads:?}");
    for thread in &threads {
        let of = |key: &str| thread.get(key).map_or("", String::as_str);
        let name = of("Name");
        for key in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
            assert_eq!(u64::from_str_radix(of(key), 16), Ok(0), "{key} of {name}");
        }
        assert_eq!((of("NoNewPrivs"), of("Seccomp")), ("1", "2"), "{name}");
        assert_eq!(of("Uid").split_whitespace().next(), Some("54321"), "{name}");
        assert_eq!(of("Groups"), "", "{name}");
    }
    // State is written, the interface goes down and comes up again, CRLs are read again: all without rights.
    assert!(owner.path("state/go.sqlite").metadata().unwrap().len() > 0);
    owner.space.ip("link set eth0 down").unwrap();
    owner.await_show("runtime", |s| s["runtime"]["data"]["ports"][1]["link"] != "up");
    owner.space.ip("link set eth0 up").unwrap();
    owner.await_show("runtime", |s| s["runtime"]["data"]["ports"][1]["link"] == "up");
    let out = pc5(owner.folder.path(), &["group", "rekey", "--admin", "run/admin.sock"]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(owner.stop(), "{}", owner.log());
    assert!(!owner.log().contains("not permitted"), "{}", owner.log());
    assert!(!owner.path("run/admin.sock").exists(), "the admin socket is removed");
}

#[test]
fn a_user_that_is_not_there_is_named() {
    let Some(owner) = Station::owner("privileges") else { return };
    owner.configure("user = \"no-such-user\"", "");
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("user = \"no-such-user\": no such user"), "{}", said(&out));
}

#[test]
fn files_that_the_user_may_not_read_are_told_with_the_user() {
    let Some(mut owner) = Station::owner("unreadable") else { return };
    let user = 54_321;
    owner.configure(&format!("user = \"{user}\"\nstate = \"state/go.sqlite\""), "");
    chown(owner.path("state"), Some(user), Some(user)).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let told = format!("the daemon becomes user {user}, who may not: open the file and its folders");

    // A folder of root's own: what root reads there, the daemon does not.
    mode(owner.folder.path(), 0o700);
    let ends = |order: &str| {
        let arguments = ["netns", "exec", owner.space.name(), env!("CARGO_BIN_EXE_pc5"), order, "go.toml"];
        Command::new("ip").current_dir(owner.folder.path()).args(arguments).output().unwrap()
    };
    for order in ["check", "run"] {
        let out = ends(order);
        assert_eq!(out.status.code(), Some(1), "{order}: {}", said(&out));
        assert!(said(&out).contains("state: Permission denied"), "{order}: {}", said(&out));
        assert!(said(&out).contains(&told), "{order}: {}", said(&out));
    }
    mode(owner.folder.path(), 0o755);
    mode(&owner.path("pki"), 0o700);
    for order in ["check", "run"] {
        let out = ends(order);
        assert_eq!(out.status.code(), Some(1), "{order}: {}", said(&out));
        assert!(said(&out).contains(".pem: Permission denied"), "{order}: {}", said(&out));
        assert!(said(&out).contains(&told), "{order}: {}", said(&out));
    }
    mode(&owner.path("pki"), 0o755);
    let out = ends("check");
    assert!(out.status.success(), "{}", said(&out));
    owner.start(&[]);
    owner.await_show("groups", |_| true);

    // A CRL that was copied there for root alone.
    mode(&owner.path("pki/crl.pem"), 0o600);
    owner.signal("-HUP");
    owner.wait(|| owner.log().contains("reload refused"));
    assert!(owner.log().contains(&told), "{}", owner.log());
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn the_service_manager_is_told_ready_watchdog_and_stopping() {
    let Some(mut owner) = Station::owner("service manager") else { return };
    let path = owner.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    owner.start(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")]);
    let mut told = Vec::new();
    let mut hear = |wanted: &str| {
        let mut buffer = [0; 1_024];
        for _ in 0..200 {
            let Ok(n) = manager.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let found = text.lines().any(|l| l == wanted);
            told.push(text);
            if found {
                return;
            }
        }
        panic!("{wanted} was not told, but {told:?}");
    };
    hear("READY=1");
    // Ready means that it answers.
    assert!(owner.show("groups").is_some(), "{}", owner.log());
    for _ in 0..4 {
        hear("WATCHDOG=1");
    }
    owner.signal("-TERM");
    hear("STOPPING=1");
    assert!(!told[0].contains("WATCHDOG"), "ready comes first: {told:?}");
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn a_new_configuration_is_taken_whole_or_not_at_all() {
    let Some(mut owner) = Station::owner("reload") else { return };
    let top = "state = \"state/go.sqlite\"\nlog = \"info\"";
    owner.configure(top, "");
    owner.start(&[]);
    owner.await_show("groups", |s| s["groups"][0]["epoch"] == 1);
    let said_in_log = |wanted: &str| {
        owner.wait(|| owner.log().contains(wanted));
    };

    // One error among good changes: nothing changes, and the error is named.
    owner.configure(top, "rekey_after = \"500ms\"\nsuite = \"rot13\"");
    owner.signal("-HUP");
    said_in_log("nothing changed");
    assert!(owner.log().contains("group[0].suite"), "{}", owner.log());
    // As good as the file, but what it names is not.
    owner.configure(top, "rekey_after = \"500ms\"");
    let crl = fs::read(owner.path("pki/crl.pem")).unwrap();
    fs::write(owner.path("pki/crl.pem"), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    owner.signal("-HUP");
    owner.wait(|| owner.log().matches("nothing changed").count() == 2);
    fs::write(owner.path("pki/crl.pem"), crl).unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(owner.show("groups").unwrap()["groups"][0]["epoch"], 1, "no rekey of its own");

    // The period changes at once; the port waits for a restart, and both are said. Contexts are kept.
    let before = owner.show("keys").unwrap();
    let text = fs::read_to_string(owner.config()).unwrap();
    fs::write(owner.config(), text.replace("kind = \"auto\"", "kind = \"pnet\"")).unwrap();
    owner.signal("-HUP");
    said_in_log("some changes wait for a restart");
    assert!(owner.log().contains("group f00001"), "{}", owner.log());
    assert!(owner.log().contains("[port]"), "{}", owner.log());
    assert!(!before["keys"].as_array().unwrap().is_empty());
    owner.await_show("groups", |s| s["groups"][0]["epoch"].as_u64().unwrap() >= 3);

    // The same by the admin socket, which answers.
    let text = fs::read_to_string(owner.config()).unwrap();
    fs::write(owner.config(), text.replace("log = \"info\"", "log = \"debug\"")).unwrap();
    let answer = owner.ask("{\"version\":1,\"ask\":\"reload\"}");
    let done = answer["done"].as_str().unwrap();
    assert!(done.contains("changed: log") && done.contains("restart: [port]"), "{answer}");
    said_in_log("log filter set");
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn a_root_that_goes_from_its_file_is_believed_no_more() {
    let Some(mut owner) = Station::owner("reload: roots") else { return };
    let out = pc5(owner.folder.path(), &["pki", "root", "second", "--plmn", "001-01"]);
    assert!(out.status.success(), "{}", said(&out));
    // The same files, with one network's roots and CRLs in them or those of both.
    let text = |file: &str| {
        ["pki", "second"].map(|folder| fs::read_to_string(owner.path(&format!("{folder}/{file}"))).unwrap())
    };
    let (roots, crls) = (text("ca.pem"), text("crl.pem"));
    let believe = |owner: &Station, n: usize| {
        fs::write(owner.path("pki/ca.pem"), roots[..n].concat()).unwrap();
        fs::write(owner.path("pki/crl.pem"), crls[..n].concat()).unwrap();
    };
    let reload = |owner: &Station| owner.ask("{\"version\":1,\"ask\":\"reload\"}")["done"].to_string();
    let believed =
        |owner: &Station| owner.show("runtime").unwrap()["runtime"]["crls"].as_array().unwrap().len();
    believe(&owner, 2);
    owner.start(&[]);
    owner.await_show("runtime", |_| true);
    assert_eq!(believed(&owner), 2);
    for (n, changed) in [(1, "[[trust]]"), (1, "nothing"), (2, "[[trust]]"), (2, "nothing")] {
        believe(&owner, n);
        let told = reload(&owner);
        assert!(told.contains(&format!("; changed: {changed}")), "{n}: {told}");
        assert_eq!(believed(&owner), n);
    }
    // The device's own may not go.
    fs::write(owner.path("pki/ca.pem"), &roots[1]).unwrap();
    fs::write(owner.path("pki/crl.pem"), &crls[1]).unwrap();
    let answer = owner.ask("{\"version\":1,\"ask\":\"reload\"}");
    assert!(answer["failed"].as_str().unwrap().contains("no trusted root"), "{answer}");
    assert_eq!(believed(&owner), 2);
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn a_certificate_that_is_replaced_in_its_file_is_taken_or_waits_for_a_restart() {
    let Some(mut owner) = Station::owner("reload: certificate") else { return };
    owner.start(&[]);
    owner.await_show("groups", |_| true);
    let reload = || owner.ask("{\"version\":1,\"ask\":\"reload\"}")["done"].to_string();
    assert!(reload().contains("; changed: nothing"));

    // A new one for the same key, then one that comes with a key of its own, which cannot be read any more.
    let request = Request {
        identity: "pc5:001-01:ue:go-1".parse().unwrap(),
        roles: vec![Role::Owner],
        groups: Vec::new(),
        validity: Validity::days(unix() - 60, 30),
    };
    let key = fs::read_to_string(owner.path("pki/issued/go-1.key")).unwrap();
    let key = SoftwareKey::from_pkcs8_pem(&key).unwrap();
    let folder = Folder::open(&owner.path("pki")).unwrap();
    let rng = &mut UnwrapErr(SysRng);
    let leaf = folder.authority().issue(&request, key.public_key(), rng).unwrap();
    folder.store_leaf(&request.identity, &leaf, None).unwrap();
    assert!(reload().contains("; changed: credential.certificate"), "{}", owner.log());
    assert!(reload().contains("; changed: nothing"), "{}", owner.log());

    let other = folder.authority().enrol(&request, rng).unwrap();
    folder.store_leaf(&request.identity, &other.chain[0], Some(&other.key)).unwrap();
    let told = reload();
    let waits = "; changed: nothing; waits for a restart: credential.certificate, of another key or identity";
    assert!(told.contains(waits), "{told}");
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn who_is_no_longer_listed_is_excluded() {
    // The machines' own part of a reload is tested in `control`; here the file reaches them.
    let Some(mut owner) = Station::owner("reload") else { return };
    owner.configure("state = \"state/go.sqlite\"", "admit = [\"pc5:001-01:ue:ue-1\"]");
    owner.start(&[]);
    owner.await_show("groups", |_| true);
    owner.configure("state = \"state/go.sqlite\"", "admit = []");
    let answer = owner.ask("{\"version\":1,\"ask\":\"reload\"}");
    assert_eq!(answer["done"], "configuration read again; changed: group f00001", "{answer}");
    let answer = owner.ask("{\"version\":1,\"ask\":\"reload\"}");
    assert_eq!(answer["done"], "configuration read again; changed: nothing", "{answer}");
    assert!(owner.stop(), "{}", owner.log());
}

/// Now, in seconds since 1970.
fn unix() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// The authority's next CRL, made and due so many days ago or ahead.
fn publish(owner: &Station, made: i64, due: i64) -> Vec<u8> {
    let day = |n: i64| unix().checked_add_signed(n * 86_400).unwrap();
    Folder::open(&owner.path("pki")).unwrap().publish_crl(day(made), day(due)).unwrap()
}

fn crl_number(shown: &Value) -> &str {
    shown["runtime"]["crls"][0]["number"].as_str().unwrap()
}

#[test]
fn a_crl_that_was_held_counts_after_a_restart_whatever_the_file_says() {
    let Some(mut owner) = Station::owner("held CRL") else { return };
    // Past its time and the grace; nothing is admitted by it alone.
    publish(&owner, -30, -20);
    let old = fs::read(owner.path("pki/crl.pem")).unwrap();
    let new = publish(&owner, 0, 7);
    owner.start(&[]);
    owner.await_show("runtime", |s| crl_number(s) == "3");
    assert!(owner.stop(), "{}", owner.log());

    // What the file said is kept, and time does not go back behind it.
    let store = SqliteStore::open(&owner.path("state/go.sqlite")).unwrap();
    assert_eq!(store.crls(), [new]);
    assert!(store.time_floor() >= unix() - 60, "{}", store.time_floor());
    drop(store);

    // The file goes back to what it was: a copy from long ago, or somebody who may write there and no more.
    fs::write(owner.path("pki/crl.pem"), &old).unwrap();
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert!(out.status.success() && said(&out).contains("unless its state has what is wanting"), "{out:?}");
    owner.start(&[]);
    let shown = owner.await_show("runtime", |_| true);
    assert_eq!((crl_number(&shown), shown["runtime"]["crls"][0]["state"].as_str()), ("3", Some("fresh")));
    let passed_over = "crl.pem: CRL number 2 is lower than 3, which is held: passed over";
    assert_eq!(owner.log().matches(passed_over).count(), 1, "{}", owner.log());
    // Read again it is no reason to refuse the rest either.
    let answer = owner.ask("{\"version\":1,\"ask\":\"reload\"}");
    assert_eq!(answer["done"], "configuration read again; changed: nothing", "{answer}");
    assert_eq!(owner.log().matches(passed_over).count(), 2, "{}", owner.log());
    assert_eq!(crl_number(&owner.show("runtime").unwrap()), "3");
    assert!(owner.stop(), "{}", owner.log());

    // Without the state the same file is not enough.
    fs::remove_dir_all(owner.path("state")).unwrap();
    fs::create_dir(owner.path("state")).unwrap();
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
}

/// Sends these frames to the owner's wire.
fn send(owner: &Station, frames: &[Vec<u8>]) {
    let mut port = owner.far.inside(|| AfPacket::open(&Settings::new("eth0")).unwrap()).unwrap();
    let mut batch = Batch::new(256);
    for chunk in frames.chunks(256) {
        batch.clear();
        for frame in chunk {
            let i = batch.push_frame(frame, Meta::default()).unwrap();
            batch.slots_mut()[i].verdict = Verdict::Accepted;
        }
        assert_eq!(port.tx(&batch).unwrap().sent, chunk.len() as u64);
    }
}

/// User data on a link that there is not, from a member that nobody knows, to the owner.
fn stranger() -> Vec<u8> {
    let mut frame = vec![2, 0x50, 0x43, 0xff, 0xff, 0xfe, 2, 0x50, 0x43, 0, 0, 9, 0x88, 0xb5, 1, 0];
    frame.extend([0, 0, 1, 0, 0]);
    frame.resize(100, 0x55);
    frame
}

/// Name, labels and value of each sample; heads are checked on the way.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut all = BTreeMap::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            let mut words = head.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(name.starts_with("pc5_"), "{line}");
            match what {
                "HELP" => assert!(!rest.is_empty()),
                "TYPE" => {
                    assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "one head: {line}");
                    assert_eq!(rest == "counter", name.ends_with("_total"), "{line}");
                }
                other => panic!("{other}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        assert!(kinds.contains_key(name), "a sample without a head: {line}");
        assert!(all.insert(sample.to_owned(), value.parse::<f64>().unwrap()).is_none(), "twice: {line}");
    }
    all
}

#[test]
fn prometheus_text_and_show_drops_say_the_same() {
    let Some(mut owner) = Station::owner("metrics") else { return };
    owner.configure("metrics = \"0.0.0.0:9497\"", "");
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert!(said(&out).contains("write a loopback ADDRESS:PORT"), "{}", said(&out));

    owner.configure("state = \"state/go.sqlite\"\nmetrics = \"127.0.0.1:9497\"", "");
    owner.space.ip("link set lo up").unwrap();
    owner.start(&[]);
    owner.await_show("groups", |s| s["groups"][0]["epoch"] == 1);
    let mut frames = vec![stranger(); 300];
    frames.extend(vec![stranger()[..16].to_vec(); 20]);
    send(&owner, &frames);
    let sum =
        |s: &Value| s["drops"]["totals"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let shown = owner.await_show("drops", |s| {
        let drops: u64 = sum(s);
        drops >= 320
    });
    assert_eq!(shown["drops"]["offered"].as_u64().unwrap(), sum(&shown), "nothing else came");

    let scrape = |path: &str| {
        let mut stream = owner.space.inside(|| TcpStream::connect("127.0.0.1:9497").unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let (head, text) =
        scrape("/metrics").split_once("\r\n\r\n").map(|(h, t)| (h.to_owned(), t.to_owned())).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let found = samples(&text);
    let totals = shown["drops"]["totals"].as_object().unwrap();
    for (what, n) in totals {
        let (stage, cause) = what.split_once(' ').unwrap();
        let sample = format!("pc5_drops_total{{stage=\"{stage}\",cause=\"{cause}\"}}");
        assert_eq!(found[&sample], n.as_f64().unwrap(), "{sample}");
    }
    let dropped: f64 = found.iter().filter(|(k, _)| k.starts_with("pc5_drops_total")).map(|(_, v)| v).sum();
    assert_eq!(dropped, sum(&shown) as f64);
    assert_eq!(found["pc5_group_epoch{group=\"f00001\"}"], 1.0);
    assert_eq!(found["pc5_events_total{event=\"group_key\"}"], 1.0);
    assert!(scrape("/").starts_with("HTTP/1.1 404"));

    let answer = owner.ask("{\"version\":1,\"ask\":\"metrics\"}");
    assert_eq!(samples(answer["metrics"].as_str().unwrap()).len(), found.len());
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn events_are_heard_as_they_happen_and_top_shows_rates() {
    let Some(mut owner) = Station::owner("events") else { return };
    owner.start(&[]);
    owner.await_show("groups", |s| s["groups"][0]["epoch"] == 1);
    let mut stream = UnixStream::connect(owner.path("run/admin.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    writeln!(stream, "{{\"version\":1,\"ask\":\"events\"}}").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut number = None;
    let mut hear = |wanted: &str| loop {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["version"], 1);
        let told = event["number"].as_u64().unwrap();
        let next = number.map_or(told, |n| if event["event"] == "alive" { n } else { n + 1 });
        assert_eq!(told, next, "none is missed: {event}");
        number = Some(told);
        if event["event"] == wanted {
            return event;
        }
    };
    hear("alive");
    let admin = owner.path("run/admin.sock");
    let out = pc5(owner.folder.path(), &["group", "rekey", "--admin", admin.to_str().unwrap()]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(hear("group_key")["about"]["epoch"], "2");
    owner.space.ip("link set eth0 down").unwrap();
    assert_eq!(hear("port_down")["about"]["link"], "down");
    // What is configured but down stays on the screen.
    let runtime = owner.show("runtime").unwrap();
    assert_eq!(runtime["runtime"]["data"]["ports"].as_array().unwrap().len(), 2, "{runtime:#}");
    owner.space.ip("link set eth0 up").unwrap();
    hear("port_up");
    send(&owner, &vec![stranger(); 3_000]);
    assert_eq!(hear("drops")["about"]["cause"], "open unknown_sender");

    let flood = std::thread::scope(|scope| {
        let top = scope
            .spawn(|| pc5(owner.folder.path(), &["top", "-o", "json", "--admin", admin.to_str().unwrap()]));
        while !top.is_finished() {
            send(&owner, &vec![stranger(); 200]);
        }
        top.join().unwrap()
    });
    assert!(flood.status.success(), "{}", said(&flood));
    let rates: Value = serde_json::from_slice(&flood.stdout).unwrap();
    assert!(rates["ports"]["data in"].as_f64().unwrap() > 100.0, "{rates:#}");
    assert!(rates["drops"]["open unknown_sender"].as_f64().unwrap() > 100.0, "{rates:#}");
    let out = pc5(owner.folder.path(), &["top", "--admin", admin.to_str().unwrap()]);
    assert!(said(&out).contains("NS/FRAME") && !said(&out).contains('\x1b'), "{}", said(&out));
    assert!(owner.stop(), "{}", owner.log());
}

/// A file system of its own, small enough to be filled.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: std::path::PathBuf, kib: u32) -> Self {
        let options = format!("size={kib}k,mode=0700,uid=54321,gid=54321");
        let out =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        Self(at)
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_order_that_a_full_disk_does_not_keep_is_not_called_done() {
    let Some(mut owner) = Station::owner("full disk") else { return };
    owner.configure("state = \"state/go.sqlite\"\nuser = \"54321\"", "");
    fs::set_permissions(owner.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let disk = Small::mount(owner.path("state"), 400);
    owner.start(&[]);
    owner.await_show("groups", |_| true);
    let order = |owner: &Station, args: &[&str]| {
        let admin = owner.path("run/admin.sock");
        pc5(owner.folder.path(), &[&["group"], args, &["--admin", admin.to_str().unwrap()]].concat())
    };
    let ue = |n: u8| format!("pc5:001-01:ue:ue-{n}");
    assert!(order(&owner, &["evict", &ue(1)]).status.success());

    disk.fill();
    // Epochs are reserved sixteen at a time.
    let failed = (0..40).map(|_| order(&owner, &["rekey"])).find(|out| !out.status.success()).unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(said(&failed).contains("could not be written"), "{}", said(&failed));
    for _ in 0..3 {
        let out = order(&owner, &["evict", &ue(2)]);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        // It is out all the same, as long as this process lives.
        let evicted = &owner.show("groups").unwrap()["groups"][0]["evicted"];
        assert!(evicted.as_array().unwrap().iter().any(|e| *e == ue(2)), "{evicted}");
        assert!(!order(&owner, &["readmit", &ue(1)]).status.success());
        assert!(!order(&owner, &["rekey"]).status.success());
    }

    disk.make_room();
    for args in [&["evict", &ue(3)][..], &["rekey"]] {
        let out = order(&owner, args);
        assert!(out.status.success(), "{}", said(&out));
    }
    let epoch = |s: &Value| s["groups"][0]["epoch"].as_u64().unwrap();
    let before = owner.await_show("groups", |s| epoch(s) > 0);
    // What was told done, and nothing else, is there after the process was killed.
    owner.signal("-KILL");
    assert!(!owner.stop());
    owner.start(&[]);
    let after = owner.await_show("groups", |_| true);
    assert_eq!(after["groups"][0]["evicted"], serde_json::json!([ue(1), ue(3)]));
    assert!(epoch(&after) > epoch(&before), "{after} after {before}");
    assert!(owner.stop(), "{}", owner.log());
}

#[test]
fn a_suite_that_protects_nothing_is_told_wherever_one_looks() {
    let Some(mut owner) = Station::owner("weak suite") else { return };
    owner.configure("", "suite = \"eea0\"");
    let warning = "group f00001 has suite eea0: nothing is ciphered";
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert!(out.status.success() && said(&out).contains(warning), "{}", said(&out));
    owner.start(&[]);
    owner.await_show("groups", |_| true);
    assert!(owner.log().contains(warning), "{}", owner.log());
    let admin = owner.path("run/admin.sock");
    let out = pc5(owner.folder.path(), &["show", "keys", "--admin", admin.to_str().unwrap()]);
    assert!(said(&out).contains("WARNING: eea0: nothing is ciphered"), "{}", said(&out));
    assert!(!said(&out).contains("A MAC field under a PGK proves"), "{}", said(&out));
    owner.signal("-HUP");
    owner.wait(|| owner.log().matches(warning).count() == 2);

    // A value that is out of all bounds is named; by SIGHUP it changes nothing.
    owner.configure("", "suite = \"eea0\"\nrekey_after = \"18446744073709551615s\"");
    let out = pc5(owner.folder.path(), &["check", "go.toml"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("group[0].rekey_after"), "{}", said(&out));
    owner.signal("-HUP");
    owner.wait(|| owner.log().contains("nothing changed"));
    assert!(owner.show("groups").is_some());
    assert!(owner.stop(), "{}", owner.log());
}
