//! Every named refusal, each from a chain or CRL that differs from a good one in that point alone.

use std::sync::LazyLock;

use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, KeyPair, KeyUsagePurpose, PublicKeyData};

use super::*;
use crate::pki::{Authority, Curve, Request, Validity};
use crate::testing::rng;

const T: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const MEMBER: Need = Need { role: Role::Member, group: GROUP };
const GROUP: Option<pc5_dataplane::ids::GroupId> = pc5_dataplane::ids::GroupId::new(0xA0B0C0);

fn plmn(s: &str) -> Plmn {
    s.parse().unwrap()
}

fn clock(now: u64) -> Clock {
    Clock { now, floor: 0 }
}

fn root(s: &str) -> Authority {
    Authority::root(plmn(s), Curve::P256, Validity::days(T, 3650), &mut rng()).unwrap()
}

fn request(identity: &str) -> Request {
    let (roles, groups) = (vec![Role::Member], vec![GROUP.unwrap()]);
    Request { identity: identity.parse().unwrap(), roles, groups, validity: Validity::days(T, 365) }
}

fn issue(ca: &Authority, request: &Request) -> Vec<Vec<u8>> {
    let key = SoftwareKey::generate(&mut rng());
    let leaf = ca.issue(request, key.public_key(), &mut rng()).unwrap();
    [vec![leaf], ca.chain().to_vec()].concat()
}

/// A leaf whose parameters were altered before it was signed.
fn altered(ca: &Authority, alter: impl FnOnce(&mut CertificateParams)) -> Vec<Vec<u8>> {
    let mut params = ca.leaf_params(&request("pc5:001-01:ue:ue-1"), &mut rng()).unwrap();
    alter(&mut params);
    let key = SoftwareKey::generate(&mut rng());
    vec![ca.sign(&params, key.public_key()).unwrap()]
}

/// A judge that trusts these roots and holds a fresh CRL of each.
fn judge(roots: &mut [&mut Authority]) -> Judge {
    let entries = roots.iter().map(|r| r.trust_entry().unwrap()).collect();
    let mut judge = Judge::new(entries, Freshness::default());
    for root in roots {
        judge.install_crl(&root.crl(T, T + 7 * DAY).unwrap(), clock(T)).unwrap();
    }
    judge
}

