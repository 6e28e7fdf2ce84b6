//! Judging a chain offline: profile, path to a root of the identity's own PLMN, validity, CRLs, role, group.
//! Source: `go-mode.md` sections 1 and 8.
//!
//! ```text
//! chain --profile--> path --PLMN--> root --validity at max(clock, floor)--> CRL of every issuer --> role --> group
//! ```

use std::collections::BTreeSet;

use p256::PublicKey;
use pc5_dataplane::ids::GroupId;
use pc5_dataplane::keys::UnixSeconds;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};

use super::crl::{CrlStatus, CrlStore, Freshness, Installed, Standing};
use super::identity::{Identity, Plmn, Role, Roles};
use super::profile::{self, Ca, ClaimedLeaf, Frame, IssuerId, MAX_CHAIN};
use super::refusal::{CrlError, ProfileError, Refusal};
use super::wire::CrlHeld;

/// A root, and the one network whose identities it vouches for.
#[derive(Debug, Clone)]
pub struct TrustEntry {
    plmn: Plmn,
    ca: Ca,
    anchor: TrustAnchor<'static>,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    der: Vec<u8>,
}

impl TrustEntry {
    /// Trusts the self-signed `root` (DER) for identities of `plmn`.
    ///
    /// # Errors
    /// [`ProfileError`] when it is not a CA certificate of the profile that signed itself.
    pub fn new(plmn: Plmn, root: &[u8]) -> Result<Self, ProfileError> {
        let (ca, frame) = profile::ca(root)?;
        let (tbs, algorithm, signature) = profile::signed(root).ok_or(ProfileError::Malformed)?;
        if frame.issuer != ca.name || !ca.key.verify(algorithm.oid, tbs, signature) {
            return Err(ProfileError::Path("not self-signed: no root".into()));
        }
        let der = CertificateDer::from_slice(root);
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|e| ProfileError::Path(e.to_string()))?;
        let anchor = anchor.to_owned();
        let Frame { not_before, not_after, .. } = frame;
        Ok(Self { plmn, ca, anchor, not_before, not_after, der: root.to_vec() })
    }

    /// The network.
    pub const fn plmn(&self) -> Plmn {
        self.plmn
    }

    /// The root certificate, DER.
    pub fn root(&self) -> &[u8] {
        &self.der
    }

    /// Names the root as an issuer.
    pub const fn issuer_id(&self) -> IssuerId {
        self.ca.id
    }
}

/// What the holder must be allowed to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// The role.
    pub role: Role,
    /// The group, where there is one: in the certificate, or the certificate names none.
    pub group: Option<GroupId>,
}

/// Time, passed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// What the device's clock says.
    pub now: UnixSeconds,
    /// The time floor: the newest thisUpdate or notBefore ever authenticated, kept durably.
    pub floor: UnixSeconds,
}

impl Clock {
    /// The time that counts: a clock set back does not bring back what has expired.
    pub const fn at(self) -> UnixSeconds {
        if self.now > self.floor { self.now } else { self.floor }
    }
}

/// A holder that was judged good.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Who it is.
    pub identity: Identity,
    /// What it may be.
    pub roles: Roles,
    /// Groups it may be in; none: every group.
    pub groups: Option<BTreeSet<GroupId>>,
    /// Its key: verifies its signatures, and HPKE seals to it.
    pub public_key: PublicKey,
    /// Start of the leaf's validity.
    pub not_before: UnixSeconds,
    /// End of the leaf's validity: a link ends then at the latest.
    pub not_after: UnixSeconds,
    /// Earliest end of validity in the path, root included.
    pub path_not_after: UnixSeconds,
    /// Newest notBefore in the path: the time floor may be raised to it.
    pub newest: UnixSeconds,
    /// SHA-256 of the leaf certificate.
    pub fingerprint: [u8; 32],
    /// A CRL in the path is past its nextUpdate and serves within policy's grace only: to be said loudly.
    pub crl_in_grace: bool,
    path: Path,
}

