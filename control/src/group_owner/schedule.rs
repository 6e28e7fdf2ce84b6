//! Key schedule of group-owner mode and decentralised sessions. Source: `go-mode.md` sections 3, 4, 5, 6, 9, 12.
//!
//! ```text
//! E_m, E_o --dh--> K_hs --+-- owner wrap, member wrap, reject tag
//!                         +-- psk --HPKE--> S_u --> prk --> Kunicast = KD, DKSI, K_next, finished_m, finished_o
//! S_m -------------------------------------------------> Kmulticast = PGK
//! K_next, new dh, S' --refresh--> KD, DKSI, K_next
//! GK, Nonce --> session wrap          S_s --> PGK of a session
//! ```

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, KeyInit, Tag};
use hkdf::{Hkdf, HkdfExtract};
use pc5_dataplane::ids::{GroupId, Layer2Id, PgkId};
use pc5_dataplane::kdf::{Kd, KdSess, Pgk};
use pc5_dataplane::suite::Suite;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::credential::Identity;
use crate::hpke::Context;

/// A secret of 32 octets on its way through the schedule.
pub type Secret = Zeroizing<[u8; 32]>;

/// SHA-256.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    parts.iter().for_each(|p| h.update(p));
    h.finalize().into()
}

/// HKDF-Extract with SHA-256.
pub fn extract(salt: &[u8], ikm: &[&[u8]]) -> Secret {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    ikm.iter().for_each(|p| extract.input_ikm(p));
    let (mut prk, _) = extract.finalize();
    let secret = Zeroizing::new(prk.into());
    prk.as_mut_slice().zeroize();
    secret
}

/// `X(k, label, ctx, n)`: HKDF-Expand under "pc5 go v1 " || label || 00 || ctx, into `out` (at most 64 octets here).
pub fn expand(key: &[u8; 32], label: &str, context: &[&[u8]], out: &mut [u8]) {
    let mut info: Vec<&[u8]> = vec![b"pc5 go v1 ", label.as_bytes(), &[0]];
    info.extend_from_slice(context);
    // Both fail for impossible lengths only: a key of 32 octets is one of SHA-256, and 255 x 32 may be asked for.
    let hkdf = Hkdf::<Sha256>::from_prk(key).expect("a key of 32 octets is long enough");
    hkdf.expand_multi_info(&info, out).expect("at most 64 octets are asked for");
}

fn expand_32(key: &[u8; 32], label: &str, context: &[&[u8]]) -> Secret {
    let mut out = Zeroizing::new([0; 32]);
    expand(key, label, context, &mut *out);
    out
}

/// Both ends of a link, and the group, as seen in the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind {
    /// Group.
    pub group: GroupId,
    /// Member's Layer-2 id.
    pub member: Layer2Id,
    /// Owner's Layer-2 id.
    pub owner: Layer2Id,
}

impl Bind {
    /// "pc5 go v1" || 00 || group id || member Layer-2 id || owner Layer-2 id.
    pub fn octets(&self) -> [u8; 19] {
        let mut out = [0; 19];
        out[..9].copy_from_slice(b"pc5 go v1");
        out[10..13].copy_from_slice(&self.group.octets());
        out[13..16].copy_from_slice(&self.member.octets());
        out[16..].copy_from_slice(&self.owner.octets());
        out
    }
}

