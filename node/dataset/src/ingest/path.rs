//! Picture names to files that are certainly inside the picture folder.

use std::path::{Component, Path, PathBuf};

use super::RejectKind;

/// The file that `name` means under `root` (which is canonical).
pub(super) fn picture_path(root: &Path, name: &str) -> Result<PathBuf, (RejectKind, String)> {
    let relative = Path::new(name);
    // A backslash is a separator elsewhere: what is safe here must be safe there.
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !plain || name.contains(['\\', '\0', ':']) {
        return Err((RejectKind::UnsafePath, format!("picture {name:?} is not a plain relative path")));
    }
    let file = root.join(relative);
    let real = file.canonicalize().map_err(|error| {
        (RejectKind::MissingPicture, format!("picture {name:?} cannot be found: {error}"))
    })?;
    if !real.starts_with(root) {
        return Err((
            RejectKind::UnsafePath,
            format!("picture {name:?} is a link out of the picture folder"),
        ));
    }
    if !real.is_file() {
        return Err((RejectKind::MissingPicture, format!("picture {name:?} is not a file")));
    }
    Ok(file)
}
