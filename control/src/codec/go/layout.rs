//! How the messages of group-owner mode lie in octets. Source: `go-mode.md` sections 2, 4, 5, 6, 9 and 10.

use pc5_dataplane::suite::Suite;

use super::{
    Body, GoAnnounce, GroupKeyRequest, GroupKeyUpdate, HpkeSealed, JoinChallenge, JoinRequest, JoinRetry,
    MessageType, Refreshed, Rejection, RekeyCommand, RekeyRequest, SessionKey, VERSION, VERSION_FIELD,
    Wrapped,
};
use crate::codec::direct::{Keepalive, KeepaliveAck, Release};
use crate::codec::entry::{decode_entries, encode_entries, limits::ENTRIES};
use crate::codec::{DecodeError, Reader, Writer};
use crate::credential::MAX_CRL;

/// Octets of a route, at most.
const ROUTE: usize = 32;
/// S' (32) and the tag (16).
const SEALED_SECRET: usize = 48;

pub(super) fn encode_body(
    body: &Body,
    message_type: MessageType,
    w: &mut Writer<'_>,
) -> Result<(), DecodeError> {
    let limit = |field, what| DecodeError { message: message_type.name(), field, offset: 0, what };
    match body {
        Body::Keepalive(m) => m.encode(w),
        Body::KeepaliveAck(m) => m.encode(w),
        Body::Release(m) => m.encode(w),
        Body::ReleaseAccept => {}
        Body::JoinRequest(m) => {
            w.u8(VERSION).octets(&m.group.octets()).octets(&m.nonce_1).u8(m.msb).point(&m.e_m);
            let n = u8::try_from(m.suites.len()).map_err(|_| limit("suites", "at most 255"))?;
            w.u8(n).octets(&m.suites).u8(if m.cookie.is_some() { 16 } else { 0 });
            w.octets(m.cookie.as_ref().map_or(&[], |c| &c[..]));
        }
        Body::JoinRetry(m) => {
            w.octets(&m.nonce_1).octets(&m.cookie);
        }
        Body::JoinChallenge(m) => {
            w.octets(&m.nonce_2).u8(m.lsb).u8(m.suite.code()).point(&m.e_o).octets(&m.sealed);
        }
        Body::JoinAuthenticate(sealed) => {
            w.octets(sealed);
        }
        Body::JoinAccept(m) => {
            w.octets(&m.enc).octets(&m.ciphertext);
        }
        Body::JoinComplete(tag) | Body::JoinConfirm(tag) | Body::RekeyComplete(tag) => {
            w.octets(tag);
        }
        Body::Reject(m) => {
            w.octets(&m.nonce_1).u8(m.cause).u8(if m.tag.is_some() { 16 } else { 0 });
            w.octets(m.tag.as_ref().map_or(&[], |t| &t[..]));
        }
        Body::RekeyRequest(m) => {
            if m.route.len() > ROUTE {
                return Err(limit("route", "at most 32 octets"));
            }
            w.u8(m.refresh.is_some().into()).octets(&m.nonce_1).u8(m.msb);
            w.u8(m.route.len() as u8).octets(&m.route);
            if let Some(e_m) = &m.refresh {
                w.point(e_m);
            }
        }
        Body::RekeyCommand(m) => {
            w.u8(m.refreshed.is_some().into()).octets(&m.nonce_2).u8(m.lsb);
            if let Some(refreshed) = &m.refreshed {
                if refreshed.sealed.ciphertext.len() != SEALED_SECRET {
                    return Err(limit("S'", "sealed it has 48 octets"));
                }
                w.point(&refreshed.e_o).octets(&refreshed.sealed.enc).octets(&refreshed.sealed.ciphertext);
            }
            w.octets(&m.dksi).octets(&m.confirm_o);
        }
        Body::GroupKeyRequest(m) => {
            w.u64(m.newest_epoch).u8(u8::from(m.grant) | u8::from(m.floors) << 1);
        }
        Body::GroupKeyUpdate(m) => {
            w.u64(m.lowest_valid_epoch);
            match &m.keys {
                Wrapped::Link(entries) => {
                    let octets = encode_entries(entries)?;
                    w.u8(0).u8(entries.len() as u8).octets(&octets);
                }
                Wrapped::Certificate { n, sealed } => {
                    w.u8(1).u8(*n).octets(&sealed.enc).octets(&sealed.ciphertext);
                }
            }
        }
        Body::GroupKeyAck(newest) => {
            w.u64(*newest);
        }
        Body::CrlUpdate(der) => {
            w.octets(der);
        }
        Body::RekeyTrigger(refresh) => {
            w.u8((*refresh).into());
        }
        Body::GoAnnounce(m) => {
            let n = u8::try_from(m.suites.len()).map_err(|_| limit("suites", "at most 255"))?;
            w.u8(VERSION).octets(&m.instance).u64(m.epoch).u8(m.spread).u8(n).octets(&m.suites);
        }
        Body::SessionKey(m) => {
            w.octets(&m.header()).octets(&m.sealed);
        }
        Body::SessionKeyRequest(gk_id) => {
            w.u8(VERSION).u16(*gk_id);
        }
    }
    Ok(())
}

