//! One UE in the attacker's hands, with everything that it ever knew: the keys of its links, every group key that it was
//! given, its certificate and key, its state, the memory of its process, and all that was on the wire. It opens nothing of
//! another UE, nothing of the group from before it joined or after it was evicted, and it is nobody else.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pc5_dataplane::ids::{Layer2Id, PgkId, PtkId};
use pc5_dataplane::kdf::{FrameKeys, ptk};
use pc5_dataplane::keylog::{self, KeyLogLine};
use pc5_dataplane::pdu::{Address, Destination, Header, parse};
use pc5_dataplane::suite::Suite;
use serde_json::Value;

use crate::lab::{GROUP, Lab, MULTICAST, Node, listener, octets, talker};
use crate::raw::{GROUP_ID, OWNER, Wire, id};
use crate::wire::{Decoder, Eavesdropper, seal};

/// The one in the attacker's hands.
const TAKEN: u32 = 3;
const SUITE: Suite = Suite::Aes256Gcm;
/// Forged frames of each kind.
const FORGED: u64 = 5;

/// What was on the wire, protected.
fn protected(frames: &[Vec<u8>]) -> Vec<(Header, &[u8])> {
    let ours = frames.iter().filter(|f| f.get(12..14) == Some(&[0x88, 0xb5]));
    ours.filter_map(|f| Some((parse(f).ok()?, &f[..]))).filter(|(h, _)| h.key_id != 0).collect()
}

/// Whether a frame belongs to a link of the one in the attacker's hands.
fn of_taken(h: &Header) -> bool {
    h.address.source() == id(TAKEN) || h.address.destination() == Destination::Ue(id(TAKEN))
}

/// Traffic of the two others, each with the other and with the group.
fn traffic(ues: &[Node]) {
    assert!(ues[0].ping("10.77.0.2"), "{}", ues[0].story());
    for (ue, n) in ues.iter().zip(1..) {
        let talker = talker(ue, n);
        for _ in 0..5 {
            talker.send_to(&octets(600), SocketAddr::from((MULTICAST, 7000))).unwrap();
        }
    }
    // Until it is on the wire.
    std::thread::sleep(Duration::from_millis(300));
}

/// The keys of a log, as what they are.
fn links(key_log: &str) -> Vec<((Layer2Id, Layer2Id), [u8; 32])> {
    let link = |line| match line {
        KeyLogLine::Link { ue1, ue2, kd_sess, .. } => Some(((ue1, ue2), *kd_sess.expose())),
        KeyLogLine::Group { .. } => None,
    };
    keylog::parse(key_log).unwrap().into_iter().filter_map(link).collect()
}

fn groups(key_log: &str) -> Vec<(PgkId, pc5_dataplane::kdf::Pgk)> {
    let group = |line| match line {
        KeyLogLine::Group { pgk_id, pgk, .. } => Some((pgk_id, pgk)),
        KeyLogLine::Link { .. } => None,
    };
    keylog::parse(key_log).unwrap().into_iter().filter_map(group).collect()
}

fn frame_keys(kd_sess: [u8; 32]) -> FrameKeys {
    FrameKeys::from_kd_sess(&pc5_dataplane::kdf::KdSess::new(kd_sess), SUITE)
}

/// How many of some secrets are in a process's memory, and in its files. Nothing is said of memory that nobody may read.
fn found(node: &Node, secrets: &[[u8; 32]]) -> (Option<usize>, usize) {
    let files = node.state_files().into_iter().filter_map(|f| fs::read(f).ok());
    (memory(node).map(|m| search(&m, secrets)), search(&files.collect::<Vec<_>>(), secrets))
}

/// What a process has in memory that is its own; `None`, with the reason printed, without the right to look.
fn memory(node: &Node) -> Option<Vec<Vec<u8>>> {
    let process = format!("/proc/{}", node.pid().unwrap());
    let memory = match fs::File::open(format!("{process}/mem")) {
        Ok(memory) => memory,
        Err(e) => {
            eprintln!("compromise: memory not searched: {e}");
            return None;
        }
    };
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
    let own = maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let (from, to) = range.split_once('-')?;
        let at = |text| u64::from_str_radix(text, 16).ok();
        // Rings are shared with the kernel: frames, not keys.
        (rights.starts_with("rw") && rights.ends_with('p')).then_some((at(from)?, at(to)?))
    });
    let mut regions = Vec::new();
    for (from, to) in own {
        // Pieces, since the end of what was never touched cannot be read.
        for at in (from..to).step_by(1 << 20) {
            let mut piece = vec![0; usize::try_from((to - at).min((1 << 20) + 32)).unwrap()];
            if let Ok(n) = memory.read_at(&mut piece, at) {
                piece.truncate(n);
                regions.push(piece);
            }
        }
    }
    assert!(regions.iter().map(Vec::len).sum::<usize>() > 1 << 20, "no memory read");
    Some(regions)
}

