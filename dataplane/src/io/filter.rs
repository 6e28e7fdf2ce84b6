//! Classic BPF: which frames a socket takes and which worker gets them. Run in the kernel, before a frame costs us anything.

use socket2::SockFilter;

use super::Traffic;
use crate::ids::Lcid;
use crate::share::{MIX, SHIFT, Share};

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// What the kernel is given.
pub(crate) fn program(instructions: &[Instruction]) -> Vec<SockFilter> {
    instructions.iter().map(|i| SockFilter::new(i.code, i.if_true, i.if_false, i.k)).collect()
}

/// For a packet socket: passes the frames that are `traffic` of this worker. Every frame of the EtherType passes exactly one
/// filter of a complete set (all shares of `Data`, one `Signalling`).
pub(crate) fn accept(traffic: Traffic, share: Share) -> Vec<Instruction> {
    let mut p = Vec::new();
    let signalling = traffic == Traffic::Signalling;
    // Too short for an LCID: the first data worker counts it.
    let short = if signalling || share.worker != 0 { NONE } else { WHOLE };
    p.push(op(code::LD_LEN, 0));
    p.push(jump(code::JGE, (LCID_AT + 1) as u32, 1, 0));
    p.push(op(code::RET_K, short));
    if traffic != Traffic::All {
        let (yes, no) = if signalling { (WHOLE, NONE) } else { (NONE, WHOLE) };
        is_signalling(&mut p, LCID_AT as u32);
        p.push(op(code::RET_K, yes));
        if no == NONE {
            p.push(op(code::RET_K, NONE));
            return p;
        }
    }
    if share.workers > 1 {
        load_flow(&mut p, 0);
        p.push(op(code::MOD, share.workers as u32));
        p.push(jump(code::JEQ, share.worker as u32, 1, 0));
        p.push(op(code::RET_K, NONE));
    }
    p.push(op(code::RET_K, WHOLE));
    p
}

/// For a fanout group: the kernel takes the result modulo the number of sockets.
pub(crate) fn spread_packets() -> Vec<Instruction> {
    let mut p = Vec::new();
    load_flow(&mut p, LINK_LAYER);
    p.push(op(code::RET_A, 0));
    p
}

/// For a fanout group where each worker has two sockets, worker by worker: the second one gets the frames of those in `busy`,
/// a bit each, and the first one of all others.
pub(crate) fn spread_pairs(workers: usize, busy: u64) -> Vec<Instruction> {
    if workers <= 1 {
        return vec![op(code::RET_K, (busy & 1) as u32)];
    }
    let mut p = Vec::new();
    load_flow(&mut p, LINK_LAYER);
    p.push(op(code::MOD, workers as u32));
    for worker in (0..64).filter(|worker| busy >> worker & 1 != 0) {
        p.push(jump(code::JEQ, worker, 0, 1));
        p.push(op(code::RET_K, 2 * worker + 1));
    }
    p.push(op(code::MUL, 2));
    p.push(op(code::RET_A, 0));
    p
}

/// Nothing, for a socket that is not in its place yet.
pub(crate) fn nothing() -> Vec<Instruction> {
    vec![op(code::RET_K, NONE)]
}

/// For sockets that share a UDP port: signalling to the first one, data to the `workers` behind it.
pub(crate) fn spread_datagrams(workers: usize) -> Vec<Instruction> {
    let mut p = Vec::new();
    p.push(op(code::LD_LEN, 0));
    p.push(jump(code::JGE, (LCID_AT + 1) as u32, 1, 0));
    p.push(op(code::RET_K, 1));
    is_signalling(&mut p, LCID_AT as u32);
    p.push(op(code::RET_K, 0));
    load_flow(&mut p, 0);
    p.push(op(code::MOD, workers.max(1) as u32));
    p.push(op(code::ADD, 1));
    p.push(op(code::RET_A, 0));
    p
}

/// Goes on with the next instruction for LCID 28 to 30, else with the one behind it.
fn is_signalling(p: &mut Vec<Instruction>, lcid_at: u32) {
    p.push(op(code::LD_BYTE, lcid_at));
    p.push(op(code::AND, 0x1f));
    p.push(jump(code::JGE, Lcid::CLEAR.get().into(), 0, 2));
    p.push(jump(code::JGT, Lcid::SIGNALLING.get().into(), 1, 0));
}

/// As [`flow`](crate::share::flow), from the addresses at `base`.
fn load_flow(p: &mut Vec<Instruction>, base: u32) {
    p.push(op(code::LD_WORD, base.wrapping_add(2)));
    p.push(op(code::TAX, 0));
    p.push(op(code::LD_WORD, base.wrapping_add(8)));
    p.push(op(code::XOR_X, 0));
    p.push(op(code::AND, 0xff_ffff));
    p.push(op(code::MUL, MIX));
    p.push(op(code::RSH, SHIFT));
}

const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, k }
}

const fn jump(code: u16, k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, k }
}

/// Accept the whole frame.
const WHOLE: u32 = u32::MAX;
/// Accept nothing of it.
const NONE: u32 = 0;
/// Offset of version and LCID.
const LCID_AT: usize = 14;
/// Offsets from here on count from the link-layer header, wherever the data start (`SKF_LL_OFF`).
const LINK_LAYER: u32 = -0x20_0000_i32 as u32;

