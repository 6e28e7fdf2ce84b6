//! Messages made of every payload there is, for properties.

use mikey_sakke::{Message, codec::*};
use proptest::{collection::vec, option, prelude::*, strategy::Union};

fn octets(max: usize) -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..=max).boxed()
}

fn code<T: std::fmt::Debug + 'static>(make: fn(u8) -> T) -> BoxedStrategy<T> {
    any::<u8>().prop_map(make).boxed()
}

pub fn validity() -> BoxedStrategy<KeyValidity> {
    prop_oneof![
        Just(KeyValidity::Null),
        octets(255).prop_map(KeyValidity::Spi),
        (octets(9), octets(9)).prop_map(|(from, to)| KeyValidity::Interval { from, to }),
    ]
    .boxed()
}

fn map() -> BoxedStrategy<CsIdMap> {
    let srtp =
        any::<(u8, u32, u32)>().prop_map(|(policy_no, ssrc, roc)| SrtpSession { policy_no, ssrc, roc });
    let generic = (any::<(u8, u8, bool)>(), octets(127), octets(20), octets(255)).prop_map(
        |((cs_id, prot, roc_and_seq), policies, session_data, spi)| GenericSession {
            cs_id,
            prot_type: ProtType(prot),
            roc_and_seq,
            policies,
            session_data,
            spi,
        },
    );
    prop_oneof![
        vec(srtp, 0..5).prop_map(CsIdMap::SrtpId),
        any::<u8>().prop_map(|sessions| CsIdMap::Empty { sessions }),
        vec(generic, 0..5).prop_map(CsIdMap::GenericId),
    ]
    .boxed()
}

fn fixed<C: Copy + std::fmt::Debug + 'static>(all: &'static [(C, usize)]) -> BoxedStrategy<(C, Vec<u8>)> {
    Union::new(all.iter().map(|&(c, n)| vec(any::<u8>(), n..=n).prop_map(move |o| (c, o)).boxed())).boxed()
}

const MACS: &[(MacAlg, usize)] =
    &[(MacAlg::NULL, 0), (MacAlg::HMAC_SHA_1_160, 20), (MacAlg::HMAC_SHA_256_256, 32)];
const HASHES: &[(HashFunc, usize)] = &[(HashFunc::SHA_1, 20), (HashFunc::MD5, 16), (HashFunc::SHA_256, 32)];
const GROUPS: &[(DhGroup, usize)] =
    &[(DhGroup::OAKLEY_5, 192), (DhGroup::OAKLEY_1, 96), (DhGroup::OAKLEY_2, 128)];

fn sakke() -> BoxedStrategy<Sakke> {
    (code(SakkeParams), code(IdScheme), octets(300))
        .prop_map(|(params, id_scheme, data)| Sakke { params, id_scheme, data })
        .boxed()
}

fn key_parameters() -> BoxedStrategy<KeyParameters> {
    let groups =
        option::of((any::<u8>(), octets(40)).prop_map(|(count, entries)| GroupIds { count, entries }));
    (0u8..0x40, any::<u32>(), 0u64..1 << 40, 0u64..1 << 40, octets(40), groups)
        .prop_map(|(key_type, status, activation, expiry, text, group_ids)| KeyParameters {
            key_type,
            status,
            activation,
            expiry,
            text,
            group_ids,
        })
        .boxed()
}

fn extension() -> BoxedStrategy<GeneralExtension> {
    let key_id = (code(KeyIdType), octets(255)).prop_map(|(key_id_type, id)| KeyIdEntry { key_id_type, id });
    let protected = (any::<(u8, u32, u8, [u8; 16], u32, u8)>(), 0u64..1 << 40, octets(80)).prop_map(
        |((message_type, payload_id, sequence, iv, dppk_id, iei), date_time, ciphertext)| {
            ProtectedKeyParameters {
                message_type: message_type | ProtectedKeyParameters::PROTECTED,
                date_time,
                payload_id,
                sequence,
                iv,
                dppk_id,
                iei,
                ciphertext,
            }
        },
    );
    let other = (any::<u8>().prop_filter("typed", |t| ![3, 6, 7].contains(t)), octets(60))
        .prop_map(|(t, data)| GeneralExtension::Other { extension_type: ExtensionType(t), data });
    prop_oneof![
        vec(key_id, 0..4).prop_map(GeneralExtension::KeyIds),
        sakke().prop_map(GeneralExtension::SakkeToSelf),
        key_parameters().prop_map(|p| GeneralExtension::KeyParameters(KeyParametersContent::Clear(p))),
        protected.prop_map(|p| GeneralExtension::KeyParameters(KeyParametersContent::Protected(p))),
        other,
    ]
    .boxed()
}