pub(super) fn decode_body(message_type: MessageType, body: &[u8]) -> Result<Body, DecodeError> {
    let mut r = Reader::new(message_type.name(), body);
    let decoded = match message_type {
        MessageType::Keepalive => return Keepalive::decode(body).map(Body::Keepalive),
        MessageType::KeepaliveAck => return KeepaliveAck::decode(body).map(Body::KeepaliveAck),
        MessageType::Release => return Release::decode(body).map(Body::Release),
        MessageType::ReleaseAccept => Body::ReleaseAccept,
        MessageType::JoinRequest => Body::JoinRequest(join_request(&mut r)?),
        MessageType::JoinRetry => {
            Body::JoinRetry(JoinRetry { nonce_1: r.array("Nonce_1")?, cookie: r.array("cookie")? })
        }
        MessageType::JoinChallenge => {
            let (nonce_2, lsb) = (r.array("Nonce_2")?, r.u8("LSB")?);
            let suite = suite(&mut r)?;
            let e_o = r.point("E_o")?;
            Body::JoinChallenge(JoinChallenge { nonce_2, lsb, suite, e_o, sealed: r.rest().to_vec() })
        }
        MessageType::JoinAuthenticate => Body::JoinAuthenticate(r.rest().to_vec()),
        MessageType::JoinAccept => {
            Body::JoinAccept(HpkeSealed { enc: r.array("enc")?, ciphertext: r.rest().to_vec() })
        }
        MessageType::JoinComplete => Body::JoinComplete(r.array("finished_m")?),
        MessageType::JoinConfirm => Body::JoinConfirm(r.array("finished_o")?),
        MessageType::Reject => {
            let (nonce_1, cause) = (r.array("Nonce_1")?, r.u8("cause")?);
            Body::Reject(Rejection { nonce_1, cause, tag: optional_16(&mut r, "tag")? })
        }
        MessageType::RekeyRequest => Body::RekeyRequest(rekey_request(&mut r)?),
        MessageType::RekeyCommand => Body::RekeyCommand(rekey_command(&mut r)?),
        MessageType::RekeyComplete => Body::RekeyComplete(r.array("confirm_m")?),
        MessageType::GroupKeyRequest => {
            let newest_epoch = r.u64("newest epoch held")?;
            let flags = r.flags("flags", 3)?;
            Body::GroupKeyRequest(GroupKeyRequest {
                newest_epoch,
                grant: flags & 1 != 0,
                floors: flags & 2 != 0,
            })
        }
        MessageType::GroupKeyUpdate => Body::GroupKeyUpdate(group_key_update(&mut r)?),
        MessageType::GroupKeyAck => Body::GroupKeyAck(r.u64("newest epoch held")?),
        MessageType::CrlUpdate => {
            let wrong = r.wrong("CRL", "1 octet to 1 MiB is wanted");
            let der = r.rest();
            if der.is_empty() || der.len() > MAX_CRL {
                return Err(wrong);
            }
            Body::CrlUpdate(der.to_vec())
        }
        MessageType::RekeyTrigger => Body::RekeyTrigger(r.flags("flags", 1)? == 1),
        MessageType::GoAnnounce => {
            version(&mut r)?;
            let (instance, epoch, spread) = (r.array("instance")?, r.u64("epoch")?, r.u8("spread")?);
            let n = r.u8("n")?;
            let suites = r.slice(n.into(), "suites")?.to_vec();
            Body::GoAnnounce(GoAnnounce { instance, epoch, spread, suites })
        }
        MessageType::SessionKey => {
            version(&mut r)?;
            let (gk_id, session_id) = (r.u16("GK id")?, r.array("session id")?);
            let end = r.flags("flags", 1)? == 1;
            let (time, nonce) = (r.u64("time")?, r.array("Nonce")?);
            Body::SessionKey(SessionKey { gk_id, session_id, end, time, nonce, sealed: r.rest().to_vec() })
        }
        MessageType::SessionKeyRequest => {
            version(&mut r)?;
            Body::SessionKeyRequest(r.u16("GK id")?)
        }
    };
    r.end()?;
    Ok(decoded)
}

