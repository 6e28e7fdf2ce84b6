//! Whether time depends on secrets, in the manner of dudect: two classes of input, one fixed and one random, measured in a
//! random order; Welch's t over the two, on all samples and on those under some percentiles (what an interruption
//! made slow tells nothing). |t| above 4.5 is a leak; a leak planted on purpose must show above 10, or the measurement
//! is worth nothing.
//!
//! Both classes are copied to the same places before the clock starts, and chosen by an index, not by a branch: neither caches
//! nor the branch predictor's history know the class.
//!
//! `cargo bench -p mikey-sakke --bench timing [-- --smoke] [-- --only PART_OF_A_NAME]`

use std::hint::black_box;
use std::time::Instant;

use mikey_sakke::eccsi::{KmsSecretAuthKey, Pvt, SigningKey, Ssk};
use mikey_sakke::sakke::{
    KmsMasterSecret, PreparedRsk, Rsk, Ssv, decapsulate, encapsulate, hash_to_integer_range,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const LEAK: f64 = 4.5;
const PLANTED: f64 = 10.0;

/// Measures `samples` runs of `time`, each on an input of the class it is told (true: the fixed one), and gives the
/// largest |t|.
fn largest_t(
    samples: usize,
    rng: &mut ChaCha20Rng,
    mut time: impl FnMut(bool, &mut ChaCha20Rng) -> u64,
) -> f64 {
    for _ in 0..samples / 20 + 1 {
        time(rng.next_u32() & 1 == 0, rng); // warm up
    }
    let measured: Vec<(bool, u64)> = (0..samples)
        .map(|_| {
            let fixed = rng.next_u32() & 1 == 0;
            (fixed, time(fixed, rng))
        })
        .collect();
    let mut sorted: Vec<u64> = measured.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable();
    [1.0, 0.95, 0.9, 0.75, 0.5]
        .iter()
        .map(|part| {
            let limit = sorted[((sorted.len() as f64 * part) as usize).clamp(1, sorted.len()) - 1];
            welch(
                measured
                    .iter()
                    .filter(|(_, time)| *time <= limit)
                    .map(|(class, time)| (*class, *time as f64)),
            )
            .abs()
        })
        .fold(0.0, f64::max)
}

/// Welch's t of the two classes; 0 where one is too small to say anything.
fn welch(samples: impl Iterator<Item = (bool, f64)>) -> f64 {
    let mut count = [0.0; 2];
    let (mut mean, mut squares) = ([0.0; 2], [0.0; 2]);
    for (class, time) in samples {
        let class = usize::from(class);
        count[class] += 1.0;
        let delta = time - mean[class];
        mean[class] += delta / count[class];
        squares[class] += delta * (time - mean[class]);
    }
    if count[0] < 10.0 || count[1] < 10.0 {
        return 0.0;
    }
    let error: f64 = (0..2).map(|class| squares[class] / (count[class] - 1.0) / count[class]).sum();
    if error == 0.0 { 0.0 } else { (mean[0] - mean[1]) / error.sqrt() }
}

/// As [`timed`], in processor time of this thread: other programs disturb less, but the clock itself takes longer to
/// read, so it serves the long operations.
fn timed_on_cpu<T>(work: impl FnOnce() -> T) -> u64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    };
    let begin = now();
    let out = work();
    let time = now() - begin;
    drop(black_box(out));
    time
}

