//! Direct re-keying of a link: the member asks, the owner commands. Source: `go-mode.md` section 6; contribution
//! 6.3.4.5.
//!
//! ```text
//!  (0 REKEY_TRIGGER  <-  owner)
//!   1 REKEY_REQUEST  ->  member: ExpectCommand
//!   2 REKEY_COMMAND  <-  owner: Commanded, context receives
//!   3 REKEY_COMPLETE ->  under the new key; first frame under it confirms
//! ```

use bytes::Bytes;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use pc5_dataplane::ids::{KdSessId, Lcid};
use pc5_dataplane::kdf::{KdSess, kd_sess};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::join::Refused;
use super::repeat::{Repeat, T_REKEY, T4111};
use super::schedule::{Bind, LinkRoot, hash, hpke_context, refresh_info, rekey_confirmations};
use crate::codec::go::{HpkeSealed, Message, Refreshed, RekeyCommand, RekeyRequest};
use crate::codec::{Body, segment};
use crate::credential::key::{LongTermKey, diffie_hellman};
use crate::hpke;
use crate::reject::Reject;

/// Member: message 1 is out.
pub(crate) struct ExpectCommand {
    pub repeat: Repeat,
    request: Zeroizing<Vec<u8>>,
    pub nonce_1: [u8; 16],
    msb: u8,
    e_m: Option<SecretKey>,
}

/// How a run is asked for.
pub(crate) struct Ask<'a> {
    pub refresh: bool,
    pub msb: u8,
    pub route: &'a [u8],
    pub seq: u16,
    pub sdu: usize,
    pub now: std::time::Duration,
}

/// What a run leaves.
pub(crate) struct Run {
    pub id: KdSessId,
    pub kd_sess: KdSess,
    /// New KD, where it was refreshed.
    pub root: Option<LinkRoot>,
    pub confirm_m: [u8; 32],
}

impl ExpectCommand {
    /// Message 1.
    pub(crate) fn start<R: CryptoRng + ?Sized>(ask: &Ask<'_>, rng: &mut R) -> Result<Self, Refused> {
        let mut nonce_1 = [0; 16];
        rng.fill_bytes(&mut nonce_1);
        let e_m = ask.refresh.then(|| SecretKey::generate_from_rng(rng));
        let body = Body::RekeyRequest(RekeyRequest {
            nonce_1,
            msb: ask.msb,
            route: ask.route.to_vec(),
            refresh: e_m.as_ref().map(SecretKey::public_key),
        });
        let internal = |e| Refused::new(Reject::Protocol, e);
        let request = Message { seq: ask.seq, body }.encode().map_err(internal)?;
        let sdus = segment::segment(&request, ask.sdu).map_err(internal)?;
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T_REKEY, ask.now);
        Ok(Self { repeat, request, nonce_1, msb: ask.msb, e_m })
    }

    /// Whether the run refreshes KD.
    pub(crate) fn refreshes(&self) -> bool {
        self.e_m.is_some()
    }

    /// Message 2: nothing moves unless confirm_o holds.
    pub(crate) fn on_command(
        &self,
        canonical: &[u8],
        m: &RekeyCommand,
        bind: &Bind,
        root: &LinkRoot,
        key: &dyn LongTermKey,
    ) -> Result<Run, Refused> {
        let covered = canonical.len().checked_sub(RekeyCommand::TAIL).and_then(|n| canonical.get(..n));
        let rh = hash(&[&bind.octets(), &self.request, covered.ok_or(Reject::Protocol)?]);
        let next = match (&self.e_m, &m.refreshed) {
            (None, None) => None,
            (Some(e_m), Some(refreshed)) => {
                let (info, psk) = (refresh_info(root.dksi, &self.nonce_1, &m.nonce_2), root.refresh_psk());
                let sealed = &refreshed.sealed;
                let opened = hpke::open(key, hpke_context(&info, &psk), &sealed.enc, &sealed.ciphertext)
                    .map_err(|e| Refused::new(Reject::NotAuthentic, e))?;
                let mut s = Zeroizing::new([0; 32]);
                s.copy_from_slice(opened.get(..32).ok_or(Reject::Protocol)?);
                Some(root.refreshed(&diffie_hellman(e_m, &refreshed.e_o), &s, &rh, bind.group))
            }
            _ => return Err(Refused::new(Reject::Protocol, "refreshed otherwise than asked")),
        };
        let after = next.as_ref().unwrap_or(root);
        let kd_sess = kd_sess(&after.kd, &self.nonce_1, &m.nonce_2);
        let (confirm_o, confirm_m) = rekey_confirmations(&kd_sess, &rh, after.dksi);
        let same = confirm_o.ct_eq(&m.confirm_o) & after.dksi.0.ct_eq(&m.dksi);
        if !bool::from(same) {
            return Err(Refused::new(Reject::NotAuthentic, "confirmation of the owner"));
        }
        let id = KdSessId::from_halves(self.msb, m.lsb).ok_or(Reject::Protocol)?;
        Ok(Run { id, kd_sess, root: next, confirm_m })
    }
}

