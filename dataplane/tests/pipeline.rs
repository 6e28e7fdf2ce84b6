//! The engine against a slow model that handles one frame at a time in plain code: same verdicts, same SDUs, however the
//! frames fall into batches.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use std::collections::{BTreeMap, BTreeSet};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid, LinkRole, PgkId, SduType};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, Event, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::{self, Address, Destination};
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{ModelFrame, ModelKey, group, ue};
use pc5_dataplane::verdict::Verdict;
use pc5_dataplane::{Budget, ReceiveLimits};
use proptest::prelude::*;

const US: u32 = 0x0000aa;
const WINDOW: u32 = 64;
const KEPT: usize = 4;
const GROUP: u32 = 0xf00001;

fn pgk(id: u8) -> Pgk {
    Pgk::new([id; 32])
}

fn kd_sess(id: u16) -> KdSess {
    KdSess::new([id as u8 ^ 0x80; 32])
}

/// The PGKs we hold: id, suite, permitted sender.
const PGKS: [(u8, Suite, Option<u32>); 3] =
    [(1, Suite::Aes128Gcm, None), (2, Suite::Eea2Eia2, None), (3, Suite::Aes256Gcm, Some(0x11))];
/// The link contexts we hold with 0x11: id, suite, phase.
const LINKS: [(u16, Suite, LinkPhase); 2] =
    [(0x0101, Suite::Aes256Gcm, LinkPhase::Active), (0x0202, Suite::Eea2Eia2, LinkPhase::Pending)];

#[derive(Default)]
struct SlowSender {
    newest: u16,
    kept: BTreeSet<u16>,
    full_since: u16,
}

/// One frame at a time, sets instead of windows, keys derived afresh for each frame.
#[derive(Default)]
struct SlowReceiver {
    seen: BTreeMap<(Address, u8, u16), BTreeSet<u16>>,
    senders: BTreeMap<(Address, u8), SlowSender>,
}

impl SlowReceiver {
    fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>, Verdict> {
        let h = pdu::parse(frame)?;
        let ours = h.address.destination() == Destination::Ue(ue(US));
        if h.lcid == Lcid::CLEAR {
            if h.address.source() == ue(US) {
                return Err(Verdict::OwnSource);
            }
            return match h.address.destination() {
                Destination::Ue(_) if !ours => Err(Verdict::NotForUs),
                _ => Ok(frame[21 + h.tag_len as usize..h.end as usize].to_vec()),
            };
        }
        if h.address.is_group() && !h.lcid.is_user() {
            return Err(Verdict::Reserved);
        }
        if h.address.source() == ue(US) {
            return Err(Verdict::OwnSource);
        }
        match h.address.destination() {
            Destination::Ue(_) => self.open_link(&h, ours, frame),
            Destination::Group(_) => self.open_group(&h, frame),
        }
    }

    fn open_link(&mut self, h: &pdu::Header, ours: bool, frame: &[u8]) -> Result<Vec<u8>, Verdict> {
        if !ours {
            return Err(Verdict::NotForUs);
        }
        if h.address.source() != ue(0x11) {
            return Err(Verdict::UnknownSender);
        }
        let &(_, suite, phase) = LINKS.iter().find(|l| l.0 == h.key_id).ok_or(Verdict::UnknownKey)?;
        if phase == LinkPhase::Pending && h.lcid.is_user() {
            return Err(Verdict::Phase);
        }
        let key = kd_sess(h.key_id);
        self.check_and_open(h, suite, ModelKey::KdSess(&key), 1, frame)
    }

    fn open_group(&mut self, h: &pdu::Header, frame: &[u8]) -> Result<Vec<u8>, Verdict> {
        if h.address.destination() != Destination::Group(group(GROUP)) {
            return Err(Verdict::NotForUs);
        }
        let &(id, suite, only) = PGKS.iter().find(|p| p.0 == h.index).ok_or(Verdict::UnknownKey)?;
        if only.is_some_and(|s| ue(s) != h.address.source()) {
            return Err(Verdict::SenderNotPermitted);
        }
        if let Some(s) = self.senders.get(&(h.address, id)) {
            let known = s.kept.contains(&h.key_id);
            if !known && h.key_id < s.full_since {
                return Err(Verdict::TooOldKey);
            }
            if !known && h.key_id > s.newest.saturating_add(1024) {
                return Err(Verdict::PtkTooFar);
            }
        }
        let key = pgk(id);
        let sdu = self.check_and_open(h, suite, ModelKey::Pgk(&key), 0, frame)?;
        let s = self.senders.entry((h.address, id)).or_default();
        s.newest = s.newest.max(h.key_id);
        s.kept.insert(h.key_id);
        if s.kept.len() > KEPT {
            let evicted = s.kept.pop_first().unwrap();
            self.seen.remove(&(h.address, h.index, evicted));
            s.full_since = *s.kept.first().unwrap();
        }
        Ok(sdu)
    }

