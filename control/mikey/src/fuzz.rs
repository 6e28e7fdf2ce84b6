//! Bodies of the fuzz targets, as functions, so that ordinary tests replay the corpus. They panic where the crate breaks
//! a promise; on any input of any length they must return.

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use crate::{
    ClaimedMessage, Encryption, KeyError, Message, NtpTime, Protection, ReplayCache, Secret, Window,
    codec::{CsIdMap, Field, Id, IdType, KeyData, KeyParameters, KeyType, KeyValidity},
    eccsi::{KmsSecretAuthKey, SIGNATURE_OCTETS},
    gsk::{self, GskMessage, gmk_as_psk},
    identifier::KeyPeriod,
    keys::{KeyId, Purpose},
    policy::{ExpectedSigner, Kms, ReceivingIdentity, Scheme, SignerKind, SigningIdentity, TrustedKms},
    psk::{self, ErrorMessage, IMessage, Psk, PskSet},
    sakke::{KmsMasterSecret, Ssv},
    sakke_mode::{self, Privacy, SakkeMessage},
    seed::SeedRng,
};

/// Decodes: what is read gives the same octets back, the record covers them without gap or overlap, and the two ways to
/// decode agree.
pub fn decode(octets: &[u8]) {
    let (fields, inspected) = Message::inspect(octets);
    let decoded = Message::decode(octets);
    assert_eq!(decoded, inspected);
    let covered = tiles(&fields, 0);
    match decoded {
        Ok(message) => {
            assert_eq!(message.encode().as_deref(), Ok(octets));
            assert_eq!(covered, octets.len());
        }
        Err(e) => assert!(e.offset <= octets.len() && covered <= octets.len()),
    }
    if let Ok(keys) = KeyData::decode_all(octets) {
        assert_eq!(KeyData::encode_all(&keys).ok().as_deref().map(Vec::as_slice), Some(octets));
    }
    if let Ok(parameters) = KeyParameters::decode(octets) {
        assert_eq!(parameters.encode().as_deref(), Ok(octets));
    }
    let _ = ErrorMessage::decode(octets).map(|e| e.encode());
}

fn tiles(fields: &[Field], start: usize) -> usize {
    fields.iter().fold(start, |at, f| {
        assert_eq!(f.offset, at);
        let end = if f.children.is_empty() { at + f.length } else { tiles(&f.children, at) };
        assert_eq!(end, at + f.length);
        end
    })
}

/// Opens: the input is a sequence of operations of 4 octets on three authentic messages and a clock. Whatever is done to
/// a message, it is accepted only if what is authenticated in it is unchanged, inside the window, and once.
///
/// Octets of an operation: kind and value, message, position (2).
pub fn open(program: &[u8]) {
    let world = &*WORLD;
    let mut cache = ReplayCache::new(Window::CLOCK_SKEW, CAPACITY);
    let mut now = world.time;
    let mut accepted = HashSet::new();
    for operation in program.chunks_exact(4).take(64) {
        let &[kind, which, high, low] = operation else { return };
        let position = usize::from(u16::from_be_bytes([high, low]));
        let which = usize::from(which) % world.messages.len();
        let Some((authentic, tail)) = world.messages.get(which) else { return };
        let mut octets = authentic.clone();
        match kind & 7 {
            0 | 1 => {}
            2 | 3 => {
                let at = position % octets.len();
                if let Some(o) = octets.get_mut(at) {
                    *o ^= kind >> 3 | 1;
                }
            }
            4 => octets.truncate(position % octets.len()),
            5 => octets.insert(position % octets.len(), kind),
            6 => octets = operation.repeat(position % 64),
            _ => {
                let shift = Duration::from_secs(position as u64 % 700);
                now = if kind & 8 == 0 { world.time.after(shift) } else { world.time.before(shift) };
                continue;
            }
        }
        let opened = open_any(world, &octets, &mut cache, now);
        let in_window = world.time >= now.before(Window::CLOCK_SKEW.past)
            && world.time <= now.after(Window::CLOCK_SKEW.future);
        if opened {
            let covered = |o: &[u8]| o.get(..o.len() - tail).map(<[u8]>::to_vec);
            assert_eq!(covered(&octets), covered(authentic), "altered and accepted");
            assert!(in_window, "accepted out of time");
            assert!(accepted.insert(which), "accepted twice");
        } else if octets == *authentic {
            let free = accepted.len() < CAPACITY;
            assert!(!in_window || !free || accepted.contains(&which), "authentic and refused");
        }
        assert_eq!(cache.len(), accepted.len());
    }
}

/// One less than there are messages, so that the cache fills.
const CAPACITY: usize = 2;

struct World {
    time: NtpTime,
    trusted: TrustedKms,
    member: ReceivingIdentity,
    psks: PskSet,
    /// Octets, and how many at the end are a signature (which has a second form) or none.
    messages: Vec<(Vec<u8>, usize)>,
}

