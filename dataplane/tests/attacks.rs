//! What an attacker, or exhaustion, gets from the engine.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{KdSessId, Lcid, LinkRole, PgkId, PtkId, SduType};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keys::table::{KeyError, KeyTable};
use pc5_dataplane::keys::{Command, Event, Floor, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{ModelFrame, ModelKey, group, ue};
use pc5_dataplane::verdict::Verdict;

const SUITE: Suite = Suite::Aes128Gcm;

fn now(ms: u64) -> Now {
    Now { unix_seconds: 50, monotonic_ns: ms * 1_000_000 }
}

fn group_key(local: u32, grant: Option<(u16, u16)>) -> GroupKey {
    GroupKey {
        local: ue(local),
        group: group(9),
        pgk_id: PgkId(1),
        pgk: Pgk::new([7; 32]),
        suite: SUITE,
        senders: PermittedSender::Any,
        not_before: 0,
        not_after: 100,
        grant: grant.map(|(a, b)| PtkId::new(a).unwrap()..=PtkId::new(b).unwrap()),
        floors: vec![],
    }
}

fn link_key(local: u32, peer: u32, role: LinkRole) -> LinkKey {
    LinkKey {
        local: ue(local),
        peer: ue(peer),
        id: KdSessId::new(0x0101).unwrap(),
        kd_sess: KdSess::new([3; 32]),
        suite: SUITE,
        role,
    }
}

fn engine(commands: Vec<Command>) -> (KeyTable, Engine) {
    let mut table = KeyTable::new();
    for c in commands {
        table.apply(c).unwrap();
    }
    table.publish();
    let engine = Engine::new(table.shared(), EngineConfig::default());
    (table, engine)
}

fn receiver() -> (KeyTable, Engine) {
    engine(vec![Command::AddLocal(ue(2)), Command::InstallGroup(group_key(2, None))])
}

fn frame(source: u32, ptk: u16, sn: u16) -> Vec<u8> {
    frame_under(1, source, ptk, sn)
}

/// Under the PGK with this id, which is made from it.
fn frame_under(pgk_id: u8, source: u32, ptk: u16, sn: u16) -> Vec<u8> {
    let key = Pgk::new([6 + pgk_id; 32]);
    let model = ModelFrame {
        address: Address::group(group(9), ue(source)),
        key: ModelKey::Pgk(&key),
        suite: SUITE,
        lcid: Lcid::USER,
        sdu_type: SduType::NonIp,
        index: pgk_id,
        key_id: ptk,
        sn,
        direction: 0,
    };
    model.seal(b"somebody speaks")
}

fn open(engine: &mut Engine, frames: &[Vec<u8>], at: Now) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for chunk in frames.chunks(64) {
        let mut batch = Batch::new(64);
        for f in chunk {
            batch.push_frame(f, Meta::default()).unwrap();
        }
        engine.open(&mut batch, at).unwrap();
        verdicts.extend(batch.slots().iter().map(|s| s.verdict));
    }
    verdicts
}

#[test]
fn two_equal_counts_in_one_batch_are_one_frame() {
    let (_, mut e) = receiver();
    let f = frame(1, 1, 5);
    let mut forged = f.clone();
    *forged.iter_mut().rfind(|b| **b != 0).unwrap() ^= 1;
    let verdicts = open(&mut e, &[forged.clone(), f.clone(), f.clone(), forged], now(0));
    assert_eq!(verdicts, [Verdict::Forged, Verdict::Accepted, Verdict::Replayed, Verdict::Replayed]);
}

#[test]
fn a_forged_tag_moves_nothing() {
    let (_, mut e) = receiver();
    let mut far = frame(1, 1, 60_000);
    far[25] ^= 0x10;
    assert_eq!(open(&mut e, &[far], now(0)), [Verdict::Forged]);
    assert_eq!(e.receiving_contexts(), 0, "nothing entered the table");
    assert_eq!(e.take_events().count(), 0);
    assert_eq!(open(&mut e, &[frame(1, 1, 0)], now(0)), [Verdict::Accepted]);
}