/// The nanoseconds that the work takes.
fn timed<T>(work: impl FnOnce() -> T) -> u64 {
    let begin = Instant::now();
    let out = work();
    let time = begin.elapsed();
    drop(black_box(out));
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The planted leak: a little work for each set bit of a secret, as a multiplication that skips zero digits would do.
fn leak(secret: &[u8], work: u32) {
    let set: u32 = secret.iter().map(|octet| octet.count_ones()).sum();
    for i in 0..set * work {
        black_box(i.wrapping_mul(0x9e37_79b9).rotate_left(i & 31));
    }
}

struct Receiver {
    id: [u8; 32],
    rsk: [u8; 257],
    data: [u8; 273],
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke" || argument == "--test");
    let samples = |full: usize| if smoke { full / 200 + 2 } else { full };
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1).unwrap_or_default();
    let wanted = |name: &str| name.contains(only.as_str());
    let mut rng = ChaCha20Rng::seed_from_u64(0x7157);
    let mut failed = false;
    let mut report = |name: &str, samples: usize, t: f64, planted: bool| {
        let good = if planted { t > PLANTED } else { t < LEAK };
        failed |= !good;
        let wanted = if planted { "> 10" } else { "< 4.5" };
        println!(
            "{name:44} {samples:>8} samples  |t| = {t:7.2}  wanted {wanted:5}  {}",
            if good { "ok" } else { "NOT OK" }
        );
    };

    // HashToIntegerRange: the input is SSV || identifier. The fixed one has no bit set, so that the plant shows.
    let fixed_input = [0; 48];
    for planted in [false, true] {
        let name = if planted { "HashToIntegerRange, with a planted leak" } else { "HashToIntegerRange" };
        if !wanted(name) {
            continue;
        }
        let count = samples(500_000);
        let mut input = [0; 48];
        let t = largest_t(count, &mut rng, |fixed, rng| {
            let mut random = [0; 48];
            rng.fill_bytes(&mut random);
            input = *black_box(&[random, fixed_input])[..].get(usize::from(fixed)).expect("two classes");
            timed(|| {
                if planted {
                    leak(black_box(&input), 1);
                }
                hash_to_integer_range(black_box(&input))
            })
        });
        report(name, count, t, planted);
    }

    // Signing: the SSK. The fixed one is the pair of 64 whose SSK has the fewest bits set, so that the plant shows.
    let authority = KmsSecretAuthKey::generate(&mut rng);
    let id = [0x42; 32];
    let mut pairs: Vec<([u8; 32], [u8; 65])> = (0..64)
        .map(|_| {
            let (ssk, pvt) = authority.extract(&id, &mut rng);
            (*ssk.to_octets(), *pvt.as_octets())
        })
        .collect();
    pairs.sort_by_key(|(ssk, _)| ssk.iter().map(|octet| octet.count_ones()).sum::<u32>());
    for planted in [false, true] {
        let name = if planted { "ECCSI sign, with a planted leak" } else { "ECCSI sign" };
        if !wanted(name) {
            continue;
        }
        let count = samples(10_000);
        let (mut ssk_octets, mut pvt_octets) = pairs[0];
        let message = [0x5a; 550];
        let t = largest_t(count, &mut rng, |fixed, rng| {
            let random = 1 + rng.next_u32() as usize % (pairs.len() - 1);
            (ssk_octets, pvt_octets) = pairs[random * usize::from(!fixed)];
            let ssk = Ssk::from_octets(&ssk_octets).expect("an SSK");
            let pvt = Pvt::from_octets(&pvt_octets).expect("a PVT");
            let key = SigningKey::new(&id, ssk, pvt, authority.kpak()).expect("a pair of this identity");
            timed_on_cpu(|| {
                if planted {
                    leak(black_box(&ssk_octets), 300);
                }
                key.sign(black_box(&message), rng)
            })
        });
        report(name, count, t, planted);
    }

    // Decapsulation: the RSK, and with it SSV and r. One identity, so that what is public is the same; the KMS's key cannot
    // be, as it and the identity fix the RSK: the classes differ in the SSV and, by KMS, in the RSK.
    let receivers: Vec<(KmsMasterSecret, Receiver)> = {
        let mut all: Vec<_> = (0..32)
            .map(|_| {
                let secret = KmsMasterSecret::generate(&mut rng);
                let id = [0x24; 32];
                let rsk = *secret.extract(&id).expect("the identity is in range").to_octets();
                let data =
                    encapsulate(&Ssv::generate(&mut rng), &id, &secret.public_key()).expect("in range");
                (secret, Receiver { id, rsk, data })
            })
            .collect();
        all.sort_by_key(|(_, receiver)| {
            receiver.rsk[1..5].iter().map(|octet| octet.count_ones()).sum::<u32>()
        });
        all
    };
    for (name, prepared, planted, full) in [
        ("SAKKE decapsulate, first use", false, false, 2000),
        ("SAKKE decapsulate, prepared RSK", true, false, 600),
        ("SAKKE decapsulate, with a planted leak", false, true, 400),
    ] {
        if !wanted(name) {
            continue;
        }
        let count = samples(full);
        let mut receiver = Receiver { id: [0; 32], rsk: [0; 257], data: [0; 273] };
        let t = largest_t(count, &mut rng, |fixed, rng| {
            let random = 1 + rng.next_u32() as usize % (receivers.len() - 1);
            let (secret, chosen) = &receivers[random * usize::from(!fixed)];
            receiver.id = chosen.id;
            receiver.rsk = chosen.rsk;
            receiver.data = chosen.data;
            let kms = secret.public_key();
            let rsk = Rsk::from_octets(&receiver.rsk).expect("a point of order q");
            if prepared {
                let ready = PreparedRsk::new(&receiver.id, &rsk, &kms).expect("the key of this identity");
                timed_on_cpu(|| ready.decapsulate(black_box(&receiver.data)).expect("it is ours"))
            } else {
                timed_on_cpu(|| {
                    if planted {
                        leak(black_box(&receiver.rsk[1..5]), 400_000);
                    }
                    decapsulate(&receiver.id, &rsk, &kms, black_box(&receiver.data)).expect("it is ours")
                })
            }
        });
        report(name, count, t, planted);
    }
    if failed && !smoke {
        std::process::exit(1);
    }
}