fn search(places: &[Vec<u8>], secrets: &[[u8; 32]]) -> usize {
    let mut begins = vec![false; 1 << 16];
    let begin = |s: &[u8]| usize::from(u16::from_be_bytes([s[0], s[1]]));
    let mut by_begin = HashMap::<usize, Vec<&[u8; 32]>>::new();
    for secret in secrets {
        begins[begin(secret)] = true;
        by_begin.entry(begin(secret)).or_default().push(secret);
    }
    let mut found = HashSet::<&[u8; 32]>::new();
    for place in places {
        // Pages never written to are not worth a look.
        for from in (0..place.len()).step_by(4_096).filter(|&at| {
            let page = &place[at..place.len().min(at + 4_096)];
            page != &[0; 4_096][..page.len()]
        }) {
            let end = place.len().min(from + 4_096 + 31);
            for window in place[from..end].windows(32) {
                if begins[begin(window)] {
                    found.extend(by_begin[&begin(window)].iter().filter(|s| window == &s[..]));
                }
            }
        }
    }
    found.len()
}

/// An IPv4 packet with a datagram to the group's listeners.
fn packet(from: u8, payload: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut header = [&[0x45, 0][..], &length(28 + payload.len()), &[0, 0, 0x40, 0, 8, 17, 0, 0]].concat();
    header.extend(Ipv4Addr::new(10, 77, 0, from).octets().into_iter().chain(MULTICAST.octets()));
    let words = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
    // Without checksum, which IPv4 lets UDP do.
    [
        &header[..],
        &7000u16.to_be_bytes(),
        &7000u16.to_be_bytes(),
        &length(8 + payload.len()),
        &[0, 0],
        payload,
    ]
    .concat()
}

/// The newest frame between two, or of one to the group: the ids that a forger takes.
fn newest(frames: &[Vec<u8>], address: Address) -> Header {
    let of = protected(frames).into_iter().rev().find(|(h, _)| h.address == address && h.lcid.is_user());
    of.unwrap_or_else(|| panic!("nothing of {address:?} was on the wire")).0
}

fn drops(node: &Node, cause: &str) -> u64 {
    node.drops().iter().find(|(c, _)| c == cause).map_or(0, |(_, n)| *n)
}

/// Puts frames on the wire, which `node` must drop for this cause.
fn refused(wire: &mut Wire, node: &Node, cause: &str, forge: impl Fn(u16) -> Vec<u8>) {
    let before = drops(node, cause);
    (0..FORGED).for_each(|n| wire.send(&forge(100 + n as u16)));
    node.await_show("drops", |s| s["drops"]["totals"][cause].as_u64().unwrap_or(0) >= before + FORGED);
}

fn members(s: &Value) -> usize {
    s["members"].as_array().unwrap().len()
}

