//! The fuzz target's corpus, and captures broken at random, through the fuzz target's body.
#![allow(clippy::unwrap_used)] // In a test a panic is the report.

mod common;

use common::Order;
use std::path::Path;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/read");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_passes() {
    let corpus = corpus();
    assert!(corpus.len() >= 8);
    for input in corpus {
        pc5_pcap::fuzz::read(&input);
    }
}

#[test]
fn broken_captures_pass() {
    let corpus = corpus();
    // A generator of no quality but the same on every machine.
    let mut state = 0x5EED_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3_000 {
        let mut input = corpus[random(corpus.len())].clone();
        for _ in 0..1 + random(4) {
            let at = random(input.len());
            match random(5) {
                0 => input[at] ^= 1 << random(8),
                1 => input[at] = [0, 1, 4, 0x7F, 0x80, 0xFF][random(6)],
                2 => input.truncate(at + 1),
                3 => {
                    let other = &corpus[random(corpus.len())];
                    let from = random(other.len());
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    input.remove(at);
                    if input.is_empty() {
                        input.push(0);
                    }
                }
            }
        }
        pc5_pcap::fuzz::read(&input);
    }
}

/// Lays down the first corpus; run it by hand to add to it.
#[test]
#[ignore = "writes into the source tree"]
fn lay_down_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/read");
    for order in Order::BOTH {
        for (magic, unit) in [(0xA1B2_C3D4, "micro"), (0xA1B2_3C4D, "nano")] {
            let capture = [
                order.pcap(magic, 64, 1),
                order.record(1, 2, 70, &[7; 64]),
                order.record(1, 2, 0, b""),
                order.record(3, 4, 5, b"third"),
            ];
            let file = [vec![12, 0], capture.concat()].concat();
            std::fs::write(folder.join(format!("pcap-{unit}-{order:?}").to_lowercase()), file).unwrap();
        }
        let interface =
            order.interface(1, 6, &[(2, b"port"), (3, b"described"), (9, &[9]), (13, &[4]), (14, &[1; 8])]);
        let blocks = [
            order.section(),
            interface,
            order.interface(101, 0, &[(9, &[0x94])]),
            order.block(4, b"names"),
            order.enhanced(0, 1, 9, b"enhanced"),
            order.enhanced(1, u64::MAX, 9, b""),
            order.old_packet(1, 5, 9, b"old"),
            order.simple(9, b"simple"),
            order.block(5, &[0; 12]),
        ];
        let sections = [blocks.concat(), Order::Little.section(), order.section(), blocks[1].clone()];
        let sections = [sections.concat(), order.simple(3, b"two"), order.enhanced(0, 1, 1, b"x")];
        for (name, capture) in [("blocks", blocks.concat()), ("sections", sections.concat())] {
            let file = [vec![40, 0], capture].concat();
            std::fs::write(folder.join(format!("pcapng-{name}-{order:?}").to_lowercase()), file).unwrap();
        }
    }
}
