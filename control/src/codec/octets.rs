use super::DecodeError;
use p256::PublicKey;
use pc5_dataplane::ids::{GroupId, Layer2Id};
use zeroize::Zeroizing;

use crate::credential::key::{Point, point, public_key};

/// Reads fields one after the other; every error names message, field and offset.
pub(crate) struct Reader<'a> {
    message: &'static str,
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'static str, octets: &'a [u8]) -> Self {
        Self { message, octets, offset: 0 }
    }

    pub(crate) fn wrong(&self, field: &'static str, what: &'static str) -> DecodeError {
        DecodeError { message: self.message, field, offset: self.offset, what }
    }

    pub(crate) fn left(&self) -> usize {
        self.octets.len().saturating_sub(self.offset)
    }

    pub(crate) fn slice(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let cut = self.wrong(field, "cut off");
        let end = self.offset.checked_add(n).ok_or_else(|| cut.clone())?;
        let slice = self.octets.get(self.offset..end).ok_or(cut)?;
        self.offset = end;
        Ok(slice)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.octets.get(self.offset..).unwrap_or_default();
        self.offset = self.octets.len();
        rest
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let error = self.wrong(field, "cut off");
        self.slice(N, field)?.try_into().map_err(|_| error)
    }

    /// Secret octets: no copy of them is left behind.
    pub(crate) fn secret<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<Zeroizing<[u8; N]>, DecodeError> {
        let mut secret = Zeroizing::new([0; N]);
        secret.copy_from_slice(self.slice(N, field)?);
        Ok(secret)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(crate) fn group(&mut self, field: &'static str) -> Result<GroupId, DecodeError> {
        self.array(field).map(GroupId::from_octets)
    }

    pub(crate) fn layer2(&mut self, field: &'static str) -> Result<Layer2Id, DecodeError> {
        self.array(field).map(Layer2Id::from_octets)
    }

    pub(crate) fn point(&mut self, field: &'static str) -> Result<PublicKey, DecodeError> {
        let error = self.wrong(field, "not an uncompressed point of P-256");
        public_key(self.slice(65, field)?).ok_or(error)
    }

    /// Flags of which only the bits of `known` are defined.
    pub(crate) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, DecodeError> {
        let error = self.wrong(field, "undefined bits are set");
        let flags = self.u8(field)?;
        if flags & !known == 0 { Ok(flags) } else { Err(error) }
    }

    /// A value of 1 to `max`.
    pub(crate) fn count(&mut self, field: &'static str, max: u8) -> Result<u8, DecodeError> {
        let error = self.wrong(field, "out of range");
        let n = self.u8(field)?;
        if (1..=max).contains(&n) { Ok(n) } else { Err(error) }
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(self.wrong("end", "octets follow")) }
    }
}

/// Appends fields. What may hold secrets is wiped by its owner: capacity is asked for in advance there.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.0.extend_from_slice(octets);
        self
    }

    pub(crate) fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }

    pub(crate) fn u16(&mut self, v: u16) -> &mut Self {
        self.octets(&v.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, v: u32) -> &mut Self {
        self.octets(&v.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, v: u64) -> &mut Self {
        self.octets(&v.to_be_bytes())
    }

    pub(crate) fn point(&mut self, key: &PublicKey) -> &mut Self {
        let octets: Point = point(key);
        self.octets(&octets)
    }
}