/// The attacker sends as the known sender (its id is no secret) and as nobody, thousands of invented identities at a time.
#[test]
fn a_flood_of_invented_identities_delays_nobody_who_is_known() {
    let (_, mut e) = receiver();
    assert_eq!(open(&mut e, &[frame(1, 1, 0)], now(0)), [Verdict::Accepted]);
    assert_eq!(
        open(&mut e, &[frame(1, 1, 40_000)], now(0)),
        [Verdict::Accepted],
        "half of the range: PTK 2 is derived"
    );
    let mut sn = 40_001;
    let mut dropped_for_budget = 0;
    for ms in 0..100 {
        let mut frames = Vec::new();
        for i in 0..60u16 {
            let mut invented =
                frame(if i % 2 == 0 { 1 } else { 0x5000 + i as u32 }, 3 + (ms as u16 * 60 + i) % 900, 0);
            invented[30] ^= 0xff;
            frames.push(invented);
        }
        for _ in 0..4 {
            frames.insert(frames.len() / 2, frame(1, 1, sn));
            sn += 1;
        }
        let verdicts = open(&mut e, &frames, now(ms));
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Accepted).count(), 4, "at {ms} ms");
        dropped_for_budget += verdicts.iter().filter(|v| **v == Verdict::PtkBudget).count();
    }
    assert!(dropped_for_budget > 2_000, "{dropped_for_budget}");
    assert_eq!(e.receiving_contexts(), 3, "the newest, the next, the first of the next grant");
    assert_eq!(
        open(&mut e, &[frame(1, 2, 0)], now(100)),
        [Verdict::Accepted],
        "the next PTK needs no budget"
    );
}

/// Sixty frames a millisecond, every tag wrong: as senders that are known and as others, under the likeliest identities and under
/// any. Far above every budget.
fn flood(pgk_id: u8, known: u32, ms: u64) -> Vec<Vec<u8>> {
    let invented = |i: u64| {
        let n = ms * 60 + i;
        let source = if i.is_multiple_of(2) { 1 + (n / 2) as u32 % known } else { 0x5000 + n as u32 };
        let ptk = [1, 2, 513, 3 + (n % 1_000) as u16][n as usize / 2 % 4];
        let mut frame = frame_under(pgk_id, source, ptk, n as u16);
        frame[30] ^= 0xff;
        frame
    };
    (0..60).map(invented).collect()
}

fn group_key_of(pgk_id: u8) -> GroupKey {
    GroupKey { pgk_id: PgkId(pgk_id), pgk: Pgk::new([6 + pgk_id; 32]), ..group_key(2, None) }
}

fn void(pgk_id: u8) -> Command {
    Command::VoidGroup { local: ue(2), group: group(9), pgk_id: PgkId(pgk_id), senders: PermittedSender::Any }
}

/// The flood is under way when the new PGK comes; each sender's very first frame under it is accepted, when the one before is still
/// there and when it is gone.
#[test]
fn a_flood_delays_no_known_sender_under_a_new_pgk() {
    const KNOWN: u32 = 40;
    let (mut table, mut e) = receiver();
    let known: Vec<u32> = (0x100..0x100 + KNOWN).collect();
    let first =
        |pgk_id: u8| -> Vec<Vec<u8>> { known.iter().map(|&s| frame_under(pgk_id, s, 1, 0)).collect() };
    assert!(open(&mut e, &first(1), now(0)).iter().all(|v| *v == Verdict::Accepted));
    let mut ms = 0;
    for pgk_id in 2..=4 {
        if pgk_id > 2 {
            table.apply(void(pgk_id - 1)).unwrap();
            table.publish();
            open(&mut e, &[], now(ms));
        }
        table.apply(Command::InstallGroup(group_key_of(pgk_id))).unwrap();
        table.publish();
        let mut budget = 0;
        for genuine in first(pgk_id) {
            ms += 1;
            let mut frames = flood(pgk_id, KNOWN, ms);
            for f in &mut frames[..30] {
                f[10] = 1; // as the known ones
            }
            frames.push(genuine);
            let verdicts = open(&mut e, &frames, now(ms));
            assert_eq!(*verdicts.last().unwrap(), Verdict::Accepted, "PGK {pgk_id}, {ms} ms");
            budget += verdicts.iter().filter(|v| **v == Verdict::PtkBudget).count();
        }
        assert!(budget > 500, "there was no flood: {budget}");
    }
    // Four PTKs of each are derived ahead at most, whatever is invented.
    assert!(e.receiving_contexts() <= 2 * 5 * KNOWN as usize, "{}", e.receiving_contexts());
}