/// Owner: message 2 is out, its context receives.
pub(crate) struct Commanded {
    pub nonce_1: [u8; 16],
    /// Sent until the context is confirmed; the stored answer for repeats of 1.
    pub repeat: Option<Repeat>,
    pub answer: Vec<Bytes>,
    pub id: KdSessId,
    pub root: Option<LinkRoot>,
    pub confirm_m: [u8; 32],
}

/// What the owner answers message 1 with.
pub(crate) struct Answer<'a> {
    pub bind: Bind,
    pub root: &'a LinkRoot,
    pub member: &'a PublicKey,
    pub lsb: u8,
    /// Context that message 2 goes out under.
    pub under: KdSessId,
    pub seq: u16,
    pub sdu: usize,
    pub now: std::time::Duration,
}

/// Message 2 for message 1.
pub(crate) fn command<R: CryptoRng + ?Sized>(
    answer: &Answer<'_>,
    canonical_1: &[u8],
    m: &RekeyRequest,
    rng: &mut R,
) -> Result<(Commanded, KdSess), Refused> {
    let internal = |e| Refused::new(Reject::Protocol, e);
    let id = KdSessId::from_halves(m.msb, answer.lsb).ok_or(Reject::Protocol)?;
    let mut nonce_2 = [0; 16];
    rng.fill_bytes(&mut nonce_2);
    let mut refresh = None;
    if let Some(e_m) = &m.refresh {
        let e_o = SecretKey::generate_from_rng(rng);
        let mut s = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *s);
        let root = answer.root;
        let (info, psk) = (refresh_info(root.dksi, &m.nonce_1, &nonce_2), root.refresh_psk());
        let sealed = hpke::seal(answer.member, hpke_context(&info, &psk), &*s, rng)
            .map_err(|e| Refused::new(Reject::Busy, e))?;
        let sealed = HpkeSealed { enc: sealed.enc, ciphertext: sealed.ciphertext };
        refresh = Some((diffie_hellman(&e_o, e_m), s, e_o.public_key(), sealed));
    }
    let message = |dksi, confirm_o| {
        let refreshed =
            refresh.as_ref().map(|(_, _, e_o, sealed)| Refreshed { e_o: *e_o, sealed: sealed.clone() });
        let body = RekeyCommand { nonce_2, lsb: answer.lsb, refreshed, dksi, confirm_o };
        Message { seq: answer.seq, body: Body::RekeyCommand(body) }.encode()
    };
    // RH leaves out what it is needed for.
    let mut canonical = message([0; 4], [0; 32]).map_err(internal)?;
    let covered = canonical.len().saturating_sub(RekeyCommand::TAIL);
    canonical.truncate(covered);
    let rh = hash(&[&answer.bind.octets(), canonical_1, &canonical]);
    let root = refresh.as_ref().map(|(dh, s, ..)| answer.root.refreshed(dh, s, &rh, answer.bind.group));
    let after = root.as_ref().unwrap_or(answer.root);
    let kd_sess = kd_sess(&after.kd, &m.nonce_1, &nonce_2);
    let (confirm_o, confirm_m) = rekey_confirmations(&kd_sess, &rh, after.dksi);
    let canonical = message(after.dksi.0, confirm_o).map_err(internal)?;
    let sdus = segment::segment(&canonical, answer.sdu).map_err(internal)?;
    let repeat = Repeat::new(sdus.clone(), Lcid::SIGNALLING, Some(answer.under), T4111, answer.now);
    let commanded = Commanded { nonce_1: m.nonce_1, repeat: Some(repeat), answer: sdus, id, root, confirm_m };
    Ok((commanded, kd_sess))
}

/// Runs after which KD is refreshed. Source: `go-mode.md` section 6.
pub(crate) const RUNS: u32 = 256;
