//! The published frames, octet for octet, both ways: by the slow model and by the engine on every kernel.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid, LinkRole, PgkId, SduType};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, Event, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{ModelFrame, ModelKey, hex_field, ue, vectors};
use pc5_dataplane::verdict::Verdict;
use pc5_dataplane::{crypto, kdf};
use serde_json::Value;

fn id(v: &Value, name: &str) -> Layer2Id {
    v[name].as_str().unwrap().parse().unwrap()
}

struct Published {
    name: String,
    suite: Suite,
    address: Address,
    lcid: Lcid,
    sdu_type: SduType,
    index: u8,
    key_id: u16,
    sn: u16,
    direction: u8,
    tagged: bool,
    sdu: Vec<u8>,
    frame: Vec<u8>,
    key: [u8; 32],
}

fn published() -> Vec<Published> {
    let file = vectors(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pc5_frames.json"));
    let read = |v: &Value| {
        let group = v["cast"] == "group";
        let pgk_id = if group { hex_field(v, "pgk_id")[0] } else { 0 };
        let address = if group {
            Address::group(v["group_id"].as_str().unwrap().parse::<GroupId>().unwrap(), id(v, "source"))
        } else {
            Address::link(id(v, "destination"), id(v, "source"))
        };
        Published {
            name: v["name"].as_str().unwrap().into(),
            suite: v["suite"].as_str().unwrap().parse().unwrap(),
            address,
            lcid: Lcid::new(v["lcid"].as_u64().unwrap() as u8).unwrap(),
            sdu_type: SduType::new(v["sdu_type"].as_u64().unwrap() as u8).unwrap(),
            index: pgk_id & 0x1f,
            key_id: if group {
                v["ptk_id"].as_u64().unwrap() as u16
            } else {
                u16::from_str_radix(v["kd_sess_id"].as_str().unwrap(), 16).unwrap()
            },
            sn: v["sn"].as_u64().unwrap() as u16,
            direction: v["direction"].as_u64().unwrap() as u8,
            tagged: !v["vlan"].is_null(),
            sdu: hex_field(v, "sdu"),
            frame: hex_field(v, "frame"),
            key: hex_field(v, if group { "pgk" } else { "kd_sess" }).try_into().unwrap(),
        }
    };
    file["frames"].as_array().unwrap().iter().map(read).collect()
}

/// Without its 802.1Q tag: what leaves carries the port's tag, not the engine's.
fn untagged(p: &Published) -> Vec<u8> {
    let mut f = p.frame.clone();
    if p.tagged {
        f.drain(12..16);
    }
    f
}

#[test]
fn the_model_makes_and_opens_each_published_frame() {
    let frames = published();
    assert!(frames.len() >= 30);
    for p in &frames {
        let (pgk, kd_sess) = (Pgk::new(p.key), KdSess::new(p.key));
        let key = if p.address.is_group() { ModelKey::Pgk(&pgk) } else { ModelKey::KdSess(&kd_sess) };
        let model = ModelFrame {
            address: p.address,
            key,
            suite: p.suite,
            lcid: p.lcid,
            sdu_type: p.sdu_type,
            index: p.index,
            key_id: p.key_id,
            sn: p.sn,
            direction: p.direction,
        };
        assert_eq!(hex::encode(model.seal(&p.sdu)), hex::encode(untagged(p)), "{}", p.name);
        assert_eq!(model.open(&p.frame).as_deref(), Some(&p.sdu[..]), "{}", p.name);
    }
}

#[test]
fn the_engine_opens_each_published_frame_on_each_kernel() {
    for p in published() {
        for kernel in crypto::kernels(p.suite) {
            let mut table = KeyTable::new();
            let local = match p.address.destination() {
                pc5_dataplane::pdu::Destination::Ue(local) => {
                    let key = LinkKey {
                        local,
                        peer: p.address.source(),
                        id: KdSessId::new(p.key_id).unwrap(),
                        kd_sess: KdSess::new(p.key),
                        suite: p.suite,
                        role: if p.direction == 1 { LinkRole::Ue1 } else { LinkRole::Ue2 },
                    };
                    table.apply(Command::InstallLink(key, LinkPhase::Active)).unwrap();
                    local
                }
                pc5_dataplane::pdu::Destination::Group(group) => {
                    let key = GroupKey {
                        local: ue(0x777777),
                        group,
                        pgk_id: PgkId(p.index | 0x20),
                        pgk: Pgk::new(p.key),
                        suite: p.suite,
                        senders: PermittedSender::Any,
                        not_before: 0,
                        not_after: 10,
                        grant: None,
                        floors: vec![],
                    };
                    table.apply(Command::InstallGroup(key)).unwrap();
                    ue(0x777777)
                }
            };
            table.apply(Command::AddLocal(local)).unwrap();
            table.publish();
            let mut engine =
                Engine::new(table.shared(), EngineConfig { kernel: Some(kernel), ..Default::default() });
            let mut batch = Batch::new(4);
            let mut forged = p.frame.clone();
            let last = p.frame.iter().rposition(|&b| b != 0).unwrap();
            forged[last] ^= 1;
            batch.push_frame(&forged, Meta::default()).unwrap();
            batch.push_frame(&p.frame, Meta::default()).unwrap();
            batch.push_frame(&p.frame, Meta::default()).unwrap();
            engine.open(&mut batch, Now { unix_seconds: 5, monotonic_ns: 0 }).unwrap();
            let verdicts: Vec<Verdict> = batch.slots().iter().map(|s| s.verdict).collect();
            let wanted = match p.suite.has_integrity() {
                true => [Verdict::Forged, Verdict::Accepted, Verdict::Replayed],
                false => [Verdict::Accepted; 3],
            };
            assert_eq!(verdicts, wanted, "{} on {}", p.name, kernel.name());
            // PC5-S is told and leaves the batch.
            let told = engine.take_events().find_map(|e| match e {
                Event::Signalling(s) => Some(s.sdu.to_vec()),
                _ => None,
            });
            let sdu = told.unwrap_or_else(|| batch.data(1).to_vec());
            assert_eq!(sdu, p.sdu, "{} on {}", p.name, kernel.name());
            assert_eq!(engine.opened().total(), 3);
        }
    }
}

#[test]
fn the_kdf_gives_each_published_output() {
    let file = vectors(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/kdf.json"));
    let all = file["vectors"].as_array().unwrap();
    assert_eq!(all.len(), 11);
    for v in all {
        let parameters: Vec<Vec<u8>> = v["params"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| hex::decode(p.as_str().unwrap()).unwrap())
            .collect();
        let parameters: Vec<&[u8]> = parameters.iter().map(|p| &p[..]).collect();
        let out = kdf::kdf(&hex_field(v, "key"), hex_field(v, "fc")[0], &parameters);
        assert_eq!(hex::encode(out), v["out"].as_str().unwrap(), "{}", v["name"]);
    }
}