/// A sender that starts anew comes back with its next grant; and one that nobody could foresee is let in as long as nobody
/// pretends to be it.
#[test]
fn a_flood_delays_no_known_sender_that_starts_anew() {
    let (_, mut e) = receiver();
    assert_eq!(open(&mut e, &[frame(1, 3, 9), frame(0x10, 3, 9)], now(0)), [Verdict::Accepted; 2]);
    for ms in 1..=100 {
        let budget =
            open(&mut e, &flood(1, 1, ms), now(ms)).iter().filter(|v| **v == Verdict::PtkBudget).count();
        assert!(ms < 20 || budget > 10, "there was no flood: {budget}");
    }
    for (i, ptk) in [513, 514, 515, 1025, 1537].into_iter().enumerate() {
        let mut frames = flood(1, 1, 200 + i as u64);
        frames.push(frame(1, ptk, 0));
        let verdicts = open(&mut e, &frames, now(101));
        assert_eq!(*verdicts.last().unwrap(), Verdict::Accepted, "PTK {ptk}");
    }
    for ptk in [77, 300, 777] {
        let mut frames = flood(1, 1, 300);
        frames.push(frame(0x10, ptk, 0));
        assert_eq!(*open(&mut e, &frames, now(101)).last().unwrap(), Verdict::Accepted, "PTK {ptk}");
    }
}

#[test]
fn floors_close_recorded_frames_under_a_ptk_derived_ahead() {
    let (mut table, mut e) = receiver();
    assert_eq!(open(&mut e, &[frame(1, 10, 40_000)], now(0)), [Verdict::Accepted]);
    assert_eq!(e.receiving_contexts(), 2, "PTK 11 is derived");
    let mut tell = |ptk: u16, next_sn: u32, e: &mut Engine| {
        let floors = vec![Floor { sender: ue(1), ptk_id: PtkId::new(ptk).unwrap(), next_sn }];
        table.apply(Command::InstallGroup(GroupKey { floors, ..group_key(2, None) })).unwrap();
        table.publish();
        open(e, &[], now(0));
    };
    tell(11, 10, &mut e);
    assert_eq!(open(&mut e, &[frame(1, 11, 9)], now(0)), [Verdict::TooOld]);
    tell(11, 20, &mut e);
    assert_eq!(open(&mut e, &[frame(1, 11, 19)], now(0)), [Verdict::TooOld]);
    tell(12, 5, &mut e);
    let verdicts =
        open(&mut e, &[frame(1, 11, 20), frame(1, 12, 4), frame(1, 12, 5), frame(1, 13, 0)], now(0));
    assert_eq!(verdicts, [Verdict::TooOldKey, Verdict::TooOld, Verdict::Accepted, Verdict::Accepted]);
}

#[test]
fn the_identity_jumps_a_bounded_way_and_never_back() {
    let (mut table, mut e) = receiver();
    let verdicts =
        open(&mut e, &[frame(1, 10, 0), frame(1, 1035, 0), frame(1, 1034, 0), frame(1, 2058, 3)], now(0));
    assert_eq!(verdicts, [Verdict::Accepted, Verdict::PtkTooFar, Verdict::Accepted, Verdict::Accepted]);
    let wants = |ev: &Event| matches!(ev, Event::FloorsWanted { .. });
    assert_eq!(e.take_events().filter(wants).count(), 1);

    // Who was absent longer than that is let in again by the granter's floors.
    assert_eq!(open(&mut e, &[frame(1, 9000, 0)], now(0)), [Verdict::PtkTooFar]);
    let floor = Floor { sender: ue(1), ptk_id: PtkId::new(8999).unwrap(), next_sn: 100 };
    table
        .apply(Command::Floors {
            local: ue(2),
            group: group(9),
            pgk_id: PgkId(1),
            senders: PermittedSender::Any,
            floors: vec![floor],
        })
        .unwrap();
    table.publish();
    assert_eq!(open(&mut e, &[frame(1, 9000, 0)], now(0)), [Verdict::Accepted]);

    // Four contexts are kept: what is older than all of them is refused.
    let verdicts = open(&mut e, &[frame(1, 9001, 0), frame(1, 9002, 0), frame(1, 9, 0)], now(0));
    assert_eq!(verdicts, [Verdict::Accepted, Verdict::Accepted, Verdict::TooOldKey]);
}