mod code {
    pub(super) const LD_WORD: u16 = 0x20;
    pub(super) const LD_BYTE: u16 = 0x30;
    pub(super) const LD_LEN: u16 = 0x80;
    pub(super) const ADD: u16 = 0x04;
    pub(super) const AND: u16 = 0x54;
    pub(super) const MUL: u16 = 0x24;
    pub(super) const RSH: u16 = 0x74;
    pub(super) const MOD: u16 = 0x94;
    pub(super) const XOR_X: u16 = 0xac;
    pub(super) const TAX: u16 = 0x07;
    pub(super) const JEQ: u16 = 0x15;
    pub(super) const JGT: u16 = 0x25;
    pub(super) const JGE: u16 = 0x35;
    pub(super) const RET_K: u16 = 0x06;
    pub(super) const RET_A: u16 = 0x16;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, Layer2Id};
    use crate::pdu::Address;
    use crate::share::{flow, flow_of};

    /// What the kernel does with a program; a load outside the frame ends it with 0.
    fn run(p: &[Instruction], frame: &[u8]) -> u32 {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        loop {
            let i = p[at];
            at += 1;
            let offset = if i.k >= LINK_LAYER { i.k.wrapping_sub(LINK_LAYER) } else { i.k } as usize;
            match i.code {
                code::LD_WORD => match frame.get(offset..offset + 4) {
                    Some(w) => a = u32::from_be_bytes(w.try_into().unwrap()),
                    None => return 0,
                },
                code::LD_BYTE => match frame.get(offset) {
                    Some(&b) => a = b.into(),
                    None => return 0,
                },
                code::LD_LEN => a = frame.len() as u32,
                code::ADD => a = a.wrapping_add(i.k),
                code::AND => a &= i.k,
                code::MUL => a = a.wrapping_mul(i.k),
                code::RSH => a >>= i.k,
                code::MOD => a %= i.k,
                code::XOR_X => a ^= x,
                code::TAX => x = a,
                code::JEQ => at += if a == i.k { i.if_true } else { i.if_false } as usize,
                code::JGT => at += if a > i.k { i.if_true } else { i.if_false } as usize,
                code::JGE => at += if a >= i.k { i.if_true } else { i.if_false } as usize,
                code::RET_K => return i.k,
                code::RET_A => return a,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn frame(address: Address, octet_14: u8) -> Vec<u8> {
        let mut f = address.ethernet_header().to_vec();
        f.push(octet_14);
        f.resize(60, 0);
        f
    }

    fn addresses() -> impl Iterator<Item = Address> {
        (0..300u32).map(|i| {
            let source = Layer2Id::new(i * 7_919 % 0xff_ffff).unwrap();
            match i % 3 {
                0 => Address::group(GroupId::new(0xf0_0001 + i).unwrap(), source),
                _ => Address::link(Layer2Id::new(0xff_fffe - i).unwrap(), source),
            }
        })
    }

    #[test]
    fn every_frame_passes_exactly_one_filter_of_a_set() {
        for workers in [1, 2, 3, 8] {
            let data: Vec<_> =
                (0..workers).map(|worker| accept(Traffic::Data, Share { worker, workers })).collect();
            let signalling = accept(Traffic::Signalling, Share::WHOLE);
            for (address, octet) in addresses().zip((0..=255).cycle()) {
                let f = frame(address, octet);
                let is_signalling = (28..=30).contains(&(octet & 31));
                assert_eq!(run(&signalling, &f) != 0, is_signalling, "octet {octet:#x}");
                for (worker, p) in data.iter().enumerate() {
                    let mine = !is_signalling && worker == Share::owner(address, workers);
                    assert_eq!(run(p, &f) != 0, mine, "octet {octet:#x} worker {worker} of {workers}");
                }
            }
            for len in 0..15 {
                let short = &frame(Address::default(), 28)[..len];
                assert_eq!(run(&signalling, short), 0);
                assert_eq!(data.iter().filter(|p| run(p, short) != 0).count(), 1, "{len} octets");
            }
        }
        assert_ne!(run(&accept(Traffic::All, Share::WHOLE), &frame(Address::default(), 28)), 0);
    }

    #[test]
    fn spreading_agrees_with_the_engine() {
        for workers in [1, 2, 5] {
            for (address, octet) in addresses().zip((0..=255).cycle()) {
                let f = frame(address, octet);
                let worker = Share::owner(address, workers);
                assert_eq!(run(&spread_packets(), &f) as usize % workers, worker);
                let want = if (28..=30).contains(&(octet & 31)) { 0 } else { worker + 1 };
                assert_eq!(run(&spread_datagrams(workers), &f) as usize, want);
                assert_eq!(worker, Share::owner(address.reversed(), workers));
                assert_eq!(flow_of(&f), flow(address));
            }
        }
    }

    #[test]
    fn busy_workers_get_frames_at_their_second_socket() {
        for workers in [1, 2, 5, 64] {
            for busy in [0, 1, 0b10, 0b1_0010, u64::MAX] {
                let program = spread_pairs(workers, busy);
                for address in addresses() {
                    let worker = Share::owner(address, workers);
                    let place = 2 * worker + (busy >> worker & 1) as usize;
                    assert_eq!(run(&program, &frame(address, 1)) as usize, place);
                }
            }
        }
        assert_eq!(run(&nothing(), &frame(Address::default(), 1)), 0);
    }

    #[test]
    fn neighbouring_ids_are_spread() {
        let mut at = [0; 4];
        for i in 0..1_000 {
            let a = Address::link(Layer2Id::new(0xff_fffe).unwrap(), Layer2Id::new(i + 1).unwrap());
            at[Share::owner(a, 4)] += 1;
        }
        assert!(at.iter().all(|&n| n > 200), "{at:?}");
    }
}