/// What is needed to judge again without a signature.
#[derive(Debug, Clone)]
struct Path {
    root: IssuerId,
    /// Of each certificate, leaf first: its issuer and its serial number.
    steps: Vec<(IssuerId, Box<[u8]>)>,
}

/// The trust entries, CRLs and policy of one device.
#[derive(Debug)]
pub struct Judge {
    /// Sorted by PLMN; `anchors` in the same order.
    roots: Vec<TrustEntry>,
    anchors: Vec<TrustAnchor<'static>>,
    /// Intermediates that a path went through, with their root: they sign CRLs too.
    learnt: Vec<(IssuerId, Ca)>,
    /// Stored CRLs of issuers to which no path has led yet.
    set_aside: Vec<Vec<u8>>,
    crls: CrlStore,
    freshness: Freshness,
}

impl Judge {
    /// A judge without CRLs, which refuses everything until it has them.
    #[must_use]
    pub fn new(roots: Vec<TrustEntry>, freshness: Freshness) -> Self {
        let (learnt, set_aside, crls) = (Vec::new(), Vec::new(), CrlStore::default());
        let mut judge = Self { roots: Vec::new(), anchors: Vec::new(), learnt, set_aside, crls, freshness };
        judge.set_roots(roots);
        judge
    }

    /// Sets what happens when a CRL is past its nextUpdate.
    pub fn set_freshness(&mut self, freshness: Freshness) {
        self.freshness = freshness;
    }

    /// Replaces the trust entries, as a fetch of roots does: what is not among them is trusted no more. Stored CRLs
    /// stay, so that no number falls when a root comes back; see also [`Self::reconsider`].
    pub fn set_roots(&mut self, mut roots: Vec<TrustEntry>) {
        roots.sort_by(|a, b| a.plmn.cmp(&b.plmn).then_with(|| a.ca.id.cmp(&b.ca.id)));
        roots.dedup_by(|a, b| a.plmn == b.plmn && a.der == b.der);
        self.anchors = roots.iter().map(|r| r.anchor.clone()).collect();
        self.roots = roots;
        let roots = &self.roots;
        self.learnt.retain(|(root, _)| roots.iter().any(|r| r.ca.id == *root));
    }

    /// The trust entries.
    pub fn roots(&self) -> &[TrustEntry] {
        &self.roots
    }

    /// Judges `chain` (DER, leaf first, root left out).
    ///
    /// # Errors
    /// The first [`Refusal`] in the order of the module's picture.
    pub fn judge(&self, chain: &[Vec<u8>], need: Need, clock: Clock) -> Result<Leaf, Refusal> {
        let (mut leaf, _) = self.path(chain, clock)?;
        leaf.crl_in_grace = self.status(&leaf.path, clock)?;
        leaf.allows(need)?;
        Ok(leaf)
    }