#[test]
fn floors_close_recorded_frames_to_a_newcomer() {
    let mut key = group_key(2, None);
    key.floors = vec![Floor { sender: ue(1), ptk_id: PtkId::new(5).unwrap(), next_sn: 10 }];
    let (_, mut e) = engine(vec![Command::AddLocal(ue(2)), Command::InstallGroup(key)]);
    let verdicts = open(&mut e, &[frame(1, 4, 0), frame(1, 5, 9), frame(1, 5, 10)], now(0));
    assert_eq!(verdicts, [Verdict::TooOldKey, Verdict::TooOld, Verdict::Accepted]);
}

#[test]
fn floors_close_recorded_frames_of_a_known_sender() {
    let (mut table, mut e) = receiver();
    assert_eq!(open(&mut e, &[frame(1, 10, 0)], now(0)), [Verdict::Accepted]);
    // The granter says that the sender is far beyond; what lies between was lost here and can only be a recording.
    let mut key = group_key(2, None);
    key.floors = vec![Floor { sender: ue(1), ptk_id: PtkId::new(900).unwrap(), next_sn: 10 }];
    table.apply(Command::InstallGroup(key)).unwrap();
    table.publish();
    let recorded = [frame(1, 11, 0), frame(1, 500, 0), frame(1, 899, 0), frame(1, 900, 9)];
    let verdicts = open(&mut e, &recorded, now(0));
    assert_eq!(verdicts, [Verdict::TooOldKey, Verdict::TooOldKey, Verdict::TooOldKey, Verdict::TooOld]);
    // What is under way under the key verified before still comes, and so does what is new.
    let verdicts = open(&mut e, &[frame(1, 10, 1), frame(1, 900, 10), frame(1, 901, 0)], now(0));
    assert_eq!(verdicts, [Verdict::Accepted; 3]);
}

#[test]
fn own_frames_and_foreign_ones_are_named() {
    let (_, mut e) = receiver();
    let mut other_group = frame(1, 1, 0);
    other_group[5] ^= 1;
    let mut other_index = frame(1, 1, 0);
    other_index[16] ^= 2;
    let verdicts = open(&mut e, &[frame(2, 1, 0), other_group, other_index], now(0));
    assert_eq!(verdicts, [Verdict::OwnSource, Verdict::NotForUs, Verdict::UnknownKey]);
    let late = Now { unix_seconds: 101, monotonic_ns: 0 };
    assert_eq!(open(&mut e, &[frame(1, 1, 1)], late), [Verdict::KeyExpired]);
}

fn send(engine: &mut Engine, address: Address, n: usize) -> Vec<(Verdict, u16, u16, Vec<u8>)> {
    let mut out = Vec::new();
    let mut left = n;
    while left > 0 {
        let mut batch = Batch::new(256);
        for _ in 0..left.min(256) {
            batch.push_sdu(address, Lcid::USER, SduType::NonIp, b"again", Meta::default()).unwrap();
        }
        engine.protect(&mut batch, now(0)).unwrap();
        out.extend((0..batch.len()).map(|i| {
            let s = batch.slots()[i];
            (
                s.verdict,
                s.under(),
                s.sn(),
                if s.verdict == Verdict::Accepted { batch.frame(i).to_vec() } else { vec![] },
            )
        }));
        left -= left.min(256);
    }
    out
}

#[test]
fn a_link_never_sends_beyond_its_range() {
    let install = Command::InstallLink(link_key(1, 2, LinkRole::Ue1), LinkPhase::Active);
    let (_, mut e) = engine(vec![Command::AddLocal(ue(1)), install]);
    let address = Address::link(ue(2), ue(1));
    let sent = send(&mut e, address, 66_000);
    let accepted: Vec<u16> = sent.iter().filter(|s| s.0 == Verdict::Accepted).map(|s| s.2).collect();
    assert!(accepted.iter().copied().eq(0..65_280), "each SN once, the last 256 kept for PC5-S");
    assert!(sent[65_280..].iter().all(|s| s.0 == Verdict::Exhausted));
    let asked = |ev: &Event| matches!(ev, Event::LinkHalfUsed { .. });
    assert_eq!(e.take_events().filter(asked).count(), 1);

    // PC5-S has the rest, and then there is nothing left at all.
    let mut signalled = 0;
    for _ in 0..300 {
        let mut batch = Batch::new(1);
        batch.push_sdu(address, Lcid::SIGNALLING, SduType::Pc5Signalling, b"rekey", Meta::default()).unwrap();
        e.protect(&mut batch, now(0)).unwrap();
        signalled += usize::from(batch.slots()[0].verdict == Verdict::Accepted);
    }
    assert_eq!(signalled, 256);
}