    fn check_and_open(
        &mut self,
        h: &pdu::Header,
        suite: Suite,
        key: ModelKey<'_>,
        direction: u8,
        frame: &[u8],
    ) -> Result<Vec<u8>, Verdict> {
        if (h.end as usize) < 21 + h.tag_len as usize + suite.mac_len() {
            return Err(Verdict::Short);
        }
        let place = (h.address, h.index, h.key_id);
        if let Some(seen) = self.seen.get(&place) {
            let next = seen.last().map_or(0, |&s| s as u32 + 1);
            if (h.sn as u32) + WINDOW < next {
                return Err(Verdict::TooOld);
            }
            if seen.contains(&h.sn) {
                return Err(Verdict::Replayed);
            }
        }
        let model = ModelFrame {
            address: h.address,
            key,
            suite,
            lcid: h.lcid,
            sdu_type: h.sdu_type,
            index: h.index,
            key_id: h.key_id,
            sn: h.sn,
            direction,
        };
        let sdu = model.open(frame).ok_or(Verdict::Forged)?;
        self.seen.entry(place).or_default().insert(h.sn);
        Ok(sdu)
    }
}

fn engine() -> Engine {
    let mut table = KeyTable::new();
    table.apply(Command::AddLocal(ue(US))).unwrap();
    for (id, suite, only) in PGKS {
        let key = GroupKey {
            local: ue(US),
            group: group(GROUP),
            pgk_id: PgkId(id),
            pgk: pgk(id),
            suite,
            senders: only.map_or(PermittedSender::Any, |s| PermittedSender::Only(ue(s))),
            not_before: 0,
            not_after: 100,
            grant: None,
            floors: vec![],
        };
        table.apply(Command::InstallGroup(key)).unwrap();
    }
    for (id, suite, phase) in LINKS {
        let id = KdSessId::new(id).unwrap();
        let key = LinkKey {
            local: ue(US),
            peer: ue(0x11),
            id,
            kd_sess: kd_sess(id.get()),
            suite,
            role: LinkRole::Ue1,
        };
        table.apply(Command::InstallLink(key, phase)).unwrap();
    }
    table.publish();
    let receive = ReceiveLimits {
        window: WINDOW,
        kept_ptks: KEPT,
        per_sender: Budget::UNLIMITED,
        per_worker: Budget::UNLIMITED,
        monitor: false,
    };
    Engine::new(table.shared(), EngineConfig { receive, ..Default::default() })
}

/// A frame that somebody sends, honest or not.
#[derive(Clone, Debug)]
struct Sent {
    source: u32,
    destination: u32,
    to_group: bool,
    key: u8,
    key_id: u16,
    sn: u16,
    lcid: u8,
    len: usize,
    /// Which octet to spoil, and how.
    spoil: Option<(usize, u8)>,
    tagged: bool,
}

fn frame_of(s: &Sent) -> Vec<u8> {
    let lcid = Lcid::new(s.lcid).unwrap();
    let sdu_type = if lcid.is_user() { SduType::NonIp } else { SduType::Pc5Signalling };
    let sdu: Vec<u8> = (0..s.len).map(|i| (i * 7 + s.sn as usize) as u8).collect();
    let source: Layer2Id = ue(s.source);
    let mut frame = if lcid == Lcid::CLEAR {
        let address = match s.to_group {
            true => Address::group(group(GROUP), source),
            false => Address::link(ue(s.destination), source),
        };
        let mut f = address.ethernet_header().to_vec();
        f.extend([28, pdu::short_length(sdu.len()), 0x40, 0, 0, 0, 0]);
        f.extend(&sdu);
        f.resize(f.len().max(60), 0);
        f
    } else if s.to_group {
        let suite = PGKS.iter().find(|p| p.0 == s.key).map_or(Suite::Aes128Gcm, |p| p.1);
        let key = pgk(s.key);
        let model = ModelFrame {
            address: Address::group(group(GROUP), source),
            key: ModelKey::Pgk(&key),
            suite,
            lcid,
            sdu_type,
            index: s.key,
            key_id: s.key_id,
            sn: s.sn,
            direction: 0,
        };
        model.seal(&sdu)
    } else {
        let (id, suite, _) = LINKS[s.key as usize % 2];
        let key = kd_sess(id);
        let model = ModelFrame {
            address: Address::link(ue(s.destination), source),
            key: ModelKey::KdSess(&key),
            suite,
            lcid,
            sdu_type,
            index: 0,
            key_id: id,
            sn: s.sn,
            direction: 1,
        };
        model.seal(&sdu)
    };
    if s.tagged {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    }
    if let Some((at, bits)) = s.spoil {
        let at = at % frame.len();
        frame[at] ^= bits;
    }
    frame
}