    /// Who holds the chain: profile, path, PLMN and validity, without CRLs, role and group. For an issuer that knows
    /// itself what it revoked; nobody else decides by this alone.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn identify(&self, chain: &[Vec<u8>], clock: Clock) -> Result<Leaf, Refusal> {
        self.path(chain, clock).map(|(leaf, _)| leaf)
    }

    /// Judges a live peer again, after a new CRL, new roots, or as time passes; no signature is verified anew.
    /// Returns whether a CRL in the path is within grace only.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_again(&self, leaf: &Leaf, need: Need, clock: Clock) -> Result<bool, Refusal> {
        let root = |r: &&TrustEntry| r.ca.id == leaf.path.root;
        if !self.roots.iter().filter(root).any(|r| r.plmn == leaf.identity.plmn()) {
            return Err(Refusal::UnknownRoot);
        }
        let at = clock.at();
        if at > leaf.path_not_after {
            return Err(Refusal::Expired { not_after: leaf.path_not_after, at });
        }
        let in_grace = self.status(&leaf.path, clock)?;
        leaf.allows(need)?;
        Ok(in_grace)
    }

    /// Remembers the intermediate CAs of a chain that leads to a trusted root, so that their CRLs can be taken; those that
    /// were stored, see [`Self::restore_crl`], count from now on. At most 64 in all. Returns how many were new.
    ///
    /// # Errors
    /// [`Refusal`] when the chain does not lead to a root of its identity's PLMN, is not valid now, or goes through a CA
    /// that is revoked by a CRL held.
    pub fn learn(&mut self, chain: &[Vec<u8>], clock: Clock) -> Result<usize, Refusal> {
        let (leaf, cas) = self.path(chain, clock)?;
        // The CRLs about the CAs, as far as there are any: the one about the leaf may be what is wanting.
        for (position, (issuer, serial)) in leaf.path.steps.iter().enumerate().skip(1) {
            if self.crls.get(issuer).is_some_and(|crl| crl.revokes(serial)) {
                return Err(Refusal::Revoked { position });
            }
        }
        let before = self.learnt.len();
        for ca in cas {
            let known = self.learnt.iter().any(|(_, c)| c.id == ca.id && c.name == ca.name);
            if !known && self.learnt.len() < MAX_LEARNT {
                self.learnt.push((leaf.path.root, ca));
            }
        }
        let new = self.learnt.len() - before;
        if new > 0 {
            self.reconsider(clock);
        }
        Ok(new)
    }

    /// Tries those stored CRLs again whose issuer was not known when they were restored: after new roots, so that no number
    /// falls because its root was away at the start.
    pub fn reconsider(&mut self, clock: Clock) {
        std::mem::take(&mut self.set_aside).into_iter().for_each(|der| self.restore_crl(der, clock));
    }

    /// Takes a CRL (DER) from the device's own store. One whose issuer is not known yet waits until [`Self::learn`] finds a
    /// path to it: what an intermediate said is not forgotten by a restart. What is of no use is dropped.
    pub fn restore_crl(&mut self, der: Vec<u8>, clock: Clock) {
        if let Err(CrlError::UnknownIssuer | CrlError::Signature) = self.install_crl(&der, clock) {
            self.set_aside.push(der);
        }
    }

    /// Takes a CRL of a trusted root or of a learnt intermediate.
    ///
    /// # Errors
    /// [`CrlError`]; the stored one stays.
    pub fn install_crl(&mut self, der: &[u8], clock: Clock) -> Result<Installed, CrlError> {
        let issuers = self.roots.iter().map(|r| &r.ca).chain(self.learnt.iter().map(|(_, ca)| ca));
        self.crls.install(der, issuers, clock)
    }

    /// The CRLs held, DER: what is stored durably, and handed on.
    pub fn crls(&self) -> impl Iterator<Item = (&IssuerId, &[u8])> {
        self.crls.iter().map(|(issuer, crl)| (issuer, crl.der.as_slice()))
    }

    /// Numbers of the CRLs held, for [`super::Credential`]; 255 at most.
    pub fn crls_held(&self) -> Vec<CrlHeld> {
        self.crls.iter().take(255).map(|(id, crl)| held(id, crl.number.clone())).collect()
    }

    /// The CRLs that a peer lacks or holds under a lower number: to be sent to it after the join.
    pub fn newer_crls<'a>(&'a self, peer: &'a [CrlHeld]) -> impl Iterator<Item = &'a [u8]> {
        self.crls.iter().filter_map(move |(id, crl)| {
            let ours = held(id, crl.number.clone());
            let has = peer.iter().any(|p| p.issuer == ours.issuer && p.number >= ours.number);
            (!has).then_some(crl.der.as_slice())
        })
    }

    /// How it stands with the CRL of every issuer that is judged by: the roots, and the intermediates learnt.
    pub fn crl_status(&self, clock: Clock) -> Vec<CrlStatus> {
        let plmn_of = |root: &IssuerId| self.roots.iter().find(|r| r.ca.id == *root).map(TrustEntry::plmn);
        let roots = self.roots.iter().map(|r| (r.ca.id, r.plmn));
        let learnt = self.learnt.iter().filter_map(|(root, ca)| Some((ca.id, plmn_of(root)?)));
        let status = |(issuer, plmn)| {
            let crl = self.crls.get(&issuer);
            let standing = crl.map_or(Standing::Missing, |c| c.standing(clock.at(), self.freshness));
            CrlStatus { issuer, plmn, standing, held: crl.map(|c| c.view(self.freshness)) }
        };
        roots.chain(learnt).map(status).collect()
    }

    /// The worst standing of the CRLs that a holder is judged by.
    pub fn standing(&self, leaf: &Leaf, clock: Clock) -> Standing {
        let of = |(issuer, _): &(IssuerId, Box<[u8]>)| {
            self.crls.get(issuer).map_or(Standing::Missing, |c| c.standing(clock.at(), self.freshness))
        };
        leaf.path.steps.iter().map(of).max().unwrap_or(Standing::Missing)
    }

    /// Earliest nextUpdate of the CRLs held: when to have fetched new ones.
    pub fn crl_next_update(&self) -> Option<UnixSeconds> {
        self.crls.iter().map(|(_, crl)| crl.next_update).min()
    }

    /// Profile, path, PLMN and validity. Also returns the intermediates.
    fn path(&self, chain: &[Vec<u8>], clock: Clock) -> Result<(Leaf, Vec<Ca>), Refusal> {
        let Some((first, rest)) = chain.split_first().filter(|_| chain.len() <= MAX_CHAIN) else {
            return Err(Refusal::ChainLength { found: chain.len() });
        };
        let of_profile = |position| move |what| Refusal::Profile { position, what };
        let claimed = profile::leaf(first).map_err(of_profile(0))?;
        let mut cas = Vec::with_capacity(rest.len());
        let mut frames = Vec::with_capacity(rest.len());
        for (i, der) in rest.iter().enumerate() {
            let (ca, frame) = profile::ca(der).map_err(of_profile(i + 1))?;
            cas.push(ca);
            frames.push(frame);
        }

        let at = clock.at();
        let all = || std::iter::once(&claimed.frame).chain(&frames);
        let newest = all().map(|f| f.not_before).max().unwrap_or(0);
        let oldest_end = all().map(|f| f.not_after).min().unwrap_or(0);
        let validity = valid(newest, oldest_end, at);
        // Whether the path exists comes before whether it is valid now: an expired chain is walked at a time when
        // it was valid, then refused all the same.
        let walk_at = if validity.is_ok() { at } else { newest.min(oldest_end) };
        let root = self.root_of(chain, &claimed, walk_at, &validity)?;
        validity?;
        valid(root.not_before, root.not_after, at)?;

        let issuers = cas.iter().map(|ca| ca.id).chain([root.ca.id]);
        let steps = issuers.zip(all().map(|f| f.serial.clone())).collect();
        let path = Path { root: root.ca.id, steps };
        let ClaimedLeaf { identity, roles, groups, public_key, frame } = claimed;
        let leaf = Leaf {
            identity,
            roles,
            groups,
            public_key,
            not_before: frame.not_before,
            not_after: frame.not_after,
            path_not_after: oldest_end.min(root.not_after),
            newest: newest.max(root.not_before),
            fingerprint: Sha256::digest(first).into(),
            crl_in_grace: false,
            path,
        };
        Ok((leaf, cas))
    }

    /// The root of the identity's PLMN to which the chain leads.
    fn root_of(
        &self,
        chain: &[Vec<u8>],
        claimed: &ClaimedLeaf,
        at: UnixSeconds,
        validity: &Result<(), Refusal>,
    ) -> Result<&TrustEntry, Refusal> {
        let plmn = claimed.identity.plmn();
        let start = self.roots.partition_point(|r| r.plmn < plmn);
        let end = self.roots.partition_point(|r| r.plmn <= plmn);
        let no_root = |e: &webpki::Error| {
            matches!(e, webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
        };
        match walk(chain, &self.anchors[start..end], at) {
            Ok(index) => return Ok(&self.roots[start + index]),
            Err(Walk::Order(position)) => {
                return Err(Refusal::Profile { position, what: ProfileError::Order });
            }
            Err(Walk::Path(e)) if !no_root(&e) => {
                // Possible only when no time exists at which the whole chain is valid.
                if let (
                    Err(refusal),
                    webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. },
                ) = (validity, &e)
                {
                    return Err(refusal.clone());
                }
                return Err(Refusal::Profile { position: 0, what: ProfileError::Path(e.to_string()) });
            }
            Err(Walk::Path(_)) => {}
        }
        let foreign = [&self.anchors[..start], &self.anchors[end..]];
        match foreign.iter().any(|anchors| walk(chain, anchors, at).is_ok()) {
            true => Err(Refusal::ForeignRoot { identity_plmn: plmn }),
            false => Err(Refusal::UnknownRoot),
        }
    }

    /// A CRL is needed of every issuer in the path. Returns whether one serves within grace only.
    fn status(&self, path: &Path, clock: Clock) -> Result<bool, Refusal> {
        let mut in_grace = false;
        for (position, (issuer, serial)) in path.steps.iter().enumerate() {
            let crl = self.crls.get(issuer).ok_or(Refusal::CrlMissing { position })?;
            // A revocation stays true however old the list is.
            if crl.revokes(serial) {
                return Err(Refusal::Revoked { position });
            }
            in_grace |= crl
                .usable(clock.at(), self.freshness)
                .map_err(|next_update| Refusal::CrlTooOld { position, next_update })?;
        }
        Ok(in_grace)
    }
}

