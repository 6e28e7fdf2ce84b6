//! Both directions with wolfCrypt over random identities, keys and messages; every altered one is refused by both.
//!
//! Where libwolfssl-dev is missing the tests say so and end. The rounds are 1000 in a release build (`scripts/test` runs
//! that one too) and 40 in a debug build; `MIKEY_INTEROP_ROUNDS` sets another number, `MIKEY_INTEROP_SEED` another sequence.
#![allow(clippy::unwrap_used, reason = "a failing test may panic")]
mod interop;

use interop::{Operation, WolfCrypt};
use mikey_sakke::eccsi::{
    KmsSecretAuthKey, Kpak, Pvt, Signature, SigningKey, Ssk, Verifier, validate as validate_pair,
};
use mikey_sakke::sakke::{
    KmsMasterSecret, KmsPublicKey, PreparedRsk, Rsk, Ssv, decapsulate, encapsulate, validate as validate_rsk,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

fn rounds() -> usize {
    let default = if cfg!(debug_assertions) { 40 } else { 1000 };
    std::env::var("MIKEY_INTEROP_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

/// All rounds, spread over the processors with a wolfCrypt process each. What a round draws hangs on seed, scheme and its
/// number alone, not on the processor it fell to.
fn run_rounds(scheme: &str, one: impl Fn(&mut WolfCrypt, &mut ChaCha20Rng, usize) + Sync) {
    let seed: u64 = std::env::var("MIKEY_INTEROP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let processes: Result<Vec<_>, _> =
        (0..threads).map(|n| WolfCrypt::start(&format!("{scheme}{n}"))).collect();
    let processes = match processes {
        Ok(processes) => processes,
        Err(reason) => return interop::skipped(&reason),
    };
    std::thread::scope(|scope| {
        for (first, mut wolf) in processes.into_iter().enumerate() {
            let one = &one;
            scope.spawn(move || {
                for round in (first..rounds()).step_by(threads) {
                    let mut rng = ChaCha20Rng::seed_from_u64(seed);
                    rng.set_stream(u64::from(scheme.as_bytes()[0]) << 32 | round as u64);
                    one(&mut wolf, &mut rng, round);
                }
            });
        }
    });
    println!("{} rounds", rounds());
}

/// 1 to `most` random octets that do not begin with zero.
fn random_octets(rng: &mut ChaCha20Rng, most: usize) -> Vec<u8> {
    let mut octets = vec![0; 1 + rng.next_u32() as usize % most];
    rng.fill_bytes(&mut octets);
    octets[0] |= 2;
    octets
}

/// A copy with one random bit turned.
fn altered(rng: &mut ChaCha20Rng, octets: &[u8]) -> Vec<u8> {
    let mut out = octets.to_vec();
    let bit = rng.next_u32() as usize % (8 * out.len());
    out[bit / 8] ^= 1 << (bit % 8);
    out
}

#[test]
fn eccsi_agrees_with_wolfcrypt() {
    run_rounds("eccsi", |wolf, rng, round| {
        let id = random_octets(rng, 60);
        let message = random_octets(rng, 700);

        // Our KMS, our signature.
        let kms = KmsSecretAuthKey::generate(rng);
        let kpak = kms.kpak().as_octets().to_vec();
        let (ssk, pvt) = kms.extract(&id, rng);
        let (ssk_octets, pvt_octets) = (ssk.to_octets(), *pvt.as_octets());
        let pair: [&[u8]; 4] = [&kpak, &id, &*ssk_octets, &pvt_octets];
        assert!(wolf.ask(Operation::EccsiValidate, &pair).is_some(), "round {round}");
        let key = SigningKey::new(&id, ssk, pvt, kms.kpak()).unwrap();
        let signature = key.sign(&message, rng);
        assert!(
            wolf.ask(Operation::EccsiVerify, &[&kpak, &id, &message, signature.as_octets()]).is_some(),
            "round {round}: our signature"
        );

        // wolfCrypt's signature with our key.
        let verifier = Verifier::new(kms.kpak().clone());
        let sign: [&[u8]; 5] = [&kpak, &id, &*ssk_octets, &pvt_octets, &message];
        let theirs = wolf.ask(Operation::EccsiSign, &sign).unwrap().remove(0);
        verifier.verify(&id, &message, &Signature::from_octets(&theirs).unwrap()).unwrap();

        // wolfCrypt's KMS and pair, our validation and signature.
        let made = wolf.ask(Operation::EccsiMake, &[&id]).unwrap();
        let their_kpak = Kpak::from_octets(&made[0]).unwrap();
        let their_ssk = Ssk::from_octets(&made[1]).unwrap();
        let their_pvt = Pvt::from_octets(&made[2]).unwrap();
        validate_pair(&id, &their_ssk, &their_pvt, &their_kpak).unwrap();
        let key = SigningKey::new(&id, their_ssk, their_pvt, &their_kpak).unwrap();
        let with_their_key = key.sign(&message, rng);
        let fields: [&[u8]; 4] = [&made[0], &id, &message, with_their_key.as_octets()];
        assert!(
            wolf.ask(Operation::EccsiVerify, &fields).is_some(),
            "round {round}: our signature, their key"
        );

        // One bit anywhere.
        let bad_signature = altered(rng, &theirs);
        let (bad_message, bad_id) = (altered(rng, &message), altered(rng, &id));
        for (id, message, signature, what) in [
            (&id, &message, &bad_signature, "signature"),
            (&id, &bad_message, &theirs, "message"),
            (&bad_id, &message, &theirs, "identity"),
        ] {
            let ours = Signature::from_octets(signature).and_then(|s| verifier.verify(id, message, &s));
            assert!(ours.is_err(), "round {round}: we took an altered {what}");
            let fields: [&[u8]; 4] = [&kpak, id, message, signature];
            assert!(
                wolf.ask(Operation::EccsiVerify, &fields).is_none(),
                "round {round}: wolfCrypt, altered {what}"
            );
        }
        let bad_ssk = altered(rng, &*ssk_octets);
        if let Ok(bad) = Ssk::from_octets(&bad_ssk) {
            assert!(validate_pair(&id, &bad, &Pvt::from_octets(&pvt_octets).unwrap(), kms.kpak()).is_err());
        }
        assert!(wolf.ask(Operation::EccsiValidate, &[&kpak, &id, &bad_ssk, &pvt_octets]).is_none());
    });
}

#[test]
fn sakke_agrees_with_wolfcrypt() {
    run_rounds("sakke", |wolf, rng, round| {
        let id = random_octets(rng, 100);
        let secret = KmsMasterSecret::generate(rng);
        let kms = secret.public_key();
        let rsk = secret.extract(&id).unwrap();

        // The keys are determined by z and the identity: they are the same.
        let made = wolf.ask(Operation::SakkeMake, &[&*secret.to_octets(), &id]).unwrap();
        assert_eq!(made[0], kms.to_octets(), "round {round}: Z");
        assert_eq!(made[1], *rsk.to_octets(), "round {round}: RSK");
        let (z, k) = (&made[0], &made[1]);
        assert!(wolf.ask(Operation::SakkeValidate, &[z, &id, k]).is_some(), "round {round}");
        validate_rsk(&id, &rsk, &kms).unwrap();

        // So is the encapsulation of an SSV; and each opens the other's.
        let ssv = Ssv::generate(rng);
        let data = encapsulate(&ssv, &id, &kms).unwrap();
        let theirs = wolf.ask(Operation::SakkeEncapsulate, &[z, &id, ssv.as_octets()]).unwrap().remove(0);
        assert_eq!(theirs, data, "round {round}: encapsulated data");
        let opened = wolf.ask(Operation::SakkeDecapsulate, &[z, &id, k, &data]).unwrap().remove(0);
        assert_eq!(opened, ssv.as_octets(), "round {round}: wolfCrypt opens ours");
        assert!(decapsulate(&id, &rsk, &kms, &theirs).unwrap() == ssv, "round {round}");
        if round % 20 == 0 {
            let prepared = PreparedRsk::new(&id, &rsk, &kms).unwrap();
            assert!(prepared.decapsulate(&theirs).unwrap() == ssv, "round {round}");
        }

        // One bit anywhere.
        let bad_data = altered(rng, &data);
        assert!(decapsulate(&id, &rsk, &kms, &bad_data).is_err(), "round {round}: we took altered data");
        let fields: [&[u8]; 4] = [z, &id, k, &bad_data];
        assert!(
            wolf.ask(Operation::SakkeDecapsulate, &fields).is_none(),
            "round {round}: wolfCrypt, altered data"
        );
        let bad_id = altered(rng, &id);
        if bad_id != [0] && bad_id != [1] {
            assert!(
                decapsulate(&bad_id, &rsk, &kms, &data).is_err(),
                "round {round}: we took another identity"
            );
            assert!(validate_rsk(&bad_id, &rsk, &kms).is_err(), "round {round}");
            let fields: [&[u8]; 4] = [z, &bad_id, k, &data];
            assert!(
                wolf.ask(Operation::SakkeDecapsulate, &fields).is_none(),
                "round {round}: another identity"
            );
            assert!(wolf.ask(Operation::SakkeValidate, &[z, &bad_id, k]).is_none(), "round {round}");
        }
        let (bad_z, bad_k) = (altered(rng, z), altered(rng, k));
        assert!(KmsPublicKey::from_octets(&bad_z).is_err() && Rsk::from_octets(&bad_k).is_err());
        assert!(wolf.ask(Operation::SakkeValidate, &[&bad_z, &id, k]).is_none(), "round {round}: altered Z");
        assert!(
            wolf.ask(Operation::SakkeValidate, &[z, &id, &bad_k]).is_none(),
            "round {round}: altered RSK"
        );
    });
}
