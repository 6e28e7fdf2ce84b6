//! The demonstration as whoever is new here runs it.

use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, binary, long, said};

#[test]
fn the_demonstration_script_holds() {
    // Times are looked at there too: one at a time.
    let Some(_lab) = Lab::new("script") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/netns-demo");
    let arguments: &[&str] = if long() { &["--long"] } else { &[] };
    let out = Command::new(script).args(arguments).env("PC5", binary()).output().unwrap();
    eprintln!("{}", said(&out));
    assert!(out.status.success(), "{}", said(&out));
}
