//! Two KMSs with their users, and the published one.

use mikey_sakke::{
    Message, NtpTime, ReplayCache, Window,
    codec::Payload,
    eccsi::{KmsSecretAuthKey, Kpak, Pvt, SigningKey, Ssk},
    identifier::KeyPeriod,
    policy::{Kms, Period, ReceivingIdentity, Scheme, SigningIdentity, TrustedKms},
    sakke::{KmsMasterSecret, KmsPublicKey, Rsk},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use serde_json::Value;

use super::{list, number, octets, text};

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub fn cache() -> ReplayCache {
    ReplayCache::new(Window::CLOCK_SKEW, 1000)
}

/// A KMS with its secrets.
pub struct Authority {
    pub ksak: KmsSecretAuthKey,
    pub master: KmsMasterSecret,
    pub kms: Kms,
}

/// A user of an authority for the periods asked for.
pub struct User {
    pub signing: SigningIdentity,
    pub receiving: ReceivingIdentity,
    /// The signing keys once more, to sign what the crate would not.
    pub raw: Vec<(Period, SigningKey)>,
}

impl Authority {
    pub fn new(seed: u64, uri: &str, scheme: Scheme) -> Self {
        let mut rng = rng(seed);
        let ksak = KmsSecretAuthKey::generate(&mut rng);
        let master = KmsMasterSecret::generate(&mut rng);
        let kms = Kms::new(uri, scheme, ksak.kpak().clone(), master.public_key());
        Self { ksak, master, kms }
    }

    /// The public side again.
    pub fn public(&self) -> Kms {
        Kms::new(self.kms.uri(), self.kms.scheme(), self.kms.kpak().clone(), self.kms.public_key().clone())
    }

    pub fn trusted(&self) -> TrustedKms {
        let mut trusted = TrustedKms::default();
        trusted.insert(self.public());
        trusted
    }

    pub fn user(&self, uri: &str, at: &[NtpTime]) -> User {
        let mut rng = rng(uri.len() as u64);
        let mut signing = SigningIdentity::new(uri, &self.kms);
        let mut receiving = ReceivingIdentity::new(uri, &self.kms);
        let mut raw = Vec::new();
        for t in at {
            let period = self.kms.scheme().period_at(*t).unwrap();
            let identifier = self.kms.identifier(uri, period).unwrap().octets();
            let (ssk, pvt) = self.ksak.extract(&identifier, &mut rng);
            let again = Ssk::from_octets(&*ssk.to_octets()).unwrap();
            raw.push((period, SigningKey::new(&identifier, again, pvt.clone(), self.kms.kpak()).unwrap()));
            signing.install(&self.kms, period, ssk, pvt).unwrap();
            let rsk = self.master.extract(&identifier).unwrap();
            receiving.install(&self.kms, period, &rsk).unwrap();
        }
        User { signing, receiving, raw }
    }
}

pub fn uid_scheme() -> Scheme {
    Scheme::Uid(KeyPeriod::new(2_592_000, 0).unwrap())
}

impl User {
    /// Signs an edited message anew: the last payload must be SIGN.
    pub fn sign_again(&self, message: &[u8], edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut m = Message::decode(message).unwrap();
        edit(&mut m);
        let mut octets = m.encode().unwrap();
        assert!(matches!(m.payloads.last(), Some(Payload::Sign(_))));
        octets.truncate(octets.len() - 129);
        let signature = self.raw[0].1.sign(&octets, &mut rng(99));
        octets.extend_from_slice(signature.as_octets());
        octets
    }
}

/// The KMS of the published messages.
pub fn published_kms(v: &Value) -> Kms {
    let v = &v["kms"]["streamwide"];
    let scheme = Scheme::Uid(KeyPeriod::new(number(&v["key_period"]), number(&v["offset"])).unwrap());
    let kpak = Kpak::from_octets(&octets(&v["KPAK"])).unwrap();
    let z = KmsPublicKey::from_octets(&octets(&v["Z"])).unwrap();
    Kms::new(text(&v["kms_uri"]), scheme, kpak, z)
}

/// A user of the published messages with all of its keys.
pub fn published_user(v: &Value, kms: &Kms, uri: &str) -> User {
    let users = list(&v["kms"]["streamwide"]["users"]);
    let user = users.iter().find(|u| text(&u["uri"]) == uri).unwrap();
    let period = Period::Number(number(&user["key_period_no"]));
    let identifier = kms.identifier(uri, period).unwrap().octets();
    assert_eq!(identifier, octets(&user["uid"]));
    let keys = || {
        let ssk = Ssk::from_octets(&octets(&user["SSK"])).unwrap();
        (ssk, Pvt::from_octets(&octets(&user["PVT"])).unwrap())
    };
    let mut signing = SigningIdentity::new(uri, kms);
    let (ssk, pvt) = keys();
    signing.install(kms, period, ssk, pvt).unwrap();
    let mut receiving = ReceivingIdentity::new(uri, kms);
    receiving.install(kms, period, &Rsk::from_octets(&octets(&user["RSK"])).unwrap()).unwrap();
    let (ssk, pvt) = keys();
    let raw = vec![(period, SigningKey::new(&identifier, ssk, pvt, kms.kpak()).unwrap())];
    User { signing, receiving, raw }
}

/// The signature's other form: s to q - s. Anyone can make it.
pub fn malleated(message: &[u8]) -> Vec<u8> {
    use crypto_bigint::U256;
    let q = U256::from_be_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let mut out = message.to_vec();
    let at = message.len() - 129 + 32;
    let s = U256::from_be_slice(&message[at..at + 32]);
    out[at..at + 32].copy_from_slice(q.wrapping_sub(&s).to_be_bytes().as_ref());
    out
}