fn sent() -> impl Strategy<Value = Sent> {
    let ptk = prop_oneof![1u16..8, 1u16..40, 1000u16..1100, 1u16..3000, any::<u16>().prop_map(|n| n.max(1))];
    let sn = prop_oneof![4 => 0u16..100, 2 => 32_760u16..32_780, 1 => any::<u16>()];
    (
        prop_oneof![6 => Just(0x11u32), 3 => Just(0x12), 1 => Just(US)],
        prop_oneof![9 => Just(US), 1 => Just(0xbb)],
        any::<bool>(),
        prop_oneof![4 => Just(1u8), 2 => Just(2), 2 => Just(3), 1 => Just(4)],
        ptk,
        sn,
        prop_oneof![8 => Just(1u8), 1 => Just(30), 1 => Just(28), 1 => Just(10)],
        prop_oneof![0usize..5, 20usize..60, Just(300)],
        prop_oneof![4 => Just(None), 1 => (any::<usize>(), 1u8..).prop_map(Some)],
        prop_oneof![5 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(source, destination, to_group, key, key_id, sn, lcid, len, spoil, tagged)| Sent {
            source,
            destination,
            to_group,
            key,
            key_id,
            sn,
            lcid,
            len,
            spoil,
            tagged,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn receiving_equals_the_slow_model(
        frames in proptest::collection::vec((sent(), 0usize..40), 1..120),
        sizes in proptest::collection::vec(1usize..33, 1..8),
    ) {
        let mut on_air: Vec<Vec<u8>> = Vec::new();
        for (s, again) in &frames {
            // Some frames are copies of earlier ones.
            match on_air.len() {
                n if n > 3 && *again < 8 => on_air.push(on_air[n - 1 - again % n.min(8)].clone()),
                _ => on_air.push(frame_of(s)),
            }
        }
        let mut slow = SlowReceiver::default();
        let expected: Vec<_> = on_air.iter().map(|f| slow.open(f)).collect();
        let mut engine = engine();
        let mut got = Vec::new();
        let mut rest = &on_air[..];
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            let mut batch = Batch::new(32);
            for f in now {
                batch.push_frame(f, Meta::default()).unwrap();
            }
            engine.open(&mut batch, Now::default()).unwrap();
            // PC5-S is told.
            let mut told = engine.take_events().filter_map(|e| match e {
                Event::Signalling(s) => Some(s.sdu.to_vec()),
                _ => None,
            });
            for (i, s) in batch.slots().iter().enumerate() {
                got.push(match s.verdict {
                    Verdict::Accepted if s.lcid.is_user() => Ok(batch.data(i).to_vec()),
                    Verdict::Accepted => Ok(told.next().unwrap()),
                    dropped => Err(dropped),
                });
            }
            prop_assert!(told.next().is_none());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        for (i, (e, g)) in expected.iter().zip(&got).enumerate() {
            // Without their padding: a spoiled SL of a clear frame decides what is data in both.
            prop_assert_eq!(e, g, "frame {} {:?}", i, frames[i].0);
        }
        prop_assert_eq!(engine.opened().total(), on_air.len() as u64);
    }

    #[test]
    fn sending_equals_the_slow_model(lens in proptest::collection::vec(0usize..1500, 1..60), size in 1usize..40) {
        let mut table = KeyTable::new();
        let id = KdSessId::new(0x0101).unwrap();
        let key = LinkKey {
            local: ue(1), peer: ue(2), id, kd_sess: kd_sess(0x0101), suite: Suite::Aes256Gcm, role: LinkRole::Ue2,
        };
        table.apply(Command::InstallLink(key, LinkPhase::Active)).unwrap();
        table.publish();
        let mut engine = Engine::new(table.shared(), EngineConfig::default());
        let key = kd_sess(0x0101);
        let mut sn = 0;
        for chunk in lens.chunks(size) {
            let mut batch = Batch::new(40);
            for &len in chunk {
                let sdu = vec![len as u8; len];
                batch.push_sdu(Address::link(ue(2), ue(1)), Lcid::USER, SduType::NonIp, &sdu, Meta::default()).unwrap();
            }
            engine.protect(&mut batch, Now::default()).unwrap();
            for (i, &len) in chunk.iter().enumerate() {
                let model = ModelFrame {
                    address: Address::link(ue(2), ue(1)),
                    key: ModelKey::KdSess(&key),
                    suite: Suite::Aes256Gcm,
                    lcid: Lcid::USER,
                    sdu_type: SduType::NonIp,
                    index: 0,
                    key_id: 0x0101,
                    sn,
                    direction: 1,
                };
                prop_assert_eq!(batch.frame(i), &model.seal(&vec![len as u8; len])[..]);
                sn += 1;
            }
        }
    }
}
