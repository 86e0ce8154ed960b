//! Under which user Postgres runs, and what that user can reach.
//!
//! initdb and postgres refuse user id 0, so root hands them to `postgres`, else `nobody`. Users are looked up
//! with `id`, which asks every source of names the machine has and needs no unsafe code.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The user Postgres runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAs {
    pub uid: u32,
    pub gid: u32,
    /// Whether we are root and hand over to that user, or simply are that user.
    pub drops: bool,
}

impl RunAs {
    /// The present user, or for root the user to hand over to.
    pub fn choose() -> Result<Self, EmbeddedError> {
        let uid: u32 = id(&["-u"])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| EmbeddedError::Program { program: "id -u".into(), output: "no user id".into() })?;
        if uid != 0 {
            // macOS prints the number and succeeds where others fail; both mean that there is no name.
            let named = id(&["-un"]).is_ok_and(|name| name.parse::<u32>().is_err());
            let gid = id(&["-g"]).ok().and_then(|text| text.parse().ok());
            return match (named, gid) {
                (true, Some(gid)) => Ok(Self { uid, gid, drops: false }),
                _ => Err(EmbeddedError::NoPasswdEntry { uid }),
            };
        }
        let mut why = String::new();
        for name in ["postgres", "nobody"] {
            match (id(&["-u", name]), id(&["-g", name])) {
                (Ok(uid), Ok(gid)) => {
                    if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
                        return Ok(Self { uid, gid, drops: true });
                    }
                }
                (Err(error), _) | (_, Err(error)) => why = error,
            }
        }
        Err(EmbeddedError::NobodyToRunAs(why))
    }

    /// Follows the owner of a cluster that already exists: root can act for anyone, others only for themselves.
    pub fn adopt_owner_of(&mut self, data: &Path) -> Result<(), EmbeddedError> {
        let Ok(meta) = fs::metadata(data) else { return Ok(()) };
        match (self.drops, meta.uid()) {
            (_, owner) if owner == self.uid => Ok(()),
            (true, owner) if owner != 0 => {
                (self.uid, self.gid) = (owner, meta.gid());
                Ok(())
            }
            (drops, owner) => {
                let me = if drops { 0 } else { self.uid };
                Err(EmbeddedError::ForeignOwner { data: data.to_owned(), owner, me })
            }
        }
    }

    /// Gives a file or folder to the user, where it is not theirs by birth.
    pub fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.drops {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid)).map_err(EmbeddedError::path("change the owner of", path))
    }

    /// Makes the command run as the user. Its supplementary groups go too (std clears them for root).
    pub fn apply(&self, command: &mut Command) {
        if self.drops {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Whether the user can pass through the folder and every folder above it. Only mode bits count: where an
    /// access list says otherwise, the fallback is taken needlessly, or the server's own message is shown.
    pub fn can_enter(&self, folder: &Path) -> bool {
        if !self.drops {
            return true;
        }
        let Ok(real) = folder.canonicalize() else { return false };
        real.ancestors().all(|part| fs::metadata(part).is_ok_and(|meta| self.may_execute(&meta)))
    }

    /// Whether the user can execute the file where it lies.
    pub fn can_run(&self, file: &Path) -> bool {
        let Some(folder) = file.parent() else { return false };
        self.can_enter(folder)
            && (!self.drops || fs::metadata(file).is_ok_and(|meta| self.may_execute(&meta)))
    }

    fn may_execute(&self, meta: &Metadata) -> bool {
        let bit = match meta {
            meta if meta.uid() == self.uid => 0o100,
            meta if meta.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        meta.mode() & bit != 0
    }
}

/// What `id` prints, or what it complains about.
fn id(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_under_a_closed_one_cannot_be_entered_by_the_user_root_hands_over_to() {
        let top = std::env::temp_dir().join(format!("sluicegate-user-{}", std::process::id()));
        let inner = top.join("inner");
        fs::create_dir_all(&inner).unwrap();
        let me = fs::metadata(&top).unwrap().uid();
        let stranger = RunAs { uid: me + 1, gid: 4_000_000, drops: true };

        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.can_enter(&inner));
        fs::set_permissions(&top, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.can_enter(&inner));
        assert!(!stranger.can_enter(&top.join("absent")));
        fs::remove_dir_all(&top).unwrap();
    }
}
