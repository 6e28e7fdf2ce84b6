//! One owner on an interface of its own, for tests of the daemon itself.

#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use pc5_dataplane::io::netns::Namespace;
use serde_json::Value;

/// A daemon in a namespace, with a wire to another namespace.
pub(crate) struct Station {
    pub(crate) space: Namespace,
    pub(crate) far: Namespace,
    pub(crate) folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Drop for Station {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn pc5(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pc5")).current_dir(folder).args(args).output().unwrap()
}

pub(crate) fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

impl Station {
    /// An owner `go-1` of group f00001, not started; `None`, with the reason said, without the rights for namespaces.
    pub(crate) fn owner(test: &str) -> Option<Self> {
        let space = Namespace::or_skip(test)?;
        let far = Namespace::new().unwrap();
        space.wire("eth0", &far, "eth0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let station = Self { space, far, folder, process: None };
        let path = station.folder.path();
        for args in [
            &["pki", "root", "pki", "--plmn", "001-01"][..],
            &["pki", "issue", "pki", "go-1", "--role", "owner", "--group", "f00001"],
        ] {
            let out = pc5(path, args);
            assert!(out.status.success(), "{args:?}: {}", said(&out));
        }
        station.configure("state = \"state/go.sqlite\"", "");
        fs::create_dir(path.join("state")).unwrap();
        Some(station)
    }

    /// Writes its configuration, with these lines at the top and in the group.
    pub(crate) fn configure(&self, top: &str, group: &str) {
        let text = format!(
            "role = \"owner\"\nadmin = \"run/admin.sock\"\ncrl_freshness = \"grace 7d\"\n{top}\n\
             [port]\nkind = \"auto\"\ninterface = \"eth0\"\n\
             [credential]\ncertificate = \"pki/issued/go-1.pem\"\nkey = \"pki/issued/go-1.key\"\n\
             [[trust]]\nplmn = \"001-01\"\nroot = \"pki/ca.pem\"\ncrl = [\"pki/crl.pem\"]\n\
             [[group]]\nid = \"f00001\"\nowner = \"fffffe\"\n{group}\n"
        );
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("go.toml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&mut self, environment: &[(&str, &str)]) {
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", self.space.name(), env!("CARGO_BIN_EXE_pc5"), "run"])
            .arg(self.config())
            .envs(environment.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn show(&self, what: &str) -> Option<Value> {
        let admin = self.path("run/admin.sock");
        let out = pc5(self.folder.path(), &["show", what, "-o", "json", "--admin", admin.to_str().unwrap()]);
        out.status.success().then(|| serde_json::from_slice(&out.stdout).unwrap())
    }

    /// Asks on the admin socket, a line for a line.
    pub(crate) fn ask(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(self.path("run/admin.sock")).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Waits until it answers.
    pub(crate) fn await_show(&self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let shown = std::cell::Cell::new(None);
        self.wait(|| {
            shown.set(self.show(what));
            let now = shown.take();
            let good = now.as_ref().is_some_and(&until);
            shown.set(now);
            good
        });
        shown.take().unwrap()
    }

    /// Waits for something, 20 s at most.
    pub(crate) fn wait(&self, until: impl Fn() -> bool) {
        let began = Instant::now();
        while !until() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited in vain\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as an operator does; whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        self.signal("-TERM");
        let mut child = self.process.take().unwrap();
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
