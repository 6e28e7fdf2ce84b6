//! A group manager sends a GMK to three members; one of them speaks under a GSK; another joins late.
//!
//! `cargo run -p mikey-sakke --example group_call`

use std::{error::Error, time::Duration};

use mikey_sakke::{
    NtpTime, Protection, Reject, ReplayCache, Secret, Window,
    codec::{KeyType, SecurityPolicy},
    eccsi::KmsSecretAuthKey,
    gsk::{self, GskMessage, gmk_as_psk},
    identifier::KeyPeriod,
    keys::{KeyId, Purpose},
    policy::{ExpectedSigner, Kms, ReceivingIdentity, Scheme, SignerKind, SigningIdentity, TrustedKms},
    psk::PskSet,
    sakke::{KmsMasterSecret, Ssv},
    sakke_mode::{self, Privacy, SakkeMessage},
};

const KMS: &str = "kms.example.org";
const GROUP: &str = "sip:group-7@example.org";
const MEMBERS: [&str; 3] = ["sip:ann@example.org", "sip:ben@example.org", "sip:cem@example.org"];

/// What a member keeps.
struct Member {
    receiving: ReceivingIdentity,
    signing: SigningIdentity,
    gmks: PskSet,
    cache: ReplayCache,
}

fn main() -> Result<(), Box<dyn Error>> {
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let now = NtpTime::from_unix(1_760_000_000, 0);

    // KMS.
    let (ksak, master) = (KmsSecretAuthKey::generate(rng), KmsMasterSecret::generate(rng));
    let scheme = Scheme::Uid(KeyPeriod::new(2_592_000, 0)?);
    let public = || Kms::new(KMS, scheme, ksak.kpak().clone(), master.public_key());
    let kms = public();
    let mut trusted = TrustedKms::default();
    trusted.insert(public());
    let period = scheme.period_at(now).ok_or("before the first key period")?;
    let mut signing = |uri: &str| -> Result<SigningIdentity, Box<dyn Error>> {
        let mut identity = SigningIdentity::new(uri, &kms);
        let (ssk, pvt) = ksak.extract(&kms.identifier(uri, period)?.octets(), rng);
        identity.install(&kms, period, ssk, pvt)?;
        Ok(identity)
    };
    let group = signing(GROUP)?;
    let mut members = Vec::new();
    for uri in MEMBERS {
        let mut receiving = ReceivingIdentity::new(uri, &kms);
        receiving.install(&kms, period, &master.extract(&kms.identifier(uri, period)?.octets())?)?;
        // The window reaches back over a talk of half an hour, for late entry.
        let window = Window::CLOCK_SKEW.late_entry(Duration::from_secs(1800));
        let cache = ReplayCache::new(window, 1000);
        members.push(Member { receiving, signing: signing(uri)?, gmks: PskSet::default(), cache });
    }

    // Group manager: one GMK, one message for each member.
    let gmk = Ssv::generate(rng);
    let message = SakkeMessage {
        key: &gmk,
        key_id: KeyId::new(Purpose::GMK, 0x0abc_def0),
        time: now,
        rand: Ssv::generate(rng).as_octets().to_vec(),
        policies: vec![SecurityPolicy::gmk_default(0)],
        cs_id: 4,
        parameters: None,
        privacy: Privacy::Hidden,
        to_self: false,
    };
    let made = message.seal_many(&group, &kms, &MEMBERS, &kms, rng);
    let manager = ExpectedSigner::new(SignerKind::Group, GROUP, KMS);
    for (member, octets) in members.iter_mut().zip(made) {
        let octets = octets?;
        let opened =
            sakke_mode::open(&octets, &member.receiving, &manager, &trusted, &mut member.cache, now)?;
        let guk_id = opened.guk_id.map_or(0, |id| id.0);
        println!(
            "{}: GMK {} in {} octets, GUK-ID {guk_id:08x}",
            member.receiving.uri(),
            opened.key_id,
            octets.len()
        );
        member.gmks.insert(gmk_as_psk(opened.key_id, opened.key.as_octets())?);
    }

    // Ann speaks.
    let [ann, ben, cem] = &mut members[..] else { return Err("three members".into()) };
    let speaker = ExpectedSigner::new(SignerKind::Speaker, MEMBERS[0], KMS);
    let gsk = Secret::new(Ssv::generate(rng).as_octets());
    let talk = GskMessage {
        csb_id: 0x1234_5678,
        time: now,
        rand: Ssv::generate(rng).as_octets().to_vec(),
        gsk: &gsk,
        gsk_id: &[7],
        key_type: KeyType::TEK,
        protection: Protection::SHA_256,
    };
    let gmk_id = 0x0abc_def0u32.to_be_bytes();
    let gmk = ann.gmks.get(&gmk_id).ok_or("GMK")?;
    let octets = talk.seal(gmk, &ann.signing, &kms, rng)?;
    let opened = gsk::open(&octets, &ben.gmks, &speaker, &trusted, &mut ben.cache, now)?;
    println!("ben: GSK {:02x?} of {} in {} octets", opened.gsk_id, opened.speaker, octets.len());

    // The message is repeated during the talk: Ben ignores it, Cem, who was away, joins.
    let later = now.after(Duration::from_secs(600));
    let repeat = gsk::open(&octets, &ben.gmks, &speaker, &trusted, &mut ben.cache, later);
    assert_eq!(repeat.err(), Some(Reject::Replay { identical: true }));
    gsk::open(&octets, &cem.gmks, &speaker, &trusted, &mut cem.cache, later)?;
    println!("cem: joined ten minutes later");

    // Cem holds the GMK too, but cannot speak as Ann.
    let talk = GskMessage { rand: Ssv::generate(rng).as_octets().to_vec(), ..talk };
    let forged = talk.seal(gmk, &cem.signing, &kms, rng)?;
    if let Err(reason) = gsk::open(&forged, &ben.gmks, &speaker, &trusted, &mut ben.cache, now) {
        println!("cem as ann: refused, {reason}");
    }
    Ok(())
}