#[test]
fn one_ue_in_the_wrong_hands_opens_nothing_of_another() {
    let Some(lab) = Lab::new("compromise") else { return };
    let mut go = lab.owner("", "");
    let mut ues = vec![lab.ue(1), lab.ue(2)];
    let mut taken = lab.ue(TAKEN as u8);
    let eve = lab.station("eve");
    let keys_of =
        |name: &str| fs::read_to_string(lab.folder().join(format!("{name}.keys"))).unwrap_or_default();
    let rekeyed = |s: &Value| s["groups"][0]["by_link"] == 0;
    let order = |node: &Node, args: &[&str]| {
        let out = node.ask(args);
        assert!(out.status.success(), "{args:?}: {}", crate::lab::said(&out));
    };

    // Two of them talk, over several epochs, before the third joins.
    go.start();
    ues.iter_mut().for_each(Node::start);
    go.await_members(2);
    ues.iter().for_each(Node::await_joined);
    let eavesdropper = Eavesdropper::new(&eve);
    traffic(&ues);
    order(&go, &["group", "rekey"]);
    go.await_show("groups", |s| s["groups"][0]["epoch"] == 2 && rekeyed(s));
    traffic(&ues);
    let before = eavesdropper.frames();
    order(&go, &["group", "rekey"]);
    go.await_show("groups", |s| s["groups"][0]["epoch"] == 3 && rekeyed(s));

    // It is a member, over several epochs and link keys of everybody.
    taken.start();
    go.await_members(3);
    taken.await_joined();
    let eavesdropper = Eavesdropper::new(&eve);
    traffic(&ues);
    for n in ["000001", "000002", "000003"] {
        order(&go, &["link", "rekey", n, "--refresh"]);
    }
    go.await_show("runtime", |s| s["runtime"]["notices"]["rekeyed"].as_u64().unwrap_or(0) >= 3);
    order(&go, &["group", "rekey"]);
    go.await_show("groups", |s| s["groups"][0]["epoch"] == 4 && rekeyed(s));
    taken.await_show("groups", |s| s["groups"][0]["epoch"] == 4);
    traffic(&ues);
    assert!(taken.ping("10.77.0.1"));
    let during = eavesdropper.frames();

    // Now it is the attacker's, who begins at once: as a member he is still no other member, and nobody's owner.
    let ear = listener(&ues[0], 1);
    let lie = octets(300);
    let mut wire = Wire::new(&eve, "eth0");
    let [first, second] = [id(1), id(2)];
    let owner = id(OWNER);
    let (_, own_link) = *links(&keys_of("ue-3")).last().unwrap();
    let (live, live_pgk) = groups(&keys_of("ue-3")).pop().unwrap();
    let as_group = |sender: Layer2Id, index: PgkId, pgk: &pc5_dataplane::kdf::Pgk, ptk_id: u16, sn: u16| {
        let ptk = ptk(pgk, sender, PtkId::new(ptk_id).unwrap(), GROUP_ID);
        let keys = FrameKeys::from_ptk(&ptk, SUITE);
        seal(&keys, Address::group(GROUP_ID, sender), (index.index(), ptk_id, sn), 0, &packet(2, &lie))
    };
    refused(&mut wire, &ues[0], "open sender_not_permitted", |sn| as_group(second, live, &live_pgk, 1, sn));
    refused(&mut wire, &ues[0], "open sender_not_permitted", |sn| {
        as_group(id(TAKEN), live, &live_pgk, 1, sn)
    });
    let over_link = |keys: &FrameKeys, address: Address, frames: &[Vec<u8>], direction: u8, sn: u16| {
        let like = newest(frames, address);
        let ids = (0, like.key_id, like.sn.wrapping_add(sn));
        seal(keys, address, ids, direction, &packet(2, &lie))
    };
    let his = frame_keys(own_link);
    let (up, down) = (Address::link(owner, second), Address::link(first, owner));
    refused(&mut wire, &go, "open forged", |sn| over_link(&his, up, &during, 0, sn));
    refused(&mut wire, &ues[0], "open forged", |sn| over_link(&his, down, &during, 1, sn));
    let mut buffer = [0; 2_048];
    while let Ok(n) = ear.recv(&mut buffer) {
        assert_ne!(&buffer[..n], &lie[..], "somebody took it for the word of another");
    }

    // What it has in memory and on disk: its own keys, nobody else's.
    let everybodys = links(&keys_of("go-1"));
    let is_his = |ends: &(Layer2Id, Layer2Id)| ends.0 == id(TAKEN) || ends.1 == id(TAKEN);
    let others: Vec<[u8; 32]> = everybodys
        .iter()
        .filter(|(ends, _)| !is_his(ends))
        .flat_map(|(_, k)| [*k, frame_keys(*k).pek().try_into().unwrap()])
        .chain(groups(&keys_of("go-1")).iter().filter(|(id, _)| id.0 < 3).map(|(_, pgk)| *pgk.expose()))
        .collect();
    let own = [own_link, *live_pgk.expose()];
    assert!(matches!(found(&taken, &own).0, None | Some(2)), "the search finds what is there");
    assert!(others.len() >= 10, "{}", others.len());
    assert!(matches!(found(&taken, &others), (None | Some(0), 0)), "keys of others");

    // It is evicted; the others go on.
    order(&go, &["group", "evict", "pc5:001-01:ue:ue-3"]);
    go.await_show("groups", |s| s["groups"][0]["members"] == 2 && rekeyed(s));
    let eavesdropper = Eavesdropper::new(&eve);
    traffic(&ues);
    order(&go, &["group", "rekey"]);
    go.await_show("groups", |s| s["groups"][0]["epoch"] == 6 && rekeyed(s));
    traffic(&ues);
    let after = eavesdropper.frames();
    let later: Vec<_> =
        groups(&keys_of("go-1")).iter().filter(|(id, _)| id.0 > 4).map(|(_, pgk)| *pgk.expose()).collect();
    assert!(later.len() >= 2);
    assert!(matches!(found(&taken, &later), (None | Some(0), 0)), "group keys of after its eviction");

    // Everything that was on the wire, with everything that it ever had.
    let (mut all, mut his_keys) = (Decoder::new(&lab.key_logs()), Decoder::new(&keys_of("ue-3")));
    let mut counts = [0usize; 6];
    for (phase, frames) in [&before, &during, &after].into_iter().enumerate() {
        for (i, (h, frame)) in protected(frames).into_iter().enumerate() {
            assert!(all.open(frame).is_some(), "the right keys open it: {h:?}");
            let opened = his_keys.open(frame).is_some();
            let (kind, expected) = match h.address.is_group() {
                true => (phase, phase == 1),
                false if of_taken(&h) => (3, true),
                false => (4, false),
            };
            assert_eq!(opened, expected, "phase {phase}: {h:?}");
            counts[kind] += 1;
            // One in a few with each of its keys, whatever the ids say.
            if !expected && i % 4 == 0 {
                assert!(!his_keys.opens_by_any_means(frame), "phase {phase}: {h:?}");
                counts[5] += 1;
            }
        }
    }
    let [past, member, future, own_link_frames, foreign, tried] = counts;
    eprintln!(
        "compromise: group frames {past} before, {member} as a member, {future} after; link frames {own_link_frames} own, \
         {foreign} of others; {tried} tried with every key"
    );
    assert!(past >= 10 && member >= 10 && future >= 10 && own_link_frames > 10 && foreign > 50 && tried > 20);

    // Sending under what it has kept: void.
    for (pgk_id, pgk) in groups(&keys_of("ue-3")) {
        for ue in &ues {
            refused(&mut wire, ue, "open unknown_key", |sn| as_group(owner, pgk_id, &pgk, 1, sn));
        }
    }
    let own_up = Address::link(owner, id(TAKEN));
    refused(&mut wire, &go, "open unknown_sender", |sn| over_link(&his, own_up, &during, 0, sn));
    // The same frame with the right key is taken: it is the key that makes the difference.
    let (_, right) = *everybodys.iter().rev().find(|(ends, _)| ends.0 == second).unwrap();
    let like = newest(&after, up);
    let truth = octets(300);
    let genuine = frame_keys(right);
    wire.send(&seal(&genuine, up, (0, like.key_id, like.sn + 200), 0, &packet(2, &truth)));
    let mut heard = Vec::new();
    while let Ok(n) = ear.recv(&mut buffer) {
        heard.push(buffer[..n].to_vec());
    }
    assert!(heard.contains(&truth), "{}", go.story());
    assert!(!heard.contains(&lie));

    // With its certificate, key and state: not as itself, and not under another's Layer-2 id.
    taken.kill();
    let refusals = || {
        let runtime = go.show("runtime").unwrap();
        runtime["runtime"]["notices"]["refused"].as_u64().unwrap_or(0)
    };
    for layer2 in [TAKEN, 1] {
        let tables = format!(
            "[ue]\ngroup = \"{GROUP}\"\nlayer2 = \"{layer2:06x}\"\n[tun]\nname = \"pc5\"\naddresses = [\"10.77.0.3/24\"]\n"
        );
        let text = fs::read_to_string(&taken.config).unwrap();
        let (head, _) = text.split_once("[ue]").unwrap();
        fs::write(&taken.config, format!("{head}{tables}")).unwrap();
        let before = refusals();
        taken.start();
        go.await_show("runtime", |s| s["runtime"]["notices"]["refused"].as_u64().unwrap_or(0) > before);
        taken.await_show("groups", |s| s["groups"][0]["state"] != "joined" && s["groups"][0]["epoch"] == 0);
        assert_eq!(members(&go.show("members").unwrap()), 2);
        taken.kill();
    }
    // Whose certificate another UE shows is on the wire for nobody; whoever has it still lacks the key.
    let other = lab.folder().join("pki/issued/ue-1.pem");
    fs::copy(other, lab.folder().join("pki/issued/ue-3.pem")).unwrap();
    let out = crate::lab::pc5(lab.folder(), &["check", "ue-3.toml"]);
    assert!(!out.status.success(), "{}", crate::lab::said(&out));
    assert!(ues[0].ping("10.77.0.2") && ues[1].ping("10.77.0.1"));
    for node in std::iter::once(&go).chain(&ues) {
        node.assert_adds_up();
    }
}
