//! Turns a fetched package into a folder of programs: its checksum, its symlinks, its modes.
//!
//! It knows what the packages look like inside and nothing of where they come from.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// The one file with that suffix a client left in the folder.
pub(super) fn only_file(folder: &Path, suffix: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let mut files = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == suffix));
    files.next().ok_or_else(|| format!("the client succeeded but left no .{suffix} file"))
}

/// Compares the file's checksum with the pinned one.
pub(super) fn verify(package: &Path, pinned: &str) -> Result<(), String> {
    let bytes = fs::read(package).map_err(|error| error.to_string())?;
    let found = hex::encode(Sha256::digest(&bytes));
    if found == pinned {
        return Ok(());
    }
    Err(format!("the checksum of what was fetched is {found} instead of {pinned}, so it was not used"))
}

/// One line of the npm package's list of symlinks: `target` is to be a link to `source`.
#[derive(serde::Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Libraries are linked by their short names (`libpq.so.5`), which a npm tarball cannot carry.
pub(super) fn restore_symlinks(package: &Path) -> Result<(), String> {
    let list = package.join("native/pg-symlinks.json");
    let Ok(text) = fs::read(&list) else { return Ok(()) };
    let links: Vec<Link> =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", list.display()))?;
    for Link { source, target } in links {
        let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let (Some(from), true, true) = (target.parent(), inside(&source), inside(&target)) else {
            return Err(format!("{} points outside the package", list.display()));
        };
        let place = package.join(&target);
        if place.symlink_metadata().is_err() {
            symlink(relative(from, &source), &place)
                .map_err(|error| format!("cannot link {target:?}: {error}"))?;
        }
    }
    Ok(())
}

/// The path of `to` as seen from the folder `from`, both below the same root.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// A wheel unpacked by Python's zipfile has lost its x bits.
pub(super) fn mark_executable(bin: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(bin)? {
        fs::set_permissions(entry?.path(), Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sluicegate-fetch-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_package_with_another_checksum_is_refused() {
        let dir = scratch("checksum");
        fs::write(dir.join("p.tgz"), b"abc").unwrap();
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&dir.join("p.tgz"), of_abc).unwrap();
        fs::write(dir.join("p.tgz"), b"abd").unwrap();
        assert!(verify(&dir.join("p.tgz"), of_abc).unwrap_err().contains("was not used"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_of_the_npm_package_are_put_back_and_never_point_outside() {
        let dir = scratch("links");
        fs::create_dir_all(dir.join("native/lib/sub")).unwrap();
        fs::write(dir.join("native/lib/libpq.so.5.17"), b"library").unwrap();
        let list = dir.join("native/pg-symlinks.json");
        let good = r#"[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"},
                       {"source":"native/lib/libpq.so.5.17","target":"native/lib/sub/libpq.so"}]"#;
        fs::write(&list, good).unwrap();
        restore_symlinks(&dir).unwrap();
        assert_eq!(fs::read(dir.join("native/lib/libpq.so.5")).unwrap(), b"library");
        assert_eq!(fs::read(dir.join("native/lib/sub/libpq.so")).unwrap(), b"library");

        for bad in ["../../etc/passwd", "/etc/passwd"] {
            fs::write(&list, format!(r#"[{{"source":"{bad}","target":"native/lib/x"}}]"#)).unwrap();
            assert!(restore_symlinks(&dir).unwrap_err().contains("outside the package"));
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
