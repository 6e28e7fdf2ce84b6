//! Whole messages: decoding, verifying and opening each kind; one GMK to many members.
//!
//! `cargo bench -p mikey-sakke --bench messages`

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mikey_sakke::{
    Message, NtpTime, Protection, ReplayCache, Secret, Window,
    codec::{CsIdMap, KeyData, KeyType, KeyValidity, SecurityPolicy},
    eccsi::KmsSecretAuthKey,
    gsk::{self, GskMessage, gmk_as_psk},
    identifier::KeyPeriod,
    keys::{KeyId, Purpose},
    policy::{ExpectedSigner, Kms, ReceivingIdentity, Scheme, SignerKind, SigningIdentity, TrustedKms},
    psk::{self, IMessage, Psk, PskSet},
    sakke::{KmsMasterSecret, Ssv},
    sakke_mode::{self, Privacy, SakkeMessage},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

const KMS: &str = "kms.example.org";
const GROUP: &str = "sip:group@example.org";
const MEMBER: &str = "sip:member@example.org";

type Any = Box<dyn std::error::Error>;

struct World {
    now: NtpTime,
    kms: Kms,
    trusted: TrustedKms,
    group: SigningIdentity,
    member: ReceivingIdentity,
    gmks: PskSet,
    gmk: Ssv,
}

fn world(rng: &mut ChaCha20Rng) -> Result<World, Any> {
    let now = NtpTime::from_unix(1_760_000_000, 0);
    let scheme = Scheme::Uid(KeyPeriod::new(2_592_000, 0)?);
    let (ksak, master) = (KmsSecretAuthKey::generate(rng), KmsMasterSecret::generate(rng));
    let public = || Kms::new(KMS, scheme, ksak.kpak().clone(), master.public_key());
    let kms = public();
    let period = scheme.period_at(now).ok_or("too early")?;
    let mut group = SigningIdentity::new(GROUP, &kms);
    let (ssk, pvt) = ksak.extract(&kms.identifier(GROUP, period)?.octets(), rng);
    group.install(&kms, period, ssk, pvt)?;
    let mut member = ReceivingIdentity::new(MEMBER, &kms);
    member.install(&kms, period, &master.extract(&kms.identifier(MEMBER, period)?.octets())?)?;
    let mut trusted = TrustedKms::default();
    trusted.insert(public());
    let gmk = Ssv::generate(rng);
    let mut gmks = PskSet::default();
    gmks.insert(gmk_as_psk(KeyId(5), gmk.as_octets())?);
    Ok(World { now, kms, trusted, group, member, gmks, gmk })
}

fn gmk_message(w: &World) -> SakkeMessage<'_> {
    SakkeMessage {
        key: &w.gmk,
        key_id: KeyId::new(Purpose::GMK, 5),
        time: w.now,
        rand: vec![1; 16],
        policies: vec![SecurityPolicy::gmk_default(0)],
        cs_id: 4,
        parameters: None,
        privacy: Privacy::Hidden,
        to_self: false,
    }
}

fn cache() -> ReplayCache {
    ReplayCache::new(Window::CLOCK_SKEW, 16)
}

fn kinds(c: &mut Criterion) -> Result<(), Any> {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let w = &world(rng)?;
    let gmk = gmk_message(w).seal(&w.group, &w.kms, MEMBER, &w.kms, rng)?;
    let gsk = Secret::new(&[2; 32]);
    let talk = GskMessage {
        csb_id: 3,
        time: w.now,
        rand: vec![4; 16],
        gsk: &gsk,
        gsk_id: &[5],
        key_type: KeyType::TEK,
        protection: Protection::SHA_256,
    };
    let under = w.gmks.get(&[0, 0, 0, 5]).ok_or("GMK")?;
    let talk_octets = talk.seal(under, &w.group, &w.kms, rng)?;
    let plain = IMessage {
        csb_id: 6,
        map: CsIdMap::Empty { sessions: 0 },
        time: w.now,
        rand: vec![7; 16],
        initiator: None,
        responder: None,
        psk_name: None,
        policies: vec![],
        extensions: vec![],
        keys: vec![KeyData {
            key_type: KeyType::TGK,
            key: Secret::new(&[8; 16]),
            salt: None,
            validity: KeyValidity::Null,
        }],
        protection: Protection::SHA_256,
        verification: false,
    };
    let psk = Psk::new(b"", &[9; 16])?;
    let (plain_octets, _) = plain.seal(&psk)?;
    let mut psks = PskSet::default();
    psks.insert(Psk::new(b"", &[9; 16])?);
    let (group, speaker) = (
        ExpectedSigner::new(SignerKind::Group, GROUP, KMS),
        ExpectedSigner::new(SignerKind::Speaker, GROUP, KMS),
    );

    let mut g = c.benchmark_group("messages");
    g.bench_function("decode GMK message", |b| b.iter(|| Message::decode(black_box(&gmk))));
    g.bench_function("inspect GMK message", |b| b.iter(|| Message::inspect(black_box(&gmk))));
    g.bench_function("seal GMK message", |b| {
        b.iter(|| gmk_message(w).seal(&w.group, &w.kms, MEMBER, &w.kms, rng).map(|m| m.len()))
    });
    g.bench_function("open GMK message", |b| {
        b.iter_batched_ref(
            cache,
            |c| sakke_mode::open(&gmk, &w.member, &group, &w.trusted, c, w.now).is_ok(),
            BatchSize::SmallInput,
        )
    });
    g.bench_function("seal GSK message", |b| {
        b.iter(|| talk.seal(under, &w.group, &w.kms, rng).map(|m| m.len()))
    });
    g.bench_function("open GSK message", |b| {
        b.iter_batched_ref(
            cache,
            |c| gsk::open(&talk_octets, &w.gmks, &speaker, &w.trusted, c, w.now).is_ok(),
            BatchSize::SmallInput,
        )
    });
    g.bench_function("refuse a repeated GSK message", |b| {
        let mut c = cache();
        let first = gsk::open(&talk_octets, &w.gmks, &speaker, &w.trusted, &mut c, w.now);
        assert!(first.is_ok());
        b.iter(|| gsk::open(&talk_octets, &w.gmks, &speaker, &w.trusted, &mut c, w.now).is_ok())
    });
    g.bench_function("open PSK I_MESSAGE", |b| {
        b.iter_batched_ref(
            cache,
            |c| psk::open(&plain_octets, &psks, None, c, w.now).is_ok(),
            BatchSize::SmallInput,
        )
    });
    g.finish();

    let uris: Vec<_> = (0..1000).map(|i| format!("sip:member-{i}@example.org")).collect();
    let uris: Vec<_> = uris.iter().map(String::as_str).collect();
    let mut g = c.benchmark_group("one GMK to 1,000 members");
    g.throughput(Throughput::Elements(1000)).sample_size(10).warm_up_time(Duration::from_millis(500));
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        g.bench_function(format!("{threads} threads"), |b| {
            b.iter(|| {
                let made = pool.install(|| gmk_message(w).seal_many(&w.group, &w.kms, &uris, &w.kms, rng));
                assert!(made.iter().all(Result::is_ok));
            })
        });
    }
    g.finish();
    Ok(())
}

fn messages(c: &mut Criterion) {
    if let Err(e) = kinds(c) {
        panic!("keys of the bench: {e}");
    }
}

criterion_group!(benches, messages);
criterion_main!(benches);