const KMS: &str = "kms.example.org";
const GROUP: &str = "sip:group@example.org";
const MEMBER: &str = "sip:member@example.org";

static WORLD: LazyLock<World> = LazyLock::new(|| match build() {
    Ok(world) => world,
    Err(e) => panic!("fixed keys: {e}"),
});

/// The authentic messages, as seeds for a corpus.
pub fn seeds() -> Vec<Vec<u8>> {
    WORLD.messages.iter().map(|(octets, _)| octets.clone()).collect()
}

fn open_any(world: &World, octets: &[u8], cache: &mut ReplayCache, now: NtpTime) -> bool {
    let World { trusted, member, psks, .. } = world;
    let group = ExpectedSigner::new(SignerKind::Group, GROUP, KMS);
    let speaker = ExpectedSigner::new(SignerKind::Speaker, GROUP, KMS);
    // Each message is tried in each mode: no mode may take the message of another.
    let opened = [
        sakke_mode::open(octets, member, &group, trusted, cache, now).is_ok(),
        gsk::open(octets, psks, &speaker, trusted, cache, now).is_ok(),
        psk::open(octets, psks, None, cache, now).is_ok(),
    ];
    assert!(opened.iter().filter(|o| **o).count() <= 1, "opened in two modes");
    opened.contains(&true)
}

fn build() -> Result<World, KeyError> {
    let rng = &mut SeedRng::fixed([7; 32]);
    let time = NtpTime::from_wire(0xec89_8da8_0000_0000);
    let scheme = Scheme::Uid(KeyPeriod::new(2_592_000, 0)?);
    let ksak = KmsSecretAuthKey::generate(rng);
    let master = KmsMasterSecret::generate(rng);
    let kms = Kms::new(KMS, scheme, ksak.kpak().clone(), master.public_key());
    let period = scheme.period_at(time).ok_or(KeyError::Invalid { what: "time", problem: "early" })?;
    let group_id = kms.identifier(GROUP, period)?.octets();
    let mut group = SigningIdentity::new(GROUP, &kms);
    let (ssk, pvt) = ksak.extract(&group_id, rng);
    group.install(&kms, period, ssk, pvt)?;
    let mut member = ReceivingIdentity::new(MEMBER, &kms);
    let rsk = master
        .extract(&kms.identifier(MEMBER, period)?.octets())
        .map_err(|_| KeyError::Invalid { what: "fuzz key", problem: "refused" })?;
    member.install(&kms, period, &rsk)?;

    let gmk = [1; 16];
    let gmk_id = KeyId::new(Purpose::GMK, 0x0abc_def0);
    let ssv = Ssv::from_octets(gmk);
    let sakke = SakkeMessage {
        key: &ssv,
        key_id: gmk_id,
        time,
        rand: vec![2; 16],
        policies: vec![crate::codec::SecurityPolicy::gmk_default(0)],
        cs_id: 4,
        parameters: None,
        privacy: Privacy::Hidden,
        to_self: false,
    };
    let gsk = Secret::new(&[3; 32]);
    let gsk = GskMessage {
        csb_id: 4,
        time,
        rand: vec![5; 16],
        gsk: &gsk,
        gsk_id: &[6],
        key_type: KeyType::TEK,
        protection: Protection::SHA_256,
    };
    let plain = IMessage {
        csb_id: 7,
        map: CsIdMap::SrtpId(Vec::new()),
        time,
        rand: vec![8; 16],
        initiator: Some(Id { id_type: IdType::URI, data: GROUP.into() }),
        responder: None,
        psk_name: Some(Id { id_type: IdType::OCTETS, data: b"psk".to_vec() }),
        policies: Vec::new(),
        extensions: Vec::new(),
        keys: vec![KeyData {
            key_type: KeyType::TGK,
            key: Secret::new(&[9; 16]),
            salt: None,
            validity: KeyValidity::Spi(vec![1, 2, 3]),
        }],
        protection: Protection { encryption: Encryption::AesKw128, ..Protection::RFC_3830 },
        verification: true,
    };
    let mut psks = PskSet::default();
    psks.insert(gmk_as_psk(gmk_id, &gmk)?);
    psks.insert(Psk::new(b"psk", &[10; 16])?);
    let messages = vec![
        (sakke.seal(&group, &kms, MEMBER, &kms, rng)?, SIGNATURE_OCTETS),
        (gsk.seal(&gmk_as_psk(gmk_id, &gmk)?, &group, &kms, rng)?, SIGNATURE_OCTETS),
        (plain.seal(&Psk::new(b"psk", &[10; 16])?)?.0, 0),
    ];
    debug_assert!(messages.iter().all(|(octets, _)| ClaimedMessage::decode(octets).is_ok()));
    let mut trusted = TrustedKms::default();
    trusted.insert(kms);
    Ok(World { time, trusted, member, psks, messages })
}