/// The transcript T1, T2, T3, T4 of a join as it grows.
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// T1: `request` is canonical message 1, `challenge_clear` type, seq and C2 of message 2.
    pub fn begin(bind: &Bind, request: &[u8], challenge_clear: &[u8]) -> Self {
        Self(Sha256::new().chain_update(bind.octets()).chain_update(request).chain_update(challenge_clear))
    }

    /// Adds P2, sig_o, P3 or sig_m.
    pub fn add(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// H(T) so far.
    pub fn hash(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

/// K_hs: what both ends of a join share before either has shown who it is.
pub struct Handshake(Secret);

impl Handshake {
    /// From H1 and the x coordinate of the ephemeral keys' product.
    pub fn new(h1: &[u8; 32], dh: &[u8; 32]) -> Self {
        Self(extract(h1, &[dh]))
    }

    /// Seals P2 || sig_o.
    pub fn owner_wrap(&self) -> Wrap {
        Wrap::derive(&self.0, "owner wrap", &[])
    }

    /// Seals P3 || sig_m.
    pub fn member_wrap(&self) -> Wrap {
        Wrap::derive(&self.0, "member wrap", &[])
    }

    /// Tag of REJECT.
    pub fn reject_tag(&self, nonce_1: &[u8; 16], cause: u8) -> [u8; 16] {
        let mut tag = [0; 16];
        expand(&self.0, "reject", &[nonce_1, &[cause]], &mut tag);
        tag
    }

    /// psk of the HPKE message in JOIN_ACCEPT.
    pub fn psk(&self, h4: &[u8; 32]) -> Secret {
        expand_32(&self.0, "hpke psk", &[h4])
    }

    /// Keys of the link.
    pub fn link(&self, h4: &[u8; 32], h5: &[u8; 32], s_u: &[u8; 32], group: GroupId) -> JoinedKeys {
        let prk = extract(&*expand_32(&self.0, "link", &[h4]), &[s_u]);
        let keys = LinkRoot::derive(&prk, group, h5);
        let finished_m = expand_32(&prk, "member finished", &[h5]);
        let finished_o = expand_32(&prk, "owner finished", &[h5]);
        JoinedKeys { root: keys, finished_m, finished_o }
    }
}

/// Name of a KD. Source: contribution 6.3.4.5 (DKSI).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dksi(pub [u8; 4]);

/// What a link's session keys and its next KD come from.
pub struct LinkRoot {
    /// Kunicast.
    pub kd: Kd,
    /// Its name.
    pub dksi: Dksi,
    /// Chains the next refresh to all before.
    pub k_next: Secret,
}

/// What a join leaves.
pub struct JoinedKeys {
    /// Of the link.
    pub root: LinkRoot,
    /// What message 5 shows.
    pub finished_m: Secret,
    /// What message 6 shows.
    pub finished_o: Secret,
}

impl LinkRoot {
    fn derive(prk: &[u8; 32], group: GroupId, context: &[u8; 32]) -> Self {
        let (g, mut kd, mut dksi) = (group.octets(), [0; 32], [0; 4]);
        expand(prk, "Kunicast", &[&g, context], &mut kd);
        expand(prk, "DKSI", &[&g, context], &mut dksi);
        let root =
            Self { kd: Kd::new(kd), dksi: Dksi(dksi), k_next: expand_32(prk, "refresh", &[&g, context]) };
        kd.zeroize();
        root
    }

    /// The next KD, by the direct re-keying procedure with refresh.
    #[must_use]
    pub fn refreshed(&self, dh: &[u8; 32], s: &[u8; 32], rh: &[u8; 32], group: GroupId) -> Self {
        Self::derive(&extract(&*self.k_next, &[dh, s]), group, rh)
    }

    /// psk of the HPKE message that carries S'.
    pub fn refresh_psk(&self) -> Secret {
        expand_32(&self.k_next, "refresh psk", &[])
    }

    /// psk of the HPKE message in GROUP_KEY_UPDATE.
    pub fn group_psk(&self) -> Secret {
        expand_32(&self.k_next, "group psk", &[])
    }

    /// A second owner of the same secrets.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { kd: self.kd.duplicate(), dksi: self.dksi, k_next: self.k_next.clone() }
    }
}

/// confirm_o and confirm_m of a direct re-keying.
pub fn rekey_confirmations(kd_sess: &KdSess, rh: &[u8; 32], dksi: Dksi) -> ([u8; 32], [u8; 32]) {
    let mut both = Zeroizing::new([0; 64]);
    expand(kd_sess.expose(), "rekey confirm", &[rh, &dksi.0], &mut *both);
    let (mut o, mut m) = ([0; 32], [0; 32]);
    o.copy_from_slice(&both[..32]);
    m.copy_from_slice(&both[32..]);
    (o, m)
}

/// What, beside S_m, makes a PGK of an owner.
#[derive(Clone, Copy, Debug)]
pub struct GroupContext<'a> {
    /// Owner's identity.
    pub owner: &'a Identity,
    /// Group.
    pub group: GroupId,
    /// Owner's Layer-2 id.
    pub owner_layer2: Layer2Id,
}

