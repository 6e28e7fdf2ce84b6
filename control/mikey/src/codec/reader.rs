//! The one place that walks over octets: every read names its field, is bounds-checked, and may be recorded.

use super::limits;
use crate::error::{DecodeError, Problem};

/// One field of a message as the decoder met it: a leaf, or a part with fields of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name in the standards' words.
    pub name: &'static str,
    /// Offset of the first octet from the start of the message.
    pub offset: usize,
    /// Number of octets.
    pub length: usize,
    /// What the value means, where there is more to say than its octets; empty otherwise.
    pub meaning: String,
    /// The octets may hold key material in clear: show their number only.
    pub secret: bool,
    /// Fields inside, in order; empty for a leaf.
    pub children: Vec<Field>,
}

/// Bounds-checked reader over a message. All offsets count from the start of the whole message.
pub(crate) struct Reader<'a> {
    octets: &'a [u8],
    position: usize,
    /// End of the part being read.
    end: usize,
    /// Open parts of the record, outermost first; `None` when nothing is recorded.
    record: Option<Vec<Vec<Field>>>,
    depth: usize,
}

pub(crate) type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { octets, position: 0, end: octets.len(), record: None, depth: 0 }
    }

    pub(crate) fn recording(octets: &'a [u8]) -> Self {
        Self { record: Some(vec![Vec::new()]), ..Self::new(octets) }
    }

    /// What was recorded, parts still open included.
    pub(crate) fn into_record(mut self) -> Vec<Field> {
        self.record.take().map(|mut r| r.swap_remove(0)).unwrap_or_default()
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn left(&self) -> usize {
        self.end - self.position
    }

    /// The next octet of the part, not consumed.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.octets.get(..self.end).and_then(|o| o.get(self.position)).copied()
    }

    pub(crate) fn error<T>(&self, field: &'static str, offset: usize, problem: Problem) -> Read<T> {
        Err(DecodeError { field, offset, problem })
    }

    /// An error about the field read last, `length` octets back.
    pub(crate) fn refuse<T>(
        &self,
        field: &'static str,
        length: usize,
        found: u64,
        wanted: &'static str,
    ) -> Read<T> {
        self.error(field, self.position.saturating_sub(length), Problem::Value { found, wanted })
    }

    /// The code read last (one octet back) has a layout nobody told us.
    pub(crate) fn unknown<T>(&self, field: &'static str, code: u8) -> Read<T> {
        self.error(field, self.position.saturating_sub(1), Problem::UnknownCode(code))
    }

    /// `length` octets. The claimed length is checked against what is there before anything is done with it.
    pub(crate) fn take(&mut self, field: &'static str, length: usize) -> Read<&'a [u8]> {
        let left = self.left();
        let found = (length <= left)
            .then(|| self.position.checked_add(length))
            .flatten()
            .and_then(|end| self.octets.get(self.position..end).map(|octets| (octets, end)));
        let Some((octets, end)) = found else {
            return self.error(field, self.position, Problem::Truncated { needed: length, left });
        };
        let offset = self.position;
        self.position = end;
        if let Some(part) = self.record.as_mut().and_then(|r| r.last_mut()) {
            part.push(Field {
                name: field,
                offset,
                length,
                meaning: String::new(),
                secret: false,
                children: Vec::new(),
            });
        }
        Ok(octets)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Read<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Read<u8> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Read<u32> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    pub(crate) fn u40(&mut self, field: &'static str) -> Read<u64> {
        let octets: [u8; 5] = self.array(field)?;
        Ok(octets.iter().fold(0, |n, &o| n << 8 | u64::from(o)))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Read<u64> {
        Ok(u64::from_be_bytes(self.array(field)?))
    }

    /// One octet that is a code point; the record says its name.
    pub(crate) fn code<C: core::fmt::Display>(
        &mut self,
        field: &'static str,
        code: impl FnOnce(u8) -> C,
    ) -> Read<C> {
        let code = code(self.u8(field)?);
        self.meaning(|| code.to_string());
        Ok(code)
    }

    /// Data behind an 8-bit length.
    pub(crate) fn data8(&mut self, length: &'static str, field: &'static str) -> Read<Vec<u8>> {
        let n = self.u8(length)?;
        Ok(self.take(field, n.into())?.to_vec())
    }

    /// Data behind a 16-bit length.
    pub(crate) fn data16(&mut self, length: &'static str, field: &'static str) -> Read<Vec<u8>> {
        let n = self.u16(length)?;
        Ok(self.take(field, n.into())?.to_vec())
    }

    /// Everything up to the end of the part.
    pub(crate) fn rest(&mut self, field: &'static str) -> Read<Vec<u8>> {
        Ok(self.take(field, self.left())?.to_vec())
    }

    /// Reads a part of exactly `length` octets with `read`; octets it leaves over are an error.
    pub(crate) fn within<T>(
        &mut self,
        field: &'static str,
        length: usize,
        read: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<T> {
        let left = self.left();
        if length > left {
            return self.error(field, self.position, Problem::Truncated { needed: length, left });
        }
        let outer = self.end;
        self.end = self.position + length;
        let value = read(self).and_then(|value| match self.left() {
            0 => Ok(value),
            n => self.error(field, self.position, Problem::Trailing(n)),
        });
        self.end = outer;
        value
    }

    /// Records what `read` reads as one part.
    pub(crate) fn part<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= limits::DEPTH {
            return self.error(name, self.position, Problem::Limit(limits::DEPTH));
        }
        let offset = self.position;
        self.depth += 1;
        if let Some(record) = &mut self.record {
            record.push(Vec::new());
        }
        let value = read(self);
        self.depth -= 1;
        let length = self.position - offset;
        if let Some(record) = &mut self.record {
            let children = record.pop().unwrap_or_default();
            if let Some(outer) = record.last_mut() {
                outer.push(Field { name, offset, length, meaning: String::new(), secret: false, children });
            }
        }
        value
    }

    /// Goes back to `position` (the start of the last part) and forgets that part's record.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.position = position;
        if let Some(part) = self.record.as_mut().and_then(|r| r.last_mut()) {
            part.retain(|f| f.offset < position);
        }
    }

    /// Says what the field read last means; does nothing, and calls nothing, when nothing is recorded.
    pub(crate) fn meaning(&mut self, text: impl FnOnce() -> String) {
        if let Some(field) = self.record.as_mut().and_then(|r| r.last_mut()).and_then(|p| p.last_mut()) {
            field.meaning = text();
        }
    }

    /// Marks the field read last as key material.
    pub(crate) fn secret(&mut self) {
        if let Some(field) = self.record.as_mut().and_then(|r| r.last_mut()).and_then(|p| p.last_mut()) {
            field.secret = true;
        }
    }
}

/// Printable text for the record; octets that are not text become an empty string.
pub(crate) fn text_of(octets: &[u8]) -> String {
    match core::str::from_utf8(octets) {
        Ok(s) if !s.is_empty() && !s.chars().any(char::is_control) => format!("{s:?}"),
        _ => String::new(),
    }
}