#[test]
fn a_group_sender_moves_on_by_itself_and_stops_at_its_grant() {
    let (mut table, mut e) =
        engine(vec![Command::AddLocal(ue(1)), Command::InstallGroup(group_key(1, Some((5, 7))))]);
    let (_, mut peer) = receiver();
    let address = Address::group(group(9), ue(1));
    let sent = send(&mut e, address, 3 * 65_536 + 10);
    for (i, (verdict, ptk, sn, _)) in sent.iter().enumerate() {
        if i < 3 * 65_536 {
            assert_eq!((*verdict, *ptk, *sn), (Verdict::Accepted, 5 + (i >> 16) as u16, i as u16));
        } else {
            assert_eq!(*verdict, Verdict::NoGrant);
        }
    }
    let asks = |ev: &Event| matches!(ev, Event::GrantHalfUsed { .. });
    assert_eq!(e.take_events().filter(asks).count(), 1);
    let frames: Vec<Vec<u8>> = sent.into_iter().take(3 * 65_536).map(|s| s.3).collect();
    assert!(open(&mut peer, &frames, now(0)).iter().all(|v| *v == Verdict::Accepted));

    // A further grant continues, an earlier one is refused.
    let grant = |a: u16, b: u16| Command::Grant {
        local: ue(1),
        group: group(9),
        pgk_id: PgkId(1),
        senders: PermittedSender::Any,
        range: PtkId::new(a).unwrap()..=PtkId::new(b).unwrap(),
    };
    assert_eq!(table.apply(grant(6, 9)), Err(KeyError::Grant { first: 6, last: 9 }));
    table.apply(grant(20, 21)).unwrap();
    table.publish();
    let (verdict, ptk, sn, _) = send(&mut e, address, 1).remove(0);
    assert_eq!((verdict, ptk, sn), (Verdict::Accepted, 20, 0));
}

#[test]
fn without_a_grant_nothing_is_sent() {
    let (_, mut e) = engine(vec![Command::AddLocal(ue(1)), Command::InstallGroup(group_key(1, None))]);
    assert_eq!(send(&mut e, Address::group(group(9), ue(1)), 1)[0].0, Verdict::NoGrant);
    assert_eq!(send(&mut e, Address::group(group(8), ue(1)), 1)[0].0, Verdict::NoKey);
    assert_eq!(send(&mut e, Address::link(ue(2), ue(1)), 1)[0].0, Verdict::NoKey);
}

#[test]
fn a_pending_link_carries_signalling_only() {
    let a = Command::InstallLink(link_key(1, 2, LinkRole::Ue1), LinkPhase::Pending);
    let b = Command::InstallLink(link_key(2, 1, LinkRole::Ue2), LinkPhase::Pending);
    let (_, mut one) = engine(vec![Command::AddLocal(ue(1)), a]);
    let (mut table, mut two) = engine(vec![Command::AddLocal(ue(2)), b]);
    let address = Address::link(ue(2), ue(1));
    assert_eq!(send(&mut one, address, 1)[0].0, Verdict::NoKey);
    let mut batch = Batch::new(1);
    batch.push_sdu(address, Lcid::SIGNALLING, SduType::Pc5Signalling, b"complete", Meta::default()).unwrap();
    one.protect(&mut batch, now(0)).unwrap();
    let complete = batch.frame(0).to_vec();
    batch.clear();
    batch.push_frame(&complete, Meta::default()).unwrap();
    two.open(&mut batch, now(0)).unwrap();
    assert_eq!(batch.slots()[0].verdict, Verdict::Accepted);
    assert_eq!(batch.data(0), [0; 8], "no trace of a message that may carry keys");
    let heard: Vec<Event> = two.take_events().collect();
    assert!(matches!(heard[0], Event::LinkFirstVerified { .. }));
    let Event::Signalling(s) = &heard[1] else { panic!("{heard:?}") };
    assert_eq!((&s.sdu[..], s.under), (&b"complete"[..], KdSessId::new(0x0101)));
    assert!(!format!("{s:?}").contains("complete"));

    // User data of a peer that runs ahead is dropped by name until the link is confirmed.
    let key = KdSess::new([3; 32]);
    let early = ModelFrame {
        address,
        key: ModelKey::KdSess(&key),
        suite: SUITE,
        lcid: Lcid::USER,
        sdu_type: SduType::NonIp,
        index: 0,
        key_id: 0x0101,
        sn: 7,
        direction: 0,
    }
    .seal(b"early");
    assert_eq!(open(&mut two, std::slice::from_ref(&early), now(0)), [Verdict::Phase]);
    let id = KdSessId::new(0x0101).unwrap();
    table.apply(Command::SetLinkPhase { local: ue(2), peer: ue(1), id, phase: LinkPhase::Active }).unwrap();
    table.publish();
    assert_eq!(open(&mut two, &[early], now(0)), [Verdict::Accepted]);
}