/// Kmulticast.
pub fn kmulticast(context: GroupContext<'_>, epoch: u64, pgk_id: PgkId, suite: Suite, s_m: &[u8; 32]) -> Pgk {
    let prk = extract(&hash(&[context.owner.to_string().as_bytes()]), &[s_m]);
    let mut pgk = expand_32(
        &prk,
        "Kmulticast",
        &[
            &context.group.octets(),
            &context.owner_layer2.octets(),
            &epoch.to_be_bytes(),
            &[pgk_id.0],
            &[suite.code()],
        ],
    );
    let key = Pgk::new(*pgk);
    pgk.zeroize();
    key
}

/// What, beside S_s, makes the PGK of a decentralised session.
#[derive(Clone, Copy, Debug)]
pub struct SessionContext<'a> {
    /// Initiator's identity.
    pub initiator: &'a Identity,
    /// Group.
    pub group: GroupId,
    /// Initiator's Layer-2 id.
    pub layer2: Layer2Id,
    /// Session id.
    pub session_id: [u8; 8],
}

/// PGK of a decentralised session.
pub fn session_pgk(context: SessionContext<'_>, pgk_id: PgkId, suite: Suite, s_s: &[u8; 32]) -> Pgk {
    let prk = extract(&hash(&[context.initiator.to_string().as_bytes()]), &[s_s]);
    let mut pgk = expand_32(
        &prk,
        "session",
        &[
            &context.group.octets(),
            &context.layer2.octets(),
            &context.session_id,
            &[pgk_id.0],
            &[suite.code()],
        ],
    );
    let key = Pgk::new(*pgk);
    pgk.zeroize();
    key
}

/// Wrap of SESSION_KEY: `bound` is B || header.
pub fn session_wrap(gk: &[u8; 32], nonce: &[u8; 32], bound: &[&[u8]]) -> Wrap {
    Wrap::derive(&extract(nonce, &[gk]), "session wrap", bound)
}

/// "pc5 go v1" || 01 || group id || initiator Layer-2 id.
pub fn session_bind(group: GroupId, initiator: Layer2Id) -> [u8; 16] {
    let mut out = [0; 16];
    out[..9].copy_from_slice(b"pc5 go v1");
    out[9] = 1;
    out[10..13].copy_from_slice(&group.octets());
    out[13..].copy_from_slice(&initiator.octets());
    out
}

/// Key and nonce of `Seal`, for one message.
pub struct Wrap(Zeroizing<[u8; 28]>);

impl Wrap {
    fn derive(key: &[u8; 32], label: &str, context: &[&[u8]]) -> Self {
        let mut wrap = Zeroizing::new([0; 28]);
        expand(key, label, context, &mut *wrap);
        Self(wrap)
    }

    fn parts(&self) -> (Aes128Gcm, [u8; 12]) {
        let (mut key, mut nonce) = (Zeroizing::new([0; 16]), [0; 12]);
        key.copy_from_slice(&self.0[..16]);
        nonce.copy_from_slice(&self.0[16..]);
        (Aes128Gcm::new((&*key).into()), nonce)
    }

    /// Seals; `None` for a plaintext longer than AES-GCM takes.
    pub fn seal(&self, plaintext: &[u8]) -> Option<Vec<u8>> {
        let (aead, nonce) = self.parts();
        let mut out = Vec::with_capacity(plaintext.len() + TAG);
        out.extend_from_slice(plaintext);
        let tag = aead.encrypt_inout_detached(&nonce.into(), b"", out.as_mut_slice().into());
        match tag {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(_) => {
                out.zeroize();
                return None;
            }
        }
        Some(out)
    }

    /// Opens what [`Self::seal`] made; `None` when it is not.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (aead, nonce) = self.parts();
        let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
        let tag = Tag::<aes_gcm::aead::consts::U16>::try_from(tag).ok()?;
        let mut out = Zeroizing::new(body.to_vec());
        aead.decrypt_inout_detached(&nonce.into(), b"", out.as_mut_slice().into(), &tag).ok()?;
        Some(out)
    }
}

/// Context of an HPKE message of this protocol. Source: `go-mode.md` section 3.
pub fn hpke_context<'a>(info: &'a [u8], psk: &'a Secret) -> Context<'a> {
    Context { info, psk: &psk[..], psk_id: b"pc5 go v1", aad: b"" }
}

