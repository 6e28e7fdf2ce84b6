//! Wrapping of 3GPP key parameters under the DPCK of the key they describe. Source: TS 33.180 E.6.

use aes_gcm::{
    AesGcm, KeyInit,
    aead::{Aead, Payload, consts::U16},
    aes::Aes128,
};

use crate::{
    KeyError, NtpTime, Reject,
    codec::{KeyParameters, ProtectedKeyParameters},
    keys,
};

/// All 16 octets of the IV are the nonce.
type Aead16 = AesGcm<Aes128, U16>;

/// MCData message type that field equipment sends; bit 0x40 says protected.
const MESSAGE_TYPE: u8 = 0x43;
const SEALS: KeyError = KeyError::Invalid { what: "key parameters", problem: "do not encrypt" };

impl KeyParameters {
    /// Wraps the parameters of `key`. `csb_id` of the message is the DPPK-ID; `iv` is random, used once.
    pub fn protect(
        &self,
        key: &[u8],
        csb_id: u32,
        time: NtpTime,
        iv: [u8; 16],
    ) -> Result<ProtectedKeyParameters, KeyError> {
        let mut wrapped = ProtectedKeyParameters {
            message_type: MESSAGE_TYPE,
            date_time: time.unix_seconds(),
            payload_id: 0,
            sequence: 0,
            iv,
            dppk_id: csb_id,
            iei: 0,
            ciphertext: Vec::new(),
        };
        let dpck = keys::dpck(key, csb_id)?;
        let cipher = Aead16::new_from_slice(dpck.expose()).map_err(|_| SEALS)?;
        let (msg, aad) = (self.encode()?, wrapped.associated_data()?);
        wrapped.ciphertext =
            cipher.encrypt(&iv.into(), Payload { msg: &msg, aad: &aad }).map_err(|_| SEALS)?;
        Ok(wrapped)
    }

    /// Whether a receiver may use the key at `now`: refuses revoked and expired ones. A key that is not active yet is
    /// for storing ahead. Status bit 0 clear is taken at its word, though one vendor sends live keys so.
    pub fn usable_at(&self, now: NtpTime) -> Result<(), Reject> {
        if self.status & Self::NOT_REVOKED == 0 {
            return Err(Reject::PeriodOfUse("is revoked"));
        }
        if self.expiry != 0 && self.expiry <= now.unix_seconds() {
            return Err(Reject::PeriodOfUse("has expired"));
        }
        Ok(())
    }

    /// Whether the key is active at `now`; without an activation time it is from the start.
    pub fn active_at(&self, now: NtpTime) -> bool {
        self.activation <= now.unix_seconds()
    }
}

impl ProtectedKeyParameters {
    /// Unwraps with the key that the message carried.
    pub fn open(&self, key: &[u8], csb_id: u32) -> Result<KeyParameters, Reject> {
        if self.dppk_id != csb_id {
            return Err(Reject::KeyData("DPPK-ID is not the CSB ID"));
        }
        let opens = || -> Option<Vec<u8>> {
            let dpck = keys::dpck(key, csb_id).ok()?;
            let cipher = Aead16::new_from_slice(dpck.expose()).ok()?;
            let aad = self.associated_data().ok()?;
            cipher.decrypt(&self.iv.into(), Payload { msg: &self.ciphertext, aad: &aad }).ok()
        };
        let plain = opens().ok_or(Reject::KeyDoesNotOpen)?;
        Ok(KeyParameters::decode(&plain)?)
    }
}