fn join_request(r: &mut Reader<'_>) -> Result<JoinRequest, DecodeError> {
    version(r)?;
    let (group, nonce_1) = (r.group("group id")?, r.array("Nonce_1")?);
    let msb = r.count("MSB", u8::MAX)?;
    let e_m = r.point("E_m")?;
    let n = r.count("n", u8::MAX)?;
    let suites = r.slice(n.into(), "suites")?.to_vec();
    Ok(JoinRequest { group, nonce_1, msb, e_m, suites, cookie: optional_16(r, "cookie")? })
}

fn rekey_request(r: &mut Reader<'_>) -> Result<RekeyRequest, DecodeError> {
    let flags = r.flags("flags", 1)?;
    let nonce_1 = r.array("Nonce_1")?;
    let msb = r.count("MSB", u8::MAX)?;
    let wrong = r.wrong("route length", "more than 32");
    let length = usize::from(r.u8("route length")?);
    if length > ROUTE {
        return Err(wrong);
    }
    let route = r.slice(length, "route")?.to_vec();
    let refresh = if flags == 1 { Some(r.point("E_m")?) } else { None };
    Ok(RekeyRequest { nonce_1, msb, route, refresh })
}

fn rekey_command(r: &mut Reader<'_>) -> Result<RekeyCommand, DecodeError> {
    let flags = r.flags("flags", 1)?;
    let (nonce_2, lsb) = (r.array("Nonce_2")?, r.u8("LSB")?);
    let refreshed = if flags == 1 {
        let (e_o, enc) = (r.point("E_o")?, r.array("enc")?);
        let ciphertext = r.slice(SEALED_SECRET, "S'")?.to_vec();
        Some(Refreshed { e_o, sealed: HpkeSealed { enc, ciphertext } })
    } else {
        None
    };
    Ok(RekeyCommand { nonce_2, lsb, refreshed, dksi: r.array("DKSI")?, confirm_o: r.array("confirm_o")? })
}

fn group_key_update(r: &mut Reader<'_>) -> Result<GroupKeyUpdate, DecodeError> {
    let lowest_valid_epoch = r.u64("lowest valid epoch")?;
    let wrap = r.flags("wrap", 1)?;
    let n = r.count("n", ENTRIES as u8)?;
    let keys = if wrap == 0 {
        Wrapped::Link(decode_entries(n, r.rest())?)
    } else {
        let sealed = HpkeSealed { enc: r.array("enc")?, ciphertext: r.rest().to_vec() };
        Wrapped::Certificate { n, sealed }
    };
    Ok(GroupKeyUpdate { lowest_valid_epoch, keys })
}

fn version(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let wrong = r.wrong(VERSION_FIELD, "not version 1");
    if r.u8(VERSION_FIELD)? == VERSION { Ok(()) } else { Err(wrong) }
}

fn suite(r: &mut Reader<'_>) -> Result<Suite, DecodeError> {
    let wrong = r.wrong("suite", "no such suite");
    Suite::from_code(r.u8("suite")?).ok_or(wrong)
}

/// A length of 0 or 16, and so many octets.
fn optional_16(r: &mut Reader<'_>, field: &'static str) -> Result<Option<[u8; 16]>, DecodeError> {
    let wrong = r.wrong(field, "a length of 0 or 16 is wanted");
    match r.u8(field)? {
        0 => Ok(None),
        16 => r.array(field).map(Some),
        _ => Err(wrong),
    }
}
