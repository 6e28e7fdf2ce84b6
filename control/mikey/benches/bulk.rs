//! One SSV to many receivers, on one and on two threads: encapsulation alone, and with the ECCSI signature that each
//! receiver's I_MESSAGE needs. Prints a table.
//!
//! `cargo bench -p mikey-sakke --bench bulk [-- --smoke]`

use std::time::{Duration, Instant};

use mikey_sakke::eccsi::{KmsSecretAuthKey, SigningKey};
use mikey_sakke::sakke::{KmsMasterSecret, KmsPublicKey, PreparedRsk, Ssv, encapsulate, encapsulate_many};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke" || argument == "--test");
    let receivers: u64 = if smoke { 100 } else { 10_000 };
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let secret = KmsMasterSecret::generate(&mut rng);
    // The wall clock says little on a machine that is busy elsewhere: processor time is what the work takes.
    let spent = |what: &str, since: Duration| {
        println!("{what}: {:.1} ms of processor time", (processor_time() - since).as_secs_f64() * 1e3);
    };
    let begin = processor_time();
    let kms = secret.public_key();
    spent("a KMS's public key from its secret, with the table of P (once a program)", begin);
    let begin = processor_time();
    let again = KmsPublicKey::from_octets(&kms.to_octets()).expect("a key");
    spent("a KMS's public key read and checked", begin);
    let begin = processor_time();
    kms.prepare();
    spent("prepare(), with the table of g (once a program)", begin);
    let begin = processor_time();
    again.prepare();
    spent("prepare() of another key", begin);
    let ids: Vec<[u8; 32]> = (0..receivers)
        .map(|i| {
            let mut id = [0xc3; 32];
            id[24..].copy_from_slice(&i.to_be_bytes());
            id
        })
        .collect();
    let ssv = Ssv::generate(&mut rng);
    let rsk = secret.extract(&ids[1]).expect("the identity is in range");
    let begin = processor_time();
    let prepared = PreparedRsk::new(&ids[1], &rsk, &kms).expect("the key was extracted for this identity");
    spent("validation and preparation of an RSK", begin);
    let authority = KmsSecretAuthKey::generate(&mut rng);
    let (ssk, pvt) = authority.extract(b"group manager", &mut rng);
    let signing =
        SigningKey::new(b"group manager", ssk, pvt, authority.kpak()).expect("extracted for this identity");

    let cpu = processor_time();
    let few = ids.len().min(500);
    for id in &ids[..few] {
        encapsulate(&ssv, id, &kms).expect("the identity is in range");
    }
    println!(
        "one by one, one thread: {:.0} us of processor time a receiver",
        (processor_time() - cpu).as_secs_f64() * 1e6 / few as f64
    );

    for threads in [1, 2] {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        let (begin, cpu) = (Instant::now(), processor_time());
        let messages = pool.install(|| encapsulate_many(&ssv, &ids, &kms));
        let (encapsulated, encapsulated_cpu) = (begin.elapsed(), processor_time() - cpu);
        let data = messages[1].as_ref().expect("the identity is in range");
        assert!(prepared.decapsulate(data).expect("it is ours") == ssv);
        let (begin, cpu) = (Instant::now(), processor_time());
        let signatures: Vec<_> = pool.install(|| {
            messages
                .par_iter()
                .enumerate()
                .map_init(
                    || ChaCha20Rng::seed_from_u64(11),
                    |rng, (i, data)| {
                        let data = data.as_ref().expect("the identity is in range");
                        signing.sign(&[data.as_slice(), &ids[i]].concat(), rng)
                    },
                )
                .collect()
        });
        let (signed, signed_cpu) = (begin.elapsed(), processor_time() - cpu);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / receivers as f64;
        println!(
            "{} receivers, {threads} thread(s): encapsulate {:.0} us, sign {:.0} us, both {:.0} us a receiver, {:.2} s; \
             processor time {:.0} + {:.0} us",
            signatures.len(),
            each(encapsulated),
            each(signed),
            each(encapsulated + signed),
            (encapsulated + signed).as_secs_f64(),
            each(encapsulated_cpu),
            each(signed_cpu),
        );
    }
}

/// What all threads of this process have used of the processors.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
