//! Certificate revocation lists held offline. Source: `go-mode.md` sections 1 and 8; RFC 5280 5 and 6.3.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use der::Decode;
use pc5_dataplane::keys::UnixSeconds;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::crl::CrlNumber as CrlNumberExtension;

use super::identity::Plmn;
use super::judge::Clock;
use super::profile::{Ca, IssuerId, signed};
use super::refusal::CrlError;

/// A CRL number: a big-endian integer of at most 20 octets, compared as a number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CrlNumber(Box<[u8]>);

impl CrlNumber {
    /// From big-endian octets, leading zeros allowed; `None` beyond 20 octets.
    pub fn new(octets: &[u8]) -> Option<Self> {
        // A DER integer has a leading zero when its first bit is set: 21 octets may carry 20.
        let zeros = octets.iter().take_while(|&&b| b == 0).count();
        let number = octets.get(zeros..)?;
        (number.len() <= 20 && octets.len() <= 21).then(|| Self(number.into()))
    }

    /// Big-endian octets without leading zeros; none for 0.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl From<u64> for CrlNumber {
    fn from(number: u64) -> Self {
        Self(number.to_be_bytes().into_iter().skip_while(|&b| b == 0).collect())
    }
}

impl Ord for CrlNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut low = [0; 8];
        match 8_usize.checked_sub(self.0.len()) {
            Some(start) => {
                low[start..].copy_from_slice(&self.0);
                write!(f, "{}", u64::from_be_bytes(low))
            }
            None => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    }
}

impl fmt::Debug for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrlNumber({self})")
    }
}

/// What happens when nextUpdate has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// The chain is refused at once.
    Refuse,
    /// The CRL still serves for this many seconds; whoever judges says so loudly.
    Grace(u64),
}

impl Default for Freshness {
    /// 7 days: a group out of coverage goes on for a week.
    fn default() -> Self {
        Self::Grace(7 * 24 * 3600)
    }
}

/// How far the CRLs of an issuer, or of a path, may be relied on. The later one is the worse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    /// nextUpdate is still to come.
    Fresh,
    /// nextUpdate has passed; within policy's grace.
    Grace,
    /// Too old: what the issuer certified is refused.
    Stale,
    /// There is none: what the issuer certified is refused.
    Missing,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Grace => "grace",
            Self::Stale => "stale",
            Self::Missing => "missing",
        })
    }
}

/// What is held of an issuer whose certificates are judged here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlStatus {
    /// The issuer.
    pub issuer: IssuerId,
    /// The network that it vouches for.
    pub plmn: Plmn,
    /// Whether it may be relied on.
    pub standing: Standing,
    /// The CRL, if there is one.
    pub held: Option<CrlView>,
}

/// A CRL that is held. Times in Unix seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlView {
    /// Its number.
    pub number: CrlNumber,
    /// When it was made.
    pub this_update: UnixSeconds,
    /// When the next one is due.
    pub next_update: UnixSeconds,
    /// From then on it is too old: nextUpdate and policy's grace.
    pub usable_until: UnixSeconds,
    /// When it was taken in here, by the device's clock.
    pub taken: UnixSeconds,
    /// Certificates on it.
    pub revoked: usize,
}

/// A CRL whose signature was verified.
#[derive(Debug)]
pub(crate) struct Crl {
    pub(crate) der: Vec<u8>,
    pub(crate) number: CrlNumber,
    pub(crate) this_update: UnixSeconds,
    pub(crate) next_update: UnixSeconds,
    taken: UnixSeconds,
    revoked: BTreeSet<Box<[u8]>>,
}

/// What taking in a CRL did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed {
    /// Its issuer.
    pub issuer: IssuerId,
    /// Its number.
    pub number: CrlNumber,
    /// When it was made: the time floor may be raised to it.
    pub this_update: UnixSeconds,
    /// False when this very CRL was held already. After a change every live peer is judged again.
    pub changed: bool,
}

/// The newest CRL of each issuer.
#[derive(Debug, Default)]
pub(crate) struct CrlStore {
    by_issuer: BTreeMap<IssuerId, Crl>,
}

impl CrlStore {
    pub(crate) fn get(&self, issuer: &IssuerId) -> Option<&Crl> {
        self.by_issuer.get(issuer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IssuerId, &Crl)> {
        self.by_issuer.iter()
    }

    /// Takes a CRL of one of `issuers`.
    pub(crate) fn install<'a>(
        &mut self,
        der: &[u8],
        issuers: impl Iterator<Item = &'a Ca>,
        clock: Clock,
    ) -> Result<Installed, CrlError> {
        let (mut crl, issuer) = Crl::verify(der, issuers)?;
        crl.taken = clock.now;
        // The floor lets in what was authenticated before, and adds nothing: else each CRL could carry it further ahead of the
        // clock, until every certificate has expired.
        if crl.this_update > clock.now.saturating_add(MAX_AHEAD).max(clock.floor) {
            return Err(CrlError::Future { this_update: crl.this_update, at: clock.at() });
        }
        let (number, this_update) = (crl.number.clone(), crl.this_update);
        let mut changed = true;
        if let Some(held) = self.by_issuer.get(&issuer) {
            // Two lists under one number are a CA's mistake; the later one counts, the earlier never replaces it.
            if number < held.number || number == held.number && this_update < held.this_update {
                return Err(CrlError::RolledBack { found: number, held: held.number.clone() });
            }
            changed = held.der != crl.der;
        }
        self.by_issuer.insert(issuer, crl);
        Ok(Installed { issuer, number, this_update, changed })
    }
}

