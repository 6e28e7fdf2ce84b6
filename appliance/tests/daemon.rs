//! The daemon as its system sees it: rights given up, what the service manager is told.

mod station;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

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
