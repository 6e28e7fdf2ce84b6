//! The fuzz targets' corpora, and inputs made up at random, through the fuzz targets' bodies.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use mikey_sakke::fuzz;
use proptest::prelude::*;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all.into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

#[test]
fn corpora() {
    let (decode, open) = (corpus("decode"), corpus("open"));
    assert!(decode.len() >= 8 && open.len() >= 5);
    for (path, input) in decode {
        println!("{}", path.display());
        fuzz::decode(&input);
    }
    for (path, input) in open {
        println!("{}", path.display());
        fuzz::open(&input);
    }
}

/// The corpus holds the crate's own messages as they are made today.
#[test]
fn seeds_are_in_the_corpus() {
    let corpus = corpus("decode");
    for seed in fuzz::seeds() {
        assert!(corpus.iter().any(|(_, c)| *c == seed), "{}", hex::encode(seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn altered_seeds(
        which in 0usize..3,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut octets = fuzz::seeds().swap_remove(which);
        for (at, to) in edits {
            let at = at.index(octets.len());
            octets[at] = to;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(octets.len()));
        }
        fuzz::decode(&octets);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn programs(program in proptest::collection::vec(any::<u8>(), 0..80)) {
        fuzz::open(&program);
    }
}