impl Crl {
    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }

    /// Whether it may be relied on: `Ok(true)` within grace only; `Err` with its nextUpdate when too old.
    pub(crate) fn usable(&self, at: UnixSeconds, freshness: Freshness) -> Result<bool, UnixSeconds> {
        if at <= self.next_update {
            return Ok(false);
        }
        match freshness {
            Freshness::Grace(seconds) if at <= self.next_update.saturating_add(seconds) => Ok(true),
            Freshness::Refuse | Freshness::Grace(_) => Err(self.next_update),
        }
    }

    pub(crate) fn standing(&self, at: UnixSeconds, freshness: Freshness) -> Standing {
        match self.usable(at, freshness) {
            Ok(false) => Standing::Fresh,
            Ok(true) => Standing::Grace,
            Err(_) => Standing::Stale,
        }
    }

    pub(crate) fn view(&self, freshness: Freshness) -> CrlView {
        let grace = match freshness {
            Freshness::Refuse => 0,
            Freshness::Grace(seconds) => seconds,
        };
        CrlView {
            number: self.number.clone(),
            this_update: self.this_update,
            next_update: self.next_update,
            usable_until: self.next_update.saturating_add(grace),
            taken: self.taken,
            revoked: self.revoked.len(),
        }
    }

    /// Form, scope, issuer, signature.
    fn verify<'a>(der: &[u8], issuers: impl Iterator<Item = &'a Ca>) -> Result<(Self, IssuerId), CrlError> {
        if der.len() > MAX_CRL {
            return Err(CrlError::Size { found: der.len(), max: MAX_CRL });
        }
        let (tbs, algorithm, signature) = signed(der).ok_or(CrlError::Malformed("not a signed structure"))?;
        let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der)
            .map_err(|_| CrlError::Malformed("not a CertificateList"))?;
        if list.tbs_cert_list.signature != algorithm {
            return Err(CrlError::Malformed("two signature algorithms"));
        }

        // Names and keys are tried before anything else is read: what nobody known signed is not worth more work.
        let mut known = false;
        let mut signer = None;
        for ca in issuers.filter(|ca| ca.signs_crls && ca.name == list.tbs_cert_list.issuer) {
            known = true;
            if ca.key.verify(algorithm.oid, tbs, signature) {
                signer = Some(ca.id);
                break;
            }
        }
        let issuer = signer.ok_or(if known { CrlError::Signature } else { CrlError::UnknownIssuer })?;

        // webpki refuses delta and indirect CRLs and unknown critical extensions, of the list and of its entries.
        webpki::OwnedCertRevocationList::from_der(der).map_err(|e| CrlError::Scope(e.to_string()))?;
        let list = list.tbs_cert_list;
        let extensions = list.crl_extensions.as_deref().unwrap_or_default();
        let oid_is = |oid| move |e: &&x509_cert::ext::Extension| e.extn_id == oid;
        use const_oid::db::rfc5280;
        if extensions.iter().any(|e| e.extn_id == rfc5280::ID_CE_ISSUING_DISTRIBUTION_POINT) {
            // A list of one distribution point says nothing about certificates of another.
            return Err(CrlError::Scope("issuingDistributionPoint".into()));
        }
        let number = extensions
            .iter()
            .find(oid_is(rfc5280::ID_CE_CRL_NUMBER))
            .and_then(|e| CrlNumberExtension::from_der(e.extn_value.as_bytes()).ok())
            .and_then(|n| CrlNumber::new(n.0.as_bytes()))
            .ok_or(CrlError::Malformed("no CRL number of at most 20 octets"))?;
        let next_update = list.next_update.ok_or(CrlError::Malformed("no nextUpdate"))?;
        let revoked = list
            .revoked_certificates
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.serial_number.as_bytes().into())
            .collect();
        let crl = Self {
            der: der.to_vec(),
            number,
            this_update: list.this_update.to_unix_duration().as_secs(),
            next_update: next_update.to_unix_duration().as_secs(),
            taken: 0,
            revoked,
        };
        Ok((crl, issuer))
    }
}

/// Octets of a CRL, at most. Source: `go-mode.md` section 10, limits.
pub const MAX_CRL: usize = 1 << 20;
/// A CRL's thisUpdate may lie this far ahead of the clock. Source: `go-mode.md` section 8.
const MAX_AHEAD: u64 = 5 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers() {
        let n = |o: &[u8]| CrlNumber::new(o).unwrap();
        assert!(n(&[2]) < n(&[1, 0]));
        assert!(n(&[0, 0, 2]) > n(&[1]));
        assert_eq!(n(&[0, 0, 2]), n(&[2]));
        assert_eq!(n(&[0]), n(&[]));
        assert_eq!(n(&[1, 0]), CrlNumber::from(256));
        assert_eq!(CrlNumber::from(0).octets(), [0; 0]);
        assert!(CrlNumber::new(&[1; 20]).is_some());
        assert!(CrlNumber::new(&[1; 21]).is_none());
        assert!(CrlNumber::new(&[0, 255, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]).is_some());
        assert_eq!(CrlNumber::from(258).to_string(), "258");
        assert_eq!(n(&[1; 9]).to_string(), "0x010101010101010101");
    }
}