fn profile_error(judged: Result<Leaf, Refusal>) -> ProfileError {
    match judged {
        Err(Refusal::Profile { position: 0, what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_chain_tells_all_about_its_holder() {
    let mut ca = root("001-01");
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let leaf = judge(&mut [&mut ca]).judge(&chain, MEMBER, clock(T)).unwrap();
    assert_eq!(leaf.identity.to_string(), "pc5:001-01:ue:ue-1");
    assert!(leaf.roles.contains(Role::Member) && !leaf.roles.contains(Role::Owner));
    assert_eq!(leaf.groups.unwrap().into_iter().collect::<Vec<_>>(), [GROUP.unwrap()]);
    assert_eq!((leaf.not_before, leaf.not_after), (T - 3600, T + 365 * DAY));
    assert_eq!(leaf.newest, T - 3600);
    assert!(!leaf.crl_in_grace);
}

#[test]
fn p384_authorities_and_intermediates_are_walked() {
    let mut ca = Authority::root(plmn("001-01"), Curve::P384, Validity::days(T, 3650), &mut rng()).unwrap();
    let validity = Validity::days(T, 1000);
    let mut one = ca.intermediate("one", Curve::P256, validity, &mut rng()).unwrap();
    let mut two = one.intermediate("two", Curve::P384, validity, &mut rng()).unwrap();
    assert!(two.intermediate("three", Curve::P256, validity, &mut rng()).is_err());
    let mut judge = judge(&mut [&mut ca]);
    let chain = issue(&two, &request("pc5:001-01:ue:ue-1"));
    assert_eq!(chain.len(), 3);

    // CRLs of intermediates are taken once a path led through them.
    let crls = [one.crl(T, T + DAY).unwrap(), two.crl(T, T + DAY).unwrap()];
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap_err(), Refusal::CrlMissing { position: 0 });
    assert_eq!(judge.install_crl(&crls[0], clock(T)), Err(CrlError::UnknownIssuer));
    assert_eq!(judge.learn(&chain, clock(T)), Ok(2));
    assert_eq!(judge.learn(&chain, clock(T)), Ok(0));
    assert!(crls.iter().all(|crl| judge.install_crl(crl, clock(T)).unwrap().changed));
    judge.judge(&chain, MEMBER, clock(T)).unwrap();

    // Leaf first, each followed by its issuer, nothing else.
    let swapped = vec![chain[0].clone(), chain[2].clone(), chain[1].clone()];
    let order = |position| Refusal::Profile { position, what: ProfileError::Order };
    assert_eq!(judge.judge(&swapped, MEMBER, clock(T)).unwrap_err(), order(0));
    let direct = issue(&ca, &request("pc5:001-01:ue:ue-2"));
    let with_root = [direct, vec![ca.certificate().to_vec()]].concat();
    assert_eq!(judge.judge(&with_root, MEMBER, clock(T)).unwrap_err(), order(0));
    let too_long = [chain.clone(), vec![ca.certificate().to_vec()]].concat();
    assert_eq!(judge.judge(&too_long, MEMBER, clock(T)).unwrap_err(), Refusal::ChainLength { found: 4 });
    assert_eq!(judge.judge(&[], MEMBER, clock(T)).unwrap_err(), Refusal::ChainLength { found: 0 });
    assert_eq!(judge.judge(&chain[..2], MEMBER, clock(T)).unwrap_err(), Refusal::UnknownRoot);

    // A revoked intermediate takes everybody below it along.
    ca.revoke(&crate::pki::serial_of(one.certificate()).unwrap(), T);
    judge.install_crl(&ca.crl(T + 1, T + 7 * DAY).unwrap(), clock(T + 1)).unwrap();
    assert_eq!(judge.judge(&chain, MEMBER, clock(T + 1)).unwrap_err(), Refusal::Revoked { position: 2 });
}

#[test]
fn a_root_vouches_for_its_own_network_only() {
    let (mut home, mut foreign, unknown) = (root("001-01"), root("002-02"), root("001-01"));
    let judge = judge(&mut [&mut home, &mut foreign]);
    let chain = issue(&unknown, &request("pc5:001-01:ue:ue-1"));
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap_err(), Refusal::UnknownRoot);

    let visitor = issue(&foreign, &request("pc5:002-02:ue:ue-1"));
    judge.judge(&visitor, MEMBER, clock(T)).unwrap();

    let mut params = foreign.leaf_params(&request("pc5:002-02:ue:ue-1"), &mut rng()).unwrap();
    params.subject_alt_names[0] = rcgen::SanType::URI("pc5:001-01:ue:go-1".try_into().unwrap());
    let key = SoftwareKey::generate(&mut rng());
    let impostor = vec![foreign.sign(&params, key.public_key()).unwrap()];
    let refusal = judge.judge(&impostor, MEMBER, clock(T)).unwrap_err();
    assert_eq!(refusal, Refusal::ForeignRoot { identity_plmn: plmn("001-01") });

    assert!(foreign.issue(&request("pc5:001-01:ue:ue-1"), key.public_key(), &mut rng()).is_err());
}

#[test]
fn roots_that_went_are_trusted_no_more() {
    let (mut home, mut other) = (root("001-01"), root("002-02"));
    let mut judge = judge(&mut [&mut home, &mut other]);
    let chain = issue(&home, &request("pc5:001-01:ue:ue-1"));
    let leaf = judge.judge(&chain, MEMBER, clock(T)).unwrap();
    assert_eq!(judge.judge_again(&leaf, MEMBER, clock(T)), Ok(false));
    judge.set_roots(vec![other.trust_entry().unwrap()]);
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap_err(), Refusal::UnknownRoot);
    assert_eq!(judge.judge_again(&leaf, MEMBER, clock(T)), Err(Refusal::UnknownRoot));
}

#[test]
fn role_and_group_decide() {
    let mut ca = root("001-01");
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let everywhere = issue(&ca, &Request { groups: vec![], ..request("pc5:001-01:ue:ue-2") });
    let judge = judge(&mut [&mut ca]);
    let owner = Need { role: Role::Owner, ..MEMBER };
    assert_eq!(judge.judge(&chain, owner, clock(T)).unwrap_err(), Refusal::Role { needed: Role::Owner });
    let needed = pc5_dataplane::ids::GroupId::new(1).unwrap();
    let elsewhere = Need { group: Some(needed), ..MEMBER };
    assert_eq!(judge.judge(&chain, elsewhere, clock(T)).unwrap_err(), Refusal::Group { needed });
    judge.judge(&everywhere, elsewhere, clock(T)).unwrap();
    judge.judge(&chain, Need { group: None, ..MEMBER }, clock(T)).unwrap();
}

#[test]
fn validity_is_judged_at_the_clock_but_never_before_the_floor() {
    let mut ca = root("001-01");
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let mut judge = judge(&mut [&mut ca]);
    judge.install_crl(&ca.crl(T, T + 1000 * DAY).unwrap(), clock(T)).unwrap();
    let (not_before, not_after) = (T - 3600, T + 365 * DAY);
    let at = not_before - 1;
    assert_eq!(judge.judge(&chain, MEMBER, clock(at)).unwrap_err(), Refusal::NotYetValid { not_before, at });
    judge.judge(&chain, MEMBER, clock(not_before)).unwrap();
    let leaf = judge.judge(&chain, MEMBER, clock(not_after)).unwrap();
    let at = not_after + 1;
    let expired = Refusal::Expired { not_after, at };
    assert_eq!(judge.judge(&chain, MEMBER, clock(at)).unwrap_err(), expired);
    assert_eq!(judge.judge_again(&leaf, MEMBER, clock(at)).unwrap_err(), expired);
    // A clock set back does not bring it back.
    let set_back = Clock { now: T, floor: at };
    assert_eq!(judge.judge(&chain, MEMBER, set_back).unwrap_err(), expired);
    // Nor does a clock that never ran hold it off.
    judge.judge(&chain, MEMBER, Clock { now: 0, floor: T }).unwrap();
}

#[test]
fn an_expired_root_or_intermediate_ends_the_path() {
    let validity = Validity::days(T, 10);
    let mut ca = Authority::root(plmn("001-01"), Curve::P256, validity, &mut rng()).unwrap();
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let judge = judge(&mut [&mut ca]);
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap().path_not_after, T + 10 * DAY);
    let at = T + 10 * DAY + 1;
    let expired = Refusal::Expired { not_after: T + 10 * DAY, at };
    assert_eq!(judge.judge(&chain, MEMBER, clock(at)).unwrap_err(), expired);

    // A path that was never valid as a whole.
    let early = Validity { not_before: T - 100 * DAY, not_after: T - 50 * DAY };
    let old = ca.intermediate("old", Curve::P256, early, &mut rng()).unwrap();
    let chain = issue(&old, &request("pc5:001-01:ue:ue-1"));
    let refusal = judge.judge(&chain, MEMBER, clock(T)).unwrap_err();
    assert_eq!(refusal, Refusal::Expired { not_after: T - 50 * DAY, at: T });
}