/// info of the HPKE message in JOIN_ACCEPT.
pub fn keys_info(h4: &[u8; 32]) -> Vec<u8> {
    [b"pc5 go v1 keys\0".as_slice(), h4].concat()
}

/// info of the HPKE message in GROUP_KEY_UPDATE.
pub fn group_info(dksi: Dksi, lowest_valid_epoch: u64, n: u8) -> Vec<u8> {
    [b"pc5 go v1 group\0".as_slice(), &dksi.0, &lowest_valid_epoch.to_be_bytes(), &[n]].concat()
}

/// info of the HPKE message in REKEY_COMMAND.
pub fn refresh_info(old: Dksi, nonce_1: &[u8; 16], nonce_2: &[u8; 16]) -> Vec<u8> {
    [b"pc5 go v1 refresh\0".as_slice(), &old.0, nonce_1, nonce_2].concat()
}

const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use pc5_dataplane::kdf;

    /// `go-mode.md` section 12, octet for octet.
    #[test]
    fn the_worked_example() {
        let group = GroupId::from_octets([0xA0, 0xB0, 0xC0]);
        let owner_layer2 = Layer2Id::from_octets([0x0A, 0x0B, 0x0C]);
        let member = Layer2Id::from_octets([1, 2, 3]);
        let owner: Identity = "pc5:001-01:ue:go-1".parse().unwrap();
        let initiator: Identity = "pc5:001-01:ue:ue-1".parse().unwrap();
        let suite = Suite::Aes256Gcm;
        let (h4, h5, rh) = ([4; 32], [5; 32], [0x0A; 32]);

        let hs = Handshake::new(&[1; 32], &[0xDD; 32]);
        let keys = hs.link(&h4, &h5, &[0x33; 32], group);
        let prk = extract(&*expand_32(&hs.0, "link", &[&h4]), &[&[0x33; 32]]);
        let kd_sess = kdf::kd_sess(&keys.root.kd, &[0x11; 16], &[0x22; 16]);
        let context = GroupContext { owner: &owner, group, owner_layer2 };
        let (confirm_o, confirm_m) = rekey_confirmations(&kd_sess, &rh, keys.root.dksi);
        let session = SessionContext { initiator: &initiator, group, layer2: member, session_id: [0x88; 8] };

        let computed = [
            ("K_hs", hs.0.to_vec()),
            ("owner wrap", hs.owner_wrap().0.to_vec()),
            ("member wrap", hs.member_wrap().0.to_vec()),
            ("psk", hs.psk(&h4).to_vec()),
            ("prk", prk.to_vec()),
            ("Kunicast", keys.root.kd.expose().to_vec()),
            ("K_next", keys.root.k_next.to_vec()),
            ("DKSI", keys.root.dksi.0.to_vec()),
            ("finished_m", keys.finished_m.to_vec()),
            ("finished_o", keys.finished_o.to_vec()),
            ("KD-sess", kd_sess.expose().to_vec()),
            ("Kmulticast", kmulticast(context, 1, PgkId(1), suite, &[0x44; 32]).expose().to_vec()),
            ("confirm_o || confirm_m", [confirm_o, confirm_m].concat()),
            ("session PGK", session_pgk(session, PgkId(3), suite, &[0x66; 32]).expose().to_vec()),
        ];
        let expected = include_str!("../../tests/vectors/go_mode_section_12.txt");
        let mut lines = expected.lines().filter(|l| !l.starts_with('#'));
        for (name, octets) in computed {
            assert_eq!(lines.next().unwrap(), format!("{name}: {}", hex::encode(octets)));
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn a_wrap_opens_what_it_sealed_and_nothing_else() {
        let wrap = Handshake::new(&[1; 32], &[2; 32]).owner_wrap();
        let sealed = wrap.seal(b"certificate").unwrap();
        assert_eq!(*wrap.open(&sealed).unwrap(), b"certificate");
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 0x10;
            assert!(wrap.open(&altered).is_none());
            assert!(wrap.open(&sealed[..i]).is_none());
        }
        assert!(Handshake::new(&[1; 32], &[3; 32]).owner_wrap().open(&sealed).is_none());
        assert!(Handshake::new(&[1; 32], &[2; 32]).member_wrap().open(&sealed).is_none());
    }
}
