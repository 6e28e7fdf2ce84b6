//! ECCSI and SAKKE, operation by operation.
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mikey_sakke::eccsi::{KmsSecretAuthKey, SigningKey, Verifier, validate as validate_pair};
use mikey_sakke::sakke::{
    KmsMasterSecret, KmsPublicKey, PreparedRsk, Ssv, decapsulate, encapsulate, encapsulate_many,
    hash_to_integer_range, validate,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const ID: [u8; 32] = [0x42; 32];

fn eccsi(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let authority = KmsSecretAuthKey::generate(&mut rng);
    let (ssk, pvt) = authority.extract(&ID, &mut rng);
    let mut group = c.benchmark_group("eccsi");
    group.bench_function("extract", |b| b.iter(|| authority.extract(&ID, &mut rng)));
    group.bench_function("validate", |b| b.iter(|| validate_pair(&ID, &ssk, &pvt, authority.kpak())));
    let key = SigningKey::new(&ID, ssk, pvt, authority.kpak()).expect("extracted for this identity");
    let message = [0x5a; 550];
    group.bench_function("sign", |b| b.iter(|| key.sign(&message, &mut rng)));
    let signature = key.sign(&message, &mut rng);
    for (name, capacity) in [("verify, signer met first", 0), ("verify, signer known", 16)] {
        let verifier = Verifier::with_capacity(authority.kpak().clone(), capacity);
        group.bench_function(name, |b| b.iter(|| verifier.verify(&ID, &message, &signature)));
    }
    group.finish();
}

fn sakke(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = KmsMasterSecret::generate(&mut rng);
    let (plain, tabled) = (secret.public_key(), secret.public_key());
    tabled.prepare();
    let rsk = secret.extract(&ID).expect("the identity is in range");
    let ssv = Ssv::generate(&mut rng);
    let data = encapsulate(&ssv, &ID, &tabled).expect("the identity is in range");
    let mut group = c.benchmark_group("sakke");
    group.sample_size(20);
    group.bench_function("hash to integer range", |b| b.iter(|| hash_to_integer_range(&data[..48])));
    group.bench_function("extract", |b| b.iter(|| secret.extract(&ID)));
    group.bench_function("read and check a KMS key", |b| {
        b.iter(|| KmsPublicKey::from_octets(&plain.to_octets()))
    });
    group.bench_function("prepare a KMS key", |b| {
        // Read anew, since clones share their tables.
        let read = || KmsPublicKey::from_octets(&plain.to_octets()).expect("a key");
        b.iter_batched(read, |kms| kms.prepare(), BatchSize::LargeInput)
    });
    group.bench_function("validate", |b| b.iter(|| validate(&ID, &rsk, &plain)));
    group.bench_function("encapsulate, KMS key prepared", |b| b.iter(|| encapsulate(&ssv, &ID, &tabled)));
    group.bench_function("encapsulate, KMS key plain", |b| b.iter(|| encapsulate(&ssv, &ID, &plain)));
    let ids: Vec<[u8; 2]> = (0..64).map(|i| [9, i]).collect();
    group.bench_function("encapsulate to 64 receivers", |b| b.iter(|| encapsulate_many(&ssv, &ids, &tabled)));
    group.bench_function("decapsulate, first use", |b| b.iter(|| decapsulate(&ID, &rsk, &tabled, &data)));
    group.bench_function("prepare an RSK", |b| b.iter(|| PreparedRsk::new(&ID, &rsk, &tabled)));
    let prepared = PreparedRsk::new(&ID, &rsk, &tabled).expect("extracted for this identity");
    group.bench_function("decapsulate, RSK prepared", |b| b.iter(|| prepared.decapsulate(&data)));
    group.finish();
}

criterion_group!(benches, eccsi, sakke);
criterion_main!(benches);