#[test]
fn leaves_out_of_profile() {
    let mut ca = root("001-01");
    let judge = judge(&mut [&mut ca]);
    let judged = |chain: Vec<Vec<u8>>| profile_error(judge.judge(&chain, MEMBER, clock(T)));
    let uri = |s: &str| rcgen::SanType::URI(s.try_into().unwrap());

    let chain = altered(&ca, |p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(judged(chain), ProfileError::CaAsLeaf);

    let unknown = |critical| {
        let mut e = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        e.set_criticality(critical);
        e
    };
    let chain = altered(&ca, |p| p.custom_extensions.push(unknown(true)));
    assert_eq!(judged(chain), ProfileError::CriticalExtension("1.3.6.1.4.1.99999.1".into()));
    let chain = altered(&ca, |p| p.custom_extensions.push(unknown(false)));
    judge.judge(&chain, MEMBER, clock(T)).unwrap();

    let wanted = "critical and exactly digitalSignature + keyAgreement";
    for usages in [
        vec![],
        vec![KeyUsagePurpose::DigitalSignature],
        vec![KeyUsagePurpose::KeyAgreement],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyCertSign],
    ] {
        assert_eq!(judged(altered(&ca, |p| p.key_usages = usages)), ProfileError::KeyUsage { wanted });
    }
    let purposes = |p| move |params: &mut CertificateParams| params.extended_key_usages = vec![p];
    let chain = altered(&ca, purposes(rcgen::ExtendedKeyUsagePurpose::CodeSigning));
    assert_eq!(judged(chain), ProfileError::ExtendedKeyUsage);
    let chain = altered(&ca, purposes(rcgen::ExtendedKeyUsagePurpose::ClientAuth));
    judge.judge(&chain, MEMBER, clock(T)).unwrap();

    let chain = altered(&ca, |p| p.subject_alt_names.push(uri("pc5:001-01:ue:ue-2")));
    assert_eq!(judged(chain), ProfileError::Identities { found: 2 });
    let chain = altered(&ca, |p| p.subject_alt_names.push(uri("pc5:001-01:ue:ue-1")));
    assert_eq!(judged(chain), ProfileError::Identities { found: 2 });
    let chain = altered(&ca, |p| drop(p.subject_alt_names.remove(0)));
    assert_eq!(judged(chain), ProfileError::Identities { found: 0 });
    let chain = altered(&ca, |p| p.subject_alt_names.clear());
    assert_eq!(judged(chain), ProfileError::Identities { found: 0 });
    let chain = altered(&ca, |p| drop(p.subject_alt_names.remove(1)));
    assert_eq!(judged(chain), ProfileError::NoRole);
    let chain = altered(&ca, |p| p.subject_alt_names.push(uri("pc5:role:king")));
    assert!(matches!(judged(chain), ProfileError::Uri(_)));
    let chain = altered(&ca, |p| p.subject_alt_names.push(uri("urn:uuid:1")));
    judge.judge(&chain, MEMBER, clock(T)).unwrap();

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let params = ca.leaf_params(&request("pc5:001-01:ue:ue-1"), &mut rng()).unwrap();
    let chain = vec![params.signed_by(&p384, ca.issuer()).unwrap().der().to_vec()];
    assert_eq!(judged(chain), ProfileError::PublicKey { wanted: "an uncompressed P-256 point" });
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    assert_eq!(ed25519.der_bytes().len(), 32);
    let chain = vec![params.signed_by(&ed25519, ca.issuer()).unwrap().der().to_vec()];
    assert_eq!(judged(chain), ProfileError::PublicKey { wanted: "an uncompressed P-256 point" });

    let chain = altered(&ca, |p| {
        let filler = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![4; 2048]);
        p.custom_extensions.push(filler);
    });
    assert!(matches!(judged(chain), ProfileError::Size { max: 2048, .. }));
    assert_eq!(judged(vec![vec![]]), ProfileError::Malformed);
    assert_eq!(judged(vec![b"-----BEGIN CERTIFICATE-----".to_vec()]), ProfileError::Malformed);
}