fn payload() -> BoxedStrategy<Payload> {
    let dh = (fixed(GROUPS), 0u8..16, validity()).prop_map(|((group, value), reserved, validity)| {
        Payload::Dh(Dh { group, value, reserved, validity })
    });
    let kemac = (code(EncrAlg), octets(300), fixed(MACS)).prop_map(|(encr_alg, data, (mac_alg, mac))| {
        Payload::Kemac(Kemac { encr_alg, encr_data: data.into(), mac_alg, mac })
    });
    let t = prop_oneof![
        any::<u64>().prop_map(Timestamp::NtpUtc),
        any::<u64>().prop_map(Timestamp::Ntp),
        any::<u32>().prop_map(Timestamp::Counter),
        any::<u32>().prop_map(Timestamp::NtpUtc32),
    ];
    let sp =
        (any::<(u8, u8)>(), vec((any::<u8>(), octets(255)), 0..8)).prop_map(|((policy_no, prot), params)| {
            Payload::Sp(SecurityPolicy { policy_no, prot_type: ProtType(prot), params })
        });
    prop_oneof![
        kemac,
        (0u8..4, octets(300)).prop_map(|(cache, data)| Payload::Pke(Pke { cache, data })),
        dh,
        t.prop_map(Payload::T),
        (code(IdType), octets(60)).prop_map(|(id_type, data)| Payload::Id(Id { id_type, data })),
        (code(CertType), octets(60)).prop_map(|(cert_type, data)| Payload::Cert(Cert { cert_type, data })),
        fixed(HASHES).prop_map(|(hash_func, hash)| Payload::Chash(Chash { hash_func, hash })),
        fixed(MACS).prop_map(|(auth_alg, mac)| Payload::V(Verification { auth_alg, mac })),
        sp,
        octets(255).prop_map(Payload::Rand),
        any::<(u8, u16)>()
            .prop_map(|(no, reserved)| Payload::Err(ErrorPayload { error_no: ErrorNo(no), reserved })),
        (code(IdRole), code(IdType), octets(60)).prop_map(|(role, id_type, data)| Payload::Idr(Idr {
            role,
            id_type,
            data
        })),
        extension().prop_map(Payload::GeneralExtension),
        sakke().prop_map(Payload::Sakke),
    ]
    .boxed()
}

/// What may only stand last: SIGN, or a payload of a type that nobody knows.
fn last() -> BoxedStrategy<Payload> {
    let sign = (0u8..16, octets(300))
        .prop_map(|(sign_type, signature)| Payload::Sign(Sign { sign_type: SignType(sign_type), signature }));
    let unknown = (prop_oneof![13u8..14, 15u8..20, 22u8..26, 27u8..=255], vec(any::<u8>(), 1..60)).prop_map(
        |(t, octets)| {
            Payload::Opaque(Opaque {
                payload_type: PayloadType(t),
                octets,
                unknown_field: "payload type",
                unknown_code: t,
            })
        },
    );
    prop_oneof![sign, unknown].boxed()
}

pub fn message() -> BoxedStrategy<Message> {
    let header = (code(DataType), any::<(bool, u32)>(), 0u8..128, map()).prop_map(
        |(data_type, (verification, csb_id), prf, map)| Header {
            data_type,
            verification,
            prf: PrfFunc(prf),
            csb_id,
            map,
        },
    );
    (header, vec(payload(), 0..8), option::of(last()))
        .prop_map(|(header, mut payloads, last)| {
            payloads.extend(last);
            Message { header, payloads }
        })
        .boxed()
}