impl Leaf {
    /// Who issued the leaf certificate.
    pub fn issuer(&self) -> &IssuerId {
        self.path.steps.first().map_or(&self.path.root, |(issuer, _)| issuer)
    }

    /// Serial number of the leaf certificate, big-endian without leading zeros.
    pub fn serial(&self) -> &[u8] {
        self.path.steps.first().map_or(&[], |(_, serial)| serial)
    }

    /// Whether role and group are in the certificate.
    ///
    /// # Errors
    /// [`Refusal::Role`], [`Refusal::Group`].
    pub fn allows(&self, need: Need) -> Result<(), Refusal> {
        if !self.roles.contains(need.role) {
            return Err(Refusal::Role { needed: need.role });
        }
        match (need.group, &self.groups) {
            (Some(needed), Some(groups)) if !groups.contains(&needed) => Err(Refusal::Group { needed }),
            _ => Ok(()),
        }
    }
}

enum Walk {
    /// The certificate at this place was not issued by the next one.
    Order(usize),
    Path(webpki::Error),
}

/// Walks the chain to one of `anchors`; returns which. The chain must be the path, in order, nothing left over.
fn walk(chain: &[Vec<u8>], anchors: &[TrustAnchor<'static>], at: UnixSeconds) -> Result<usize, Walk> {
    let ders: Vec<_> = chain.iter().map(|der| CertificateDer::from_slice(der)).collect();
    let Some((leaf, intermediates)) = ders.split_first() else { return Err(Walk::Order(0)) };
    let leaf = EndEntityCert::try_from(leaf).map_err(Walk::Path)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
    let usage = KeyUsage::client_auth();
    let path = leaf
        .verify_for_usage(SIGNATURES, anchors, intermediates, time, usage, None, None)
        .map_err(Walk::Path)?;
    let mut used = path.intermediate_certificates();
    for (i, sent) in intermediates.iter().enumerate() {
        if used.next().is_none_or(|c| c.der().as_ref() != sent.as_ref()) {
            return Err(Walk::Order(i));
        }
    }
    let anchor = path.anchor();
    anchors.iter().position(|a| std::ptr::eq(a, anchor)).ok_or(Walk::Path(webpki::Error::UnknownIssuer))
}

fn valid(not_before: UnixSeconds, not_after: UnixSeconds, at: UnixSeconds) -> Result<(), Refusal> {
    if at < not_before {
        return Err(Refusal::NotYetValid { not_before, at });
    }
    if at > not_after {
        return Err(Refusal::Expired { not_after, at });
    }
    Ok(())
}

fn held(issuer: &IssuerId, number: super::crl::CrlNumber) -> CrlHeld {
    let mut short = [0; 8];
    short.copy_from_slice(&issuer[..8]);
    CrlHeld { issuer: short, number }
}

/// CA keys are P-256 or P-384. Source: `go-mode.md` section 1.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
];

/// Intermediate CAs remembered.
const MAX_LEARNT: usize = 64;