#[test]
fn frames_are_not_taken_for_those_of_the_other_direction() {
    let a = Command::InstallLink(link_key(1, 2, LinkRole::Ue1), LinkPhase::Active);
    let (_, mut one) = engine(vec![Command::AddLocal(ue(1)), a]);
    let mut reflected = send(&mut one, Address::link(ue(2), ue(1)), 1).remove(0).3;
    // The attacker swaps the addresses and sends it back.
    for i in 0..6 {
        reflected.swap(i, i + 6);
    }
    assert_eq!(open(&mut one, &[reflected], now(0)), [Verdict::Forged]);
}

#[test]
fn voided_keys_open_and_send_nothing() {
    let (mut table, mut e) =
        engine(vec![Command::AddLocal(ue(2)), Command::InstallGroup(group_key(2, Some((1, 9))))]);
    assert_eq!(open(&mut e, &[frame(1, 1, 0)], now(0)), [Verdict::Accepted]);
    assert_eq!(send(&mut e, Address::group(group(9), ue(2)), 1)[0].0, Verdict::Accepted);
    table
        .apply(Command::RetireGroup {
            local: ue(2),
            group: group(9),
            pgk_id: PgkId(1),
            senders: PermittedSender::Any,
        })
        .unwrap();
    table.publish();
    assert_eq!(send(&mut e, Address::group(group(9), ue(2)), 1)[0].0, Verdict::NoKey);
    assert_eq!(open(&mut e, &[frame(1, 1, 1)], now(0)), [Verdict::Accepted], "stragglers of a retired one");
    table
        .apply(Command::VoidGroup {
            local: ue(2),
            group: group(9),
            pgk_id: PgkId(1),
            senders: PermittedSender::Any,
        })
        .unwrap();
    table.publish();
    assert_eq!(open(&mut e, &[frame(1, 1, 2)], now(0)), [Verdict::NotForUs]);
    assert_eq!(e.receiving_contexts(), 0);
}

/// Two talkers of a group without owner, or two owners, may pick the same PGK id.
#[test]
fn one_id_of_two_senders_is_two_keys() {
    let of = |sender: u32, not_after: u64| GroupKey {
        senders: PermittedSender::Only(ue(sender)),
        pgk: Pgk::new([sender as u8; 32]),
        not_after,
        ..group_key(2, None)
    };
    let made = |sender: u32, fill: u8, sn: u16| {
        let pgk = Pgk::new([fill; 32]);
        let model = ModelFrame {
            address: Address::group(group(9), ue(sender)),
            key: ModelKey::Pgk(&pgk),
            suite: SUITE,
            lcid: Lcid::USER,
            sdu_type: SduType::NonIp,
            index: 1,
            key_id: 1,
            sn,
            direction: 0,
        };
        model.seal(b"whose word is it")
    };
    let install = |sender, not_after| Command::InstallGroup(of(sender, not_after));
    let (mut table, mut e) = engine(vec![Command::AddLocal(ue(2)), install(1, 100), install(3, 60)]);
    assert_eq!(table.current().groups().count(), 2);
    let frames = [made(1, 1, 0), made(3, 3, 0), made(1, 3, 1), made(3, 1, 1)];
    let (yes, no) = (Verdict::Accepted, Verdict::Forged);
    assert_eq!(open(&mut e, &frames, now(0)), [yes, yes, no, no], "each under its own key only");

    // One erased, the other keeps its key and what it has seen.
    let (local, group, pgk_id) = (ue(2), group(9), PgkId(1));
    let void =
        |sender| Command::VoidGroup { local, group, pgk_id, senders: PermittedSender::Only(ue(sender)) };
    table.apply(void(1)).unwrap();
    table.publish();
    let frames = [made(1, 1, 2), made(3, 3, 0), made(3, 3, 2)];
    let verdicts = open(&mut e, &frames, now(0));
    assert_eq!(verdicts, [Verdict::SenderNotPermitted, Verdict::Replayed, yes]);
    assert!(matches!(table.apply(void(1)), Err(KeyError::Unknown(_))));

    // One whose time is over leaves the other what it has seen as well.
    table.apply(install(1, 100)).unwrap();
    table.publish();
    assert_eq!(open(&mut e, &[made(1, 1, 0)], now(0)), [yes]);
    let later = Now { unix_seconds: 70, monotonic_ns: 0 };
    let verdicts = open(&mut e, &[made(3, 3, 3), made(1, 1, 0), made(1, 1, 3)], later);
    assert_eq!(verdicts, [Verdict::KeyExpired, Verdict::Replayed, yes]);
}