#[test]
fn cas_out_of_profile() {
    let mut ca = root("001-01");
    let leaf = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let other = issue(&ca, &request("pc5:001-01:ue:ue-2"));
    let judge = judge(&mut [&mut ca]);
    // A member does not issue certificates.
    let chain = [leaf.clone(), other].concat();
    let not_ca = Refusal::Profile { position: 1, what: ProfileError::NotCa };
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap_err(), not_ca);
    assert_eq!(TrustEntry::new(plmn("001-01"), &leaf[0]).unwrap_err(), ProfileError::NotCa);
    // An intermediate is no root.
    let one = ca.intermediate("one", Curve::P256, Validity::days(T, 10), &mut rng()).unwrap();
    assert!(matches!(TrustEntry::new(plmn("001-01"), one.certificate()), Err(ProfileError::Path(_))));
    // An Ed25519 root is none either.
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = params.self_signed(&key).unwrap();
    let wanted = "P-256 or P-384";
    assert_eq!(TrustEntry::new(plmn("001-01"), der.der()).unwrap_err(), ProfileError::PublicKey { wanted });
}

#[test]
fn revoked_is_refused_from_the_next_crl_on() {
    let mut ca = root("001-01");
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let other = issue(&ca, &request("pc5:001-01:ue:ue-2"));
    let mut judge = judge(&mut [&mut ca]);
    let leaf = judge.judge(&chain, MEMBER, clock(T)).unwrap();
    assert!(ca.revoke(&crate::pki::serial_of(&chain[0]).unwrap(), T));
    let installed = judge.install_crl(&ca.crl(T + 60, T + DAY).unwrap(), clock(T + 60)).unwrap();
    assert_eq!((installed.number, installed.this_update, installed.changed), (2.into(), T + 60, true));
    let refusal = Refusal::Revoked { position: 0 };
    assert_eq!(judge.judge(&chain, MEMBER, clock(T + 60)).unwrap_err(), refusal);
    assert_eq!(judge.judge_again(&leaf, MEMBER, clock(T + 60)).unwrap_err(), refusal);
    judge.judge(&other, MEMBER, clock(T + 60)).unwrap();
    // However old the list: the revocation stays true.
    assert_eq!(judge.judge(&chain, MEMBER, clock(T + 300 * DAY)).unwrap_err(), refusal);
}

