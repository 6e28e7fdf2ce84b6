//! Appends fields; a value that does not fit its field is an error, never a truncation.

use crate::error::EncodeError;

pub(crate) type Written = Result<(), EncodeError>;

pub(crate) fn data8(out: &mut Vec<u8>, field: &'static str, data: &[u8]) -> Written {
    let length = u8::try_from(data.len()).map_err(|_| too_long(field, data, 0xff))?;
    out.push(length);
    out.extend_from_slice(data);
    Ok(())
}

pub(crate) fn data16(out: &mut Vec<u8>, field: &'static str, data: &[u8]) -> Written {
    let length = u16::try_from(data.len()).map_err(|_| too_long(field, data, 0xffff))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    Ok(())
}

pub(crate) fn u40(out: &mut Vec<u8>, field: &'static str, value: u64) -> Written {
    match value.to_be_bytes() {
        [0, 0, 0, low @ ..] => out.extend_from_slice(&low),
        _ => return Err(EncodeError::OutOfRange { field, value }),
    }
    Ok(())
}

/// Checks data whose length an algorithm fixes (`None`: the algorithm is not known), then appends it.
pub(crate) fn fixed(
    out: &mut Vec<u8>,
    field: &'static str,
    code: u8,
    wanted: Option<usize>,
    data: &[u8],
) -> Written {
    let wanted = wanted.ok_or(EncodeError::UnknownCode { field, code })?;
    if data.len() != wanted {
        return Err(EncodeError::WrongLength { field, length: data.len(), wanted });
    }
    out.extend_from_slice(data);
    Ok(())
}

fn too_long(field: &'static str, data: &[u8], limit: usize) -> EncodeError {
    EncodeError::TooLong { field, length: data.len(), limit }
}
