//! Key hierarchy below the two roots: PGK -> PTK and KD -> KD-sess, and from either PEK, PIK and the IV salt.
//!
//! Source: KDF of TS 33.220 Annex B; inputs by `design.md` section 4.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::{GroupId, Layer2Id, PtkId};
use crate::suite::Suite;

/// Input values of the KDF.
pub mod spec {
    /// FC of PTK. Confirmed: TS 33.303 A.3.
    pub const FC_PTK: u8 = 0x4a;
    /// FC of PEK, PIK and salt. Unconfirmed: TS 33.303 A.4.
    pub const FC_ALGORITHM_KEY: u8 = 0x4b;
    /// FC of KD-sess: layout of the NR twin, unconfirmed for LTE: TS 33.536 A.
    pub const FC_KD_SESS: u8 = 0x7f;
    /// Distinguishes PEK.
    pub const USE_PEK: u8 = 0;
    /// Distinguishes PIK.
    pub const USE_PIK: u8 = 1;
    /// Distinguishes the IV salt of AES-GCM; private to this project.
    pub const USE_SALT: u8 = 2;
}

/// Generic KDF: HMAC-SHA-256 over FC || P0 || L0 || P1 || L1 ..., each length two octets.
/// Source: TS 33.220 B.2.
///
/// # Panics
/// A parameter longer than 65,535 octets has no length field; none of this project's is.
pub fn kdf(key: &[u8], fc: u8, parameters: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(&[fc]);
    for p in parameters {
        let len = u16::try_from(p.len()).expect("KDF parameters are short constants of the protocol");
        mac.update(p);
        mac.update(&len.to_be_bytes());
    }
    mac.finalize().into_bytes().into()
}

macro_rules! secret {
    ($(#[$doc:meta])* $t:ident) => {
        $(#[$doc])*
        #[derive(Zeroize, ZeroizeOnDrop)]
        pub struct $t([u8; 32]);

        impl $t {
            /// Takes 32 octets; the caller wipes its own copy.
            pub fn new(octets: [u8; 32]) -> Self {
                Self(octets)
            }

            /// The key's octets, for derivation, transport and an explicitly wanted key log.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// A second owner of the same key. Keys are not `Clone`, so that copies are seen in the code.
            pub fn duplicate(&self) -> Self {
                Self(self.0)
            }
        }

        impl PartialEq for $t {
            /// Constant time.
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }
        impl Eq for $t {}
    };
}

secret! {
    /// ProSe Group Key: root of a group's traffic keys.
    Pgk
}
secret! {
    /// Key of a one-to-one link: root of its session keys.
    Kd
}
secret! {
    /// ProSe Traffic Key: one sender's key under a PGK, good for 65,536 PDUs.
    Ptk
}
secret! {
    /// Session key of a link, good for 65,536 PDUs in each direction.
    KdSess
}

/// PTK of a sender. Source: TS 33.303 A.3.
pub fn ptk(pgk: &Pgk, sender: Layer2Id, id: PtkId, group: GroupId) -> Ptk {
    Ptk(kdf(&pgk.0, spec::FC_PTK, &[&sender.octets(), &id.get().to_be_bytes(), &group.octets()]))
}

/// KD-sess from both nonces. Source: TS 33.536 A (twin), `design.md` section 4.
pub fn kd_sess(kd: &Kd, nonce_1: &[u8; 16], nonce_2: &[u8; 16]) -> KdSess {
    KdSess(kdf(&kd.0, spec::FC_KD_SESS, &[nonce_1, nonce_2]))
}

/// What a suite's algorithms are keyed with: PEK, PIK and the IV salt.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct FrameKeys {
    pek: [u8; 32],
    pek_len: usize,
    pik: [u8; 16],
    salt: [u8; 12],
}

impl FrameKeys {
    /// From a PTK.
    pub fn from_ptk(ptk: &Ptk, suite: Suite) -> Self {
        Self::derive(&ptk.0, suite)
    }

    /// From a KD-sess.
    pub fn from_kd_sess(kd_sess: &KdSess, suite: Suite) -> Self {
        Self::derive(&kd_sess.0, suite)
    }

    /// From parts, for known-answer tests of algorithms: `pek` of 16 or 32 octets.
    pub fn from_parts(pek: &[u8], pik: [u8; 16], salt: [u8; 12]) -> Self {
        let mut keys = Self { pek: [0; 32], pek_len: pek.len(), pik, salt };
        keys.pek[..pek.len()].copy_from_slice(pek);
        keys
    }

    /// The n least significant octets of each output are the key; what the suite has no use for stays zero.
    /// Source: TS 33.536 A.3.
    fn derive(key: &[u8; 32], suite: Suite) -> Self {
        let output = |usage, id| kdf(key, spec::FC_ALGORITHM_KEY, &[&[usage], &[id]]);
        let pek_len = suite.pek_len();
        let mut keys = Self { pek: [0; 32], pek_len, pik: [0; 16], salt: [0; 12] };
        let mut k = output(spec::USE_PEK, suite.ciphering_id());
        keys.pek[..pek_len].copy_from_slice(&k[32 - pek_len..]);
        if suite.mac_len() == 4 {
            k = output(spec::USE_PIK, suite.integrity_id());
            keys.pik.copy_from_slice(&k[16..]);
        }
        if matches!(suite, Suite::Aes128Gcm | Suite::Aes256Gcm) {
            k = output(spec::USE_SALT, suite.ciphering_id());
            keys.salt.copy_from_slice(&k[20..]);
        }
        k.zeroize();
        keys
    }

    /// Ciphering key, 16 or 32 octets.
    pub fn pek(&self) -> &[u8] {
        &self.pek[..self.pek_len]
    }

    /// Integrity key of an EIA.
    pub fn pik(&self) -> &[u8; 16] {
        &self.pik
    }

    /// IV salt of AES-GCM.
    pub fn salt(&self) -> &[u8; 12] {
        &self.salt
    }
}