#[test]
fn without_a_fresh_crl_nobody_is_believed() {
    let mut ca = root("001-01");
    let chain = issue(&ca, &request("pc5:001-01:ue:ue-1"));
    let crl = ca.crl(T, T + DAY).unwrap();
    let next_update = T + DAY;
    let mut strict = Judge::new(vec![ca.trust_entry().unwrap()], Freshness::Refuse);
    assert_eq!(strict.judge(&chain, MEMBER, clock(T)).unwrap_err(), Refusal::CrlMissing { position: 0 });
    strict.install_crl(&crl, clock(T)).unwrap();
    strict.judge(&chain, MEMBER, clock(next_update)).unwrap();
    let too_old = Refusal::CrlTooOld { position: 0, next_update };
    assert_eq!(strict.judge(&chain, MEMBER, clock(next_update + 1)).unwrap_err(), too_old);
    assert_eq!(strict.judge(&chain, MEMBER, Clock { now: T, floor: next_update + 1 }).unwrap_err(), too_old);

    let mut lenient = Judge::new(vec![ca.trust_entry().unwrap()], Freshness::default());
    lenient.install_crl(&crl, clock(T)).unwrap();
    assert!(!lenient.judge(&chain, MEMBER, clock(next_update)).unwrap().crl_in_grace);
    let leaf = lenient.judge(&chain, MEMBER, clock(next_update + 7 * DAY)).unwrap();
    assert!(leaf.crl_in_grace);
    assert_eq!(lenient.judge_again(&leaf, MEMBER, clock(next_update + 1)), Ok(true));
    assert_eq!(lenient.judge(&chain, MEMBER, clock(next_update + 7 * DAY + 1)).unwrap_err(), too_old);
}

