//! Side by side with wolfCrypt: same inputs, outputs compared first, blocks of both interleaved, the median of the
//! blocks' ratios. Times are processor time, so that other programs disturb less. Prints a table and one JSON object. Where libwolfssl-dev is missing it says so and ends.
//!
//! `cargo bench -p mikey-sakke --bench peers [-- --smoke]`

#[path = "../tests/interop/mod.rs"]
mod interop;

use std::hint::black_box;
use std::time::Duration;

use interop::{Operation, WolfCrypt};
use mikey_sakke::eccsi::{KmsSecretAuthKey, Signature, SigningKey, Verifier};
use mikey_sakke::sakke::{KmsMasterSecret, PreparedRsk, Ssv, decapsulate, encapsulate};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

struct Row {
    name: &'static str,
    ours_ns: f64,
    theirs_ns: f64,
    ratio: f64,
    target: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Interleaves `blocks` blocks of both sides.
fn compare(
    name: &'static str,
    target: f64,
    blocks: usize,
    rounds: u32,
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(u32) -> f64,
) -> Row {
    let (mut our_times, mut their_times, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..blocks {
        let begin = processor_time();
        for _ in 0..rounds {
            ours();
        }
        let our_time = (processor_time() - begin).as_nanos() as f64 / f64::from(rounds);
        let their_time = theirs(rounds);
        our_times.push(our_time);
        their_times.push(their_time);
        ratios.push(our_time / their_time);
    }
    Row { name, ours_ns: median(our_times), theirs_ns: median(their_times), ratio: median(ratios), target }
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke" || argument == "--test");
    let mut wolf = match WolfCrypt::start("bench") {
        Ok(wolf) => wolf,
        Err(reason) => return interop::skipped(&reason),
    };
    let blocks = if smoke { 1 } else { 31 };
    let rounds = |full: u32| if smoke { 1 } else { full };
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let id = [0xa5; 32]; // a UID has 32 octets
    let message = vec![0x5a; 550]; // the signed part of a GMK message

    let authority = KmsSecretAuthKey::generate(&mut rng);
    let kpak = *authority.kpak().as_octets();
    let (ssk, pvt) = authority.extract(&id, &mut rng);
    let (ssk_octets, pvt_octets) = (ssk.to_octets(), *pvt.as_octets());
    let signing =
        SigningKey::new(&id, ssk, pvt, authority.kpak()).expect("the pair was extracted for this identity");
    let signature = signing.sign(&message, &mut rng);
    let fields: [&[u8]; 5] = [&kpak, &id, &*ssk_octets, &pvt_octets, &message];
    let theirs = wolf.ask(Operation::EccsiSign, &fields).expect("wolfCrypt signs").remove(0);
    let theirs = Signature::from_octets(&theirs).expect("129 octets");
    let cold = || Verifier::with_capacity(authority.kpak().clone(), 0);
    cold().verify(&id, &message, &theirs).expect("wolfCrypt's signature verifies");

    let secret = KmsMasterSecret::generate(&mut rng);
    let (plain, tabled) = (secret.public_key(), secret.public_key());
    tabled.prepare();
    let z = plain.to_octets();
    let rsk = secret.extract(&id).expect("the identity is in range");
    let rsk_octets = rsk.to_octets();
    let prepared = PreparedRsk::new(&id, &rsk, &plain).expect("the key was extracted for this identity");
    let ssv = Ssv::generate(&mut rng);
    let data = encapsulate(&ssv, &id, &tabled).expect("the identity is in range");
    let fields: [&[u8]; 3] = [&z, &id, ssv.as_octets()];
    assert_eq!(wolf.ask(Operation::SakkeEncapsulate, &fields).expect("wolfCrypt encapsulates")[0], data);
    let fields: [&[u8]; 4] = [&z, &id, &*rsk_octets, &data];
    assert_eq!(wolf.ask(Operation::SakkeDecapsulate, &fields).expect("wolfCrypt opens")[0], ssv.as_octets());

    let mut time = |operation, rounds: u32, fields: &[&[u8]]| {
        let rounds = rounds.to_be_bytes();
        let mut all: Vec<&[u8]> = vec![&rounds];
        all.extend_from_slice(fields);
        let answer = wolf.ask(operation, &all).expect("wolfCrypt repeats what it did").remove(0);
        u64::from_be_bytes(answer.try_into().expect("eight octets")) as f64
    };
    let mut rows = Vec::new();
    let verifier = Verifier::new(authority.kpak().clone());
    verifier.verify(&id, &message, &signature).expect("our signature verifies");
    let sign: [&[u8]; 5] = [&kpak, &id, &*ssk_octets, &pvt_octets, &message];
    rows.push(compare(
        "ECCSI sign",
        1.0,
        blocks,
        rounds(200),
        || {
            black_box(signing.sign(&message, &mut rng));
        },
        |rounds| time(Operation::EccsiSignBench, rounds, &sign),
    ));
    let verify: [&[u8]; 4] = [&kpak, &id, &message, signature.as_octets()];
    rows.push(compare(
        "ECCSI verify, signer in the cache",
        1.0,
        blocks,
        rounds(100),
        || verifier.verify(&id, &message, &signature).expect("verified before"),
        |rounds| time(Operation::EccsiVerifyBench, rounds, &verify),
    ));
    let no_cache = cold();
    rows.push(compare(
        "ECCSI verify, signer met first",
        1.0,
        blocks,
        rounds(100),
        || no_cache.verify(&id, &message, &signature).expect("verified before"),
        |rounds| time(Operation::EccsiVerifyBench, rounds, &verify),
    ));
    let to_receiver: [&[u8]; 3] = [&z, &id, ssv.as_octets()];
    for (name, kms) in [("SAKKE encapsulate", &tabled), ("SAKKE encapsulate, no table of Z_T", &plain)] {
        rows.push(compare(
            name,
            0.5,
            blocks,
            rounds(10),
            || assert_eq!(black_box(encapsulate(&ssv, &id, kms).expect("done before"))[..], data[..]),
            |rounds| time(Operation::SakkeEncapsulateBench, rounds, &to_receiver),
        ));
    }
    let opened: [&[u8]; 4] = [&z, &id, &*rsk_octets, &data];
    rows.push(compare(
        "SAKKE decapsulate, prepared RSK",
        0.5,
        blocks,
        rounds(5),
        || assert!(prepared.decapsulate(&data).expect("done before") == ssv),
        |rounds| time(Operation::SakkeDecapsulateBench, rounds, &opened),
    ));
    for (name, kms) in
        [("SAKKE decapsulate, first use", &tabled), ("SAKKE decapsulate, first use, no table", &plain)]
    {
        rows.push(compare(
            name,
            0.8,
            blocks,
            rounds(5),
            || assert!(decapsulate(&id, &rsk, kms, &data).expect("done before") == ssv),
            |rounds| time(Operation::SakkeDecapsulateBench, rounds, &opened),
        ));
    }

    println!("{:40} {:>12} {:>14} {:>7} {:>7}", "operation", "ours, us", "wolfCrypt, us", "ratio", "target");
    for row in &rows {
        let (ours, theirs) = (row.ours_ns / 1e3, row.theirs_ns / 1e3);
        println!("{:40} {ours:12.1} {theirs:14.1} {:7.2} {:>7}", row.name, row.ratio, row.target);
    }
    let json: Vec<_> = rows
        .iter()
        .map(|row| serde_json::json!({"name": row.name, "ours_ns": row.ours_ns, "wolfcrypt_ns": row.theirs_ns, "ratio": row.ratio}))
        .collect();
    println!(
        "{}",
        serde_json::json!({"bench": "mikey-sakke peers", "cpu": cpu(), "blocks": blocks, "rows": json})
    );
}

/// The processor's name as Linux gives it.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
    line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
}
