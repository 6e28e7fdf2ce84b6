//! Pre-shared keys of a group without owner, as provisioned.

use anyhow::Context;
use pc5_control::files::SECRET;
use pc5_control::group_owner::GroupPsk;
use zeroize::Zeroizing;

use super::config::GroupKeyFile;

/// Reads the keys that a configuration names.
///
/// # Errors
/// A file that cannot be read, or holds no key.
pub(super) fn read(files: &[GroupKeyFile]) -> anyhow::Result<Vec<GroupPsk>> {
    files.iter().map(|f| one(f).with_context(|| f.file.display().to_string())).collect()
}

fn one(f: &GroupKeyFile) -> anyhow::Result<GroupPsk> {
    let text = SECRET.read_text(&f.file)?;
    let mut gk = Zeroizing::new([0; 32]);
    // The error would show the character that is wrong.
    hex::decode_to_slice(text.trim_end(), &mut *gk)
        .map_err(|_| anyhow::anyhow!("no group key; write 64 hexadecimal digits"))?;
    let (not_before, not_after) = f.valid;
    Ok(GroupPsk { id: f.id, gk, not_before, not_after })
}