#[test]
fn crls_that_are_not_taken() {
    let (mut ca, mut other) = (root("001-01"), root("001-01"));
    let mut judge = judge(&mut [&mut ca]);
    let fifth = ca.crl_numbered(5, T, T + DAY).unwrap();
    assert!(judge.install_crl(&fifth, clock(T)).unwrap().changed);
    assert!(!judge.install_crl(&fifth, clock(T)).unwrap().changed);

    let (found, held) = (4.into(), 5.into());
    let older = ca.crl_numbered(4, T + 60, T + 9 * DAY).unwrap();
    assert_eq!(judge.install_crl(&older, clock(T + 60)), Err(CrlError::RolledBack { found, held }));
    let same = ca.crl_numbered(5, T - 60, T + 9 * DAY).unwrap();
    assert!(matches!(judge.install_crl(&same, clock(T)), Err(CrlError::RolledBack { .. })));

    let ahead = ca.crl_numbered(6, T + 301, T + DAY).unwrap();
    let future = CrlError::Future { this_update: T + 301, at: T };
    assert_eq!(judge.install_crl(&ahead, clock(T)), Err(future));
    judge.install_crl(&ahead, clock(T + 1)).unwrap();

    // Same name, another key; then another name.
    let wrong = other.crl(T, T + DAY).unwrap();
    assert_eq!(judge.install_crl(&wrong, clock(T)), Err(CrlError::Signature));
    let mut stranger = root("003-03");
    assert_eq!(judge.install_crl(&stranger.crl(T, T + DAY).unwrap(), clock(T)), Err(CrlError::UnknownIssuer));

    let mut forged = ca.crl_numbered(9, T, T + DAY).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(judge.install_crl(&forged, clock(T)), Err(CrlError::Signature));
    assert!(matches!(judge.install_crl(&[0x30; 40], clock(T)), Err(CrlError::Malformed(_))));
    assert!(matches!(judge.install_crl(&vec![0; MAX_CRL + 1], clock(T)), Err(CrlError::Size { .. })));

    // A partitioned list says nothing about the others.
    let point = rcgen::CrlDistributionPoint { uris: vec!["http://crl.invalid/1".into()] };
    let params = rcgen::CertificateRevocationListParams {
        this_update: time::OffsetDateTime::from_unix_timestamp(T as i64).unwrap(),
        next_update: time::OffsetDateTime::from_unix_timestamp((T + DAY) as i64).unwrap(),
        crl_number: rcgen::SerialNumber::from_slice(&[9]),
        issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: point,
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        }),
        revoked_certs: vec![],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let partial = params.signed_by(ca.issuer()).unwrap();
    assert!(matches!(judge.install_crl(partial.der(), clock(T)), Err(CrlError::Scope(_))));
    assert_eq!(judge.crls_held()[0].number, 6.into());
}

#[test]
fn a_chain_of_crls_does_not_carry_the_time_floor_ahead_of_the_clock() {
    let mut rogue = root("002-02");
    let mut judge = judge(&mut [&mut rogue]);
    let mut floor = T;
    for step in 1..=10 {
        let crl = rogue.crl_numbered(10 + step, floor + 300, T + DAY).unwrap();
        if let Ok(installed) = judge.install_crl(&crl, Clock { now: T, floor }) {
            floor = floor.max(installed.this_update);
        }
    }
    assert_eq!(floor, T + 300);

    // A clock that never ran: what is no newer than the floor is taken, as after a restart.
    let mut home = root("001-01");
    let crl = home.crl(T, T + DAY).unwrap();
    let mut judge = Judge::new(vec![home.trust_entry().unwrap()], Freshness::default());
    judge.install_crl(&crl, Clock { now: 0, floor: T }).unwrap();
}

#[test]
fn a_stored_crl_serves_again_once_a_path_leads_to_its_issuer() {
    let mut ca = root("001-01");
    let mut one = ca.intermediate("one", Curve::P256, Validity::days(T, 1000), &mut rng()).unwrap();
    let chain = issue(&one, &request("pc5:001-01:ue:ue-1"));
    let (first, second) = (one.crl(T, T + DAY).unwrap(), one.crl(T, T + DAY).unwrap());
    let mut judge = judge(&mut [&mut ca]);
    judge.restore_crl(second, clock(T));
    judge.restore_crl(vec![0x30; 40], clock(T));
    assert_eq!(judge.crls_held().len(), 1);
    assert_eq!(judge.judge(&chain, MEMBER, clock(T)).unwrap_err(), Refusal::CrlMissing { position: 0 });
    assert_eq!(judge.learn(&chain, clock(T)), Ok(1));
    judge.judge(&chain, MEMBER, clock(T)).unwrap();
    assert!(matches!(judge.install_crl(&first, clock(T)), Err(CrlError::RolledBack { .. })));
}

#[test]
fn a_revoked_intermediate_is_not_learnt() {
    let mut ca = root("001-01");
    let mut one = ca.intermediate("one", Curve::P256, Validity::days(T, 1000), &mut rng()).unwrap();
    let chain = issue(&one, &request("pc5:001-01:ue:ue-1"));
    ca.revoke(&crate::pki::serial_of(one.certificate()).unwrap(), T);
    let mut judge = judge(&mut [&mut ca]);
    assert_eq!(judge.learn(&chain, clock(T)), Err(Refusal::Revoked { position: 1 }));
    assert_eq!(judge.install_crl(&one.crl(T, T + DAY).unwrap(), clock(T)), Err(CrlError::UnknownIssuer));
}

