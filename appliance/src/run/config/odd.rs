//! Odd values in a configuration: each is judged, none ends the process, and what is taken can be worked with.

use proptest::prelude::*;

use super::tests::{owner, with_files};
use super::{Config, Station, parse};

/// Numbers at which something could break.
const NUMBERS: [u64; 12] = [
    0,
    1,
    7,
    59,
    99,
    100,
    65_536,
    3_155_760_000,
    3_155_760_001,
    u64::MAX / 86_400,
    u64::MAX / 2 + 1,
    u64::MAX,
];

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(&NUMBERS[..]).prop_map(|n| n.to_string()),
        (0..5_000_u64).prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        Just("99999999999999999999999".to_owned()),
    ]
}

fn duration() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(&["ms", "s", "m", "h", "d", "y", ""][..]);
    (number(), unit).prop_map(|(n, unit)| format!("{n}{unit}"))
}

/// Lines of `[[group]]`.
fn group() -> impl Strategy<Value = String> {
    let keys = ["key_lifetime", "rekey_after", "kd_lifetime", "keepalive", "lost_after"];
    let durations =
        keys.map(|key| prop::option::weighted(0.4, duration().prop_map(move |d| format!("{key} = \"{d}\""))));
    let counts = ["future_epochs", "max_members"];
    let counts =
        counts.map(|key| prop::option::weighted(0.4, number().prop_map(move |n| format!("{key} = {n}"))));
    (durations, counts).prop_map(|(d, c)| d.into_iter().chain(c).flatten().collect::<Vec<_>>().join("\n"))
}

/// Lines at the top.
fn top() -> impl Strategy<Value = String> {
    let freshness = duration().prop_map(|d| format!("crl_freshness = \"grace {d}\""));
    let workers = number().prop_map(|n| format!("workers = {n}"));
    let lines = [freshness.boxed(), workers.boxed()].map(|line| prop::option::weighted(0.3, line));
    lines.prop_map(|lines| lines.into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

fn read(text: &str) -> Option<Config> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.pem"), "").unwrap();
    parse(&text.replace("/dev/null", "x.pem"), folder.path()).ok()
}

proptest! {
    #[test]
    fn any_numbers_are_taken_or_refused(top in top(), group in group()) {
        let Some(config) = read(&owner(&top, &group)) else { return Ok(()) };
        let Station::Owner(station) = &config.station else { unreachable!("role is owner") };
        for policy in &station.groups {
            prop_assert_eq!(policy.check(), Ok(()));
            // As an owner adds them up, with a margin.
            prop_assert!((policy.key_lifetime + policy.lost_after + policy.kd_lifetime).checked_mul(8).is_some());
        }
    }

    #[test]
    fn so_are_those_of_enrolment(every in duration()) {
        let est = format!("[est]\nurl = \"https://home.example\"\nroot = \"/dev/null\"\nevery = \"{every}\"");
        let _ = with_files(&(owner("", "") + &est));
    }
}

#[test]
fn the_key_of_an_odd_value_is_named() {
    for (line, begins) in [
        (
            "rekey_after = \"18446744073709551615s\"",
            "group[0].rekey_after = \"18446744073709551615s\": write a number",
        ),
        ("key_lifetime = \"36526d\"", "group[0].key_lifetime = \"36526d\": write a number"),
        ("rekey_after = \"0s\"", "group[0]: group f00001: a group key is changed after 100 milliseconds"),
        (
            "key_lifetime = \"7s\"\nrekey_after = \"99ms\"",
            "group[0]: group f00001: a group key is changed after",
        ),
        ("key_lifetime = \"0s\"", "group[0]: group f00001: a group key is changed after"),
    ] {
        let found = with_files(&owner("", line));
        assert!(found.len() == 1 && found[0].starts_with(begins), "{found:?}");
    }
}

#[test]
fn suites_that_protect_little_are_told() {
    let said = |suite: &str| read(&owner("", &format!("suite = \"{suite}\""))).unwrap().weaknesses();
    for good in ["aes-256-gcm", "aes-128-gcm", "nca5", "eea2-eia2"] {
        assert_eq!(said(good), Vec::<String>::new(), "{good}");
    }
    assert!(
        said("eea0")[0].starts_with("group f00001 has suite eea0: nothing is ciphered"),
        "{:?}",
        said("eea0")
    );
    for bare in ["eea1", "eea2", "eea3"] {
        assert!(said(bare)[0].contains("without a MAC field"), "{:?}", said(bare));
    }
    let (head, _) = owner("", "").split_once("[[group]]").map(|(h, t)| (h.to_owned(), t.to_owned())).unwrap();
    let ue = head.replace("\"owner\"", "\"ue\"")
        + "[ue]\ngroup = \"f00001\"\nlayer2 = \"000001\"\nsuites = [\"aes-256-gcm\", \"eea0\"]\n[tun]\naddresses = []\n";
    let found = read(&ue).unwrap().weaknesses();
    assert!(found.len() == 1 && found[0].starts_with("group f00001 may have suite eea0: "), "{found:?}");
}