#[test]
fn the_key_table_refuses_what_would_be_ambiguous() {
    let mut table = KeyTable::new();
    table.apply(Command::InstallGroup(group_key(2, None))).unwrap();
    let mut same_index = group_key(2, None);
    same_index.pgk_id = PgkId(33);
    let refused = table.apply(Command::InstallGroup(same_index));
    assert_eq!(refused, Err(KeyError::IndexInUse { group: group(9), held: PgkId(1), new: PgkId(33) }));
    let mut other = group_key(2, None);
    other.pgk = Pgk::new([8; 32]);
    let refused = table.apply(Command::InstallGroup(other));
    assert_eq!(refused, Err(KeyError::OtherContent { group: group(9), pgk_id: PgkId(1) }));
    let mut bare = link_key(1, 2, LinkRole::Ue1);
    bare.suite = Suite::Eea2;
    let refused = table.apply(Command::InstallLink(bare, LinkPhase::Active));
    assert_eq!(refused, Err(KeyError::SuiteWithoutIntegrity(Suite::Eea2)));
    table.apply(Command::InstallLink(link_key(1, 2, LinkRole::Ue1), LinkPhase::Active)).unwrap();
    let again = table.apply(Command::InstallLink(link_key(1, 2, LinkRole::Ue1), LinkPhase::Active));
    assert!(matches!(again, Err(KeyError::IdInUse { .. })));
}

/// Ids come back with other keys (a restart): whoever reads along tries each line that fits, the tag decides.
#[test]
fn reading_along_tries_each_key_that_fits() {
    let mut table = KeyTable::for_reading_along();
    for fill in [7, 8, 9, 8] {
        let mut key = group_key(2, None);
        key.pgk = Pgk::new([fill; 32]);
        table.apply(Command::InstallGroup(key)).unwrap();
        let mut link = link_key(2, 1, LinkRole::Ue2);
        link.kd_sess = KdSess::new([fill; 32]);
        table.apply(Command::InstallLink(link, LinkPhase::Retiring)).unwrap();
    }
    table.publish();
    let receive = pc5_dataplane::ReceiveLimits { monitor: true, ..Default::default() };
    let mut e = Engine::new(table.shared(), EngineConfig { receive, ..Default::default() });
    let made = |fill: u8, sn: u16, to_group: bool| {
        let (pgk, kd_sess) = (Pgk::new([fill; 32]), KdSess::new([fill; 32]));
        let model = ModelFrame {
            address: if to_group { Address::group(group(9), ue(1)) } else { Address::link(ue(2), ue(1)) },
            key: if to_group { ModelKey::Pgk(&pgk) } else { ModelKey::KdSess(&kd_sess) },
            suite: SUITE,
            lcid: Lcid::USER,
            sdu_type: SduType::NonIp,
            index: u8::from(to_group),
            key_id: if to_group { 1 } else { 0x0101 },
            sn,
            direction: 0,
        };
        model.seal(b"whose key is it")
    };
    for to_group in [true, false] {
        let frames: Vec<Vec<u8>> = [(7, 0), (8, 0), (9, 0), (7, 1), (8, 0), (6, 3)]
            .map(|(fill, sn)| made(fill, sn, to_group))
            .into();
        let verdicts = open(&mut e, &frames, now(0));
        assert_eq!(verdicts[..4], [Verdict::Accepted; 4]);
        assert_ne!(verdicts[4], Verdict::Accepted, "a repeat under the second key");
        assert_ne!(verdicts[5], Verdict::Accepted, "a key that is not there");
    }
}