#[test]
fn whoever_has_the_newer_crl_knows_it() {
    let (mut ca, mut other) = (root("001-01"), root("002-02"));
    let mut ours = judge(&mut [&mut ca, &mut other]);
    let theirs = ours.crls_held();
    assert_eq!(ours.newer_crls(&theirs).count(), 0);
    assert_eq!(ours.newer_crls(&[]).count(), 2);
    let newer = ca.crl(T + 5, T + DAY).unwrap();
    ours.install_crl(&newer, clock(T + 5)).unwrap();
    assert_eq!(ours.newer_crls(&theirs).collect::<Vec<_>>(), [newer.as_slice()]);
    assert_eq!(ours.crl_next_update(), Some(T + DAY));
}

#[test]
fn a_stored_crl_keeps_its_number_while_its_root_is_away() {
    let mut ca = root("001-01");
    let old = ca.crl(T, T + DAY).unwrap();
    let mut judge = judge(&mut [&mut ca]);
    judge.set_roots(vec![]);
    judge.set_roots(vec![ca.trust_entry().unwrap()]);
    assert!(matches!(judge.install_crl(&old, clock(T)), Err(CrlError::RolledBack { .. })));
}

#[test]
fn a_stored_crl_counts_as_soon_as_its_root_is_believed() {
    let (ca, mut other) = (root("001-01"), root("002-02"));
    let old = other.crl(T, T + DAY).unwrap();
    let mut judge = Judge::new(vec![ca.trust_entry().unwrap()], Freshness::default());
    judge.restore_crl(other.crl(T, T + DAY).unwrap(), clock(T));
    judge.set_roots(vec![other.trust_entry().unwrap()]);
    judge.reconsider(clock(T));
    assert!(matches!(judge.install_crl(&old, clock(T)), Err(CrlError::RolledBack { .. })));
}

struct World {
    judge: Judge,
    chain: Vec<Vec<u8>>,
    crl: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut ca = root("001-01");
    let mut one = ca.intermediate("one", Curve::P384, Validity::days(T, 10), &mut rng()).unwrap();
    let chain = issue(&one, &request("pc5:001-01:ue:ue-1"));
    let mut judge = judge(&mut [&mut ca]);
    judge.learn(&chain, clock(T)).unwrap();
    judge.install_crl(&one.crl(T, T + DAY).unwrap(), clock(T)).unwrap();
    judge.judge(&chain, MEMBER, clock(T)).unwrap();
    ca.revoke(&[7; 16], T);
    World { judge, chain, crl: ca.crl(T + 1, T + DAY).unwrap() }
});

fn mutate(octets: &mut Vec<u8>, edits: &[(prop::sample::Index, u8, u8)]) {
    for (index, kind, value) in edits {
        if octets.is_empty() {
            return;
        }
        let i = index.index(octets.len());
        match kind % 4 {
            0 => octets[i] = *value,
            1 => octets[i] ^= 1 << (value % 8),
            2 => drop(octets.remove(i)),
            _ => octets.insert(i, *value),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn altered_der_is_refused_and_never_panics(
        which in 0..2_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let mut chain = WORLD.chain.clone();
        mutate(&mut chain[which], &edits);
        let judged = WORLD.judge.judge(&chain, MEMBER, clock(T));
        prop_assert_eq!(judged.is_ok(), chain == WORLD.chain);
        let _ = TrustEntry::new(plmn("001-01"), &chain[which]);
    }

    #[test]
    fn altered_crls_are_refused_and_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let mut crl = WORLD.crl.clone();
        mutate(&mut crl, &edits);
        let mut judge = Judge::new(WORLD.judge.roots().to_vec(), Freshness::Refuse);
        prop_assert_eq!(judge.install_crl(&crl, clock(T + 1)).is_ok(), crl == WORLD.crl);
    }

    #[test]
    fn any_octets_are_no_certificate(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(WORLD.judge.judge(&[octets], MEMBER, clock(T)).is_err());
    }
}
