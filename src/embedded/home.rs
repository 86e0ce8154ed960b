//! The folders of a private cluster, each with the owner and mode Postgres insists on.
//!
//! As root the cluster belongs to another user, who may be unable to reach the folder asked for (anything
//! under /root); then it lives in a stand-in whose name is derived from that folder, so the next start finds it.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::EmbeddedError;
use super::find::Binaries;
use super::user::RunAs;
use super::{Durability, Options};

/// A socket's path may be 107 bytes on Linux and 103 on macOS, and `/.s.PGSQL.5432.lock` comes on top.
const LONGEST_SOCKET_DIR: usize = 80;

/// A cluster's folder, locked for this process.
pub(super) struct Home {
    pub dir: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub run_as: RunAs,
    /// Held as long as this value.
    _lock: Lock,
}

/// A folder's lock. The kernel lets go of it when we die, however we die.
pub(super) struct Lock(File);

impl Lock {
    /// None while somebody else holds it.
    pub fn take(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a child that another thread is just forking holds a copy of the descriptor
    /// until it runs its own program, and with it the lock.
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

impl Home {
    /// Makes the folder (or its stand-in) and takes its lock.
    pub fn claim(options: &Options) -> Result<Self, EmbeddedError> {
        let asked = std::path::absolute(&options.data_dir)
            .map_err(EmbeddedError::path("resolve", &options.data_dir))?;
        let mut run_as = RunAs::choose()?;
        run_as.adopt_owner_of(&asked.join("data"))?;
        let mut dir = asked.clone();
        if !make_passable(&asked, &run_as)? {
            dir = stand_in(&asked, options.durability, &run_as);
            run_as.adopt_owner_of(&dir.join("data"))?;
            (options.say)(&format!(
                "user id {} cannot reach {}: the private Postgres lives in {}",
                run_as.uid,
                asked.display(),
                dir.display()
            ));
            if !make_passable(&dir, &run_as)? {
                let why = format!("user id {} cannot reach it", run_as.uid);
                return Err(EmbeddedError::Unsuitable { path: dir, why });
            }
            refuse_strangers(&dir, 0)?;
        }
        let lock = lock(&dir)?;
        Ok(Self { data: dir.join("data"), log: dir.join("server.log"), dir, run_as, _lock: lock })
    }

    /// A folder only the server's user may open, made if absent. Root may open it as well.
    pub fn private_folder(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !path.is_dir() {
            fs::create_dir(path).map_err(EmbeddedError::path("create", path))?;
            self.run_as.own(path)?;
        }
        refuse_strangers(path, self.run_as.uid)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(EmbeddedError::path("protect", path))
    }

    /// Where the socket goes: beside the data, or under a short temporary name when that path is too long.
    pub fn socket_folder(&self) -> Result<PathBuf, EmbeddedError> {
        let beside = self.dir.join("sock");
        let folder = if beside.as_os_str().len() <= LONGEST_SOCKET_DIR {
            beside
        } else {
            let name = format!("sluicegate-{}", short_hash(&self.dir));
            let candidates = [std::env::temp_dir(), PathBuf::from("/tmp")];
            let fits = |dir: &&PathBuf| {
                dir.as_os_str().len() + name.len() < LONGEST_SOCKET_DIR && self.run_as.can_enter(dir)
            };
            candidates.iter().find(fits).unwrap_or(&candidates[1]).join(name)
        };
        self.private_folder(&folder)?;
        // No server runs here any more (`reap` made sure), but the lock file of a killed one may name a zombie or
        // a stranger, and Postgres would take that for the holder.
        for left in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
            drop(fs::remove_file(folder.join(left)));
        }
        Ok(folder)
    }

    /// Opens the server's log anew, keeping the one of the run before.
    pub fn fresh_log(&self) -> Result<File, EmbeddedError> {
        if self.log.exists() {
            let earlier = self.dir.join("server.log.1");
            fs::rename(&self.log, &earlier).map_err(EmbeddedError::path("rename", &self.log))?;
        }
        File::create(&self.log).map_err(EmbeddedError::path("create", &self.log))
    }

    /// The programs in a place where the server's user can run them: where they are, or a copy.
    pub fn reachable(&self, mut binaries: Binaries, say: &dyn Fn(&str)) -> Result<Binaries, EmbeddedError> {
        if self.run_as.can_run(&binaries.bin.join("postgres")) {
            return Ok(binaries);
        }
        // Programs find `share` and `lib` from where they lie, so the whole tree moves.
        let tree = binaries.bin.parent().unwrap_or(&binaries.bin);
        let copy = self.dir.join(format!("postgres-{}-{}", binaries.version, short_hash(tree)));
        if !copy.is_dir() {
            say(&format!(
                "user id {} cannot run {}: copying Postgres to {}",
                self.run_as.uid,
                binaries.bin.display(),
                copy.display()
            ));
            let staging = self.dir.join(format!("init-copy-{}", std::process::id()));
            copy_tree(tree, &staging)?;
            fs::rename(&staging, &copy).map_err(EmbeddedError::path("put in place", &copy))?;
        }
        binaries.bin = copy.join("bin");
        Ok(binaries)
    }

    /// Removes what a killed initdb or copy left.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let unfinished = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("init-");
        for entry in entries.filter_map(Result::ok).filter(unfinished) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// The folder of the cluster, where `Home::claim` would find one; makes nothing. One that can't be looked at counts
/// as there: claiming it says why.
pub(super) fn find_cluster(options: &Options) -> Result<Option<PathBuf>, EmbeddedError> {
    let asked =
        std::path::absolute(&options.data_dir).map_err(EmbeddedError::path("resolve", &options.data_dir))?;
    let there = |dir: &PathBuf| match fs::metadata(dir.join("data")) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    let instead = stand_in(&asked, options.durability, &RunAs::choose()?);
    Ok([asked, instead].into_iter().find(there))
}

/// A few characters that stand for a path.
pub(super) fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hex::encode(&digest[..6])
}

/// Makes the folder where that leads anywhere: answers whether the server's user can pass through it. A folder
/// that was there before keeps its mode, which somebody else may rely on.
fn make_passable(dir: &Path, run_as: &RunAs) -> Result<bool, EmbeddedError> {
    if !dir.is_dir() {
        let existing = dir.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("/"));
        if !run_as.can_enter(existing) {
            return Ok(false);
        }
        fs::create_dir_all(dir).map_err(EmbeddedError::path("create", dir))?;
        let protect = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(EmbeddedError::path("protect", path))
        };
        if run_as.drops {
            // The ones made on the way need the x bit as well: umask 077 would close them.
            for made in dir.ancestors().skip(1).take_while(|part| *part != existing) {
                protect(made, 0o755)?;
            }
            protect(dir, 0o711)?;
        } else {
            protect(dir, 0o700)?;
        }
    }
    Ok(run_as.can_enter(dir))
}

/// Where the cluster lives when the folder asked for is out of the user's reach.
fn stand_in(asked: &Path, durability: Durability, run_as: &RunAs) -> PathBuf {
    let name = format!("sluicegate-{}", short_hash(asked));
    match durability {
        Durability::Durable => Path::new("/var/lib").join(name),
        Durability::ServerOnly | Durability::Throwaway if run_as.can_enter(&std::env::temp_dir()) => {
            std::env::temp_dir().join(name)
        }
        Durability::ServerOnly | Durability::Throwaway => Path::new("/tmp").join(name),
    }
}

/// A name in a folder others may write to can be taken by them first.
fn refuse_strangers(path: &Path, owner: u32) -> Result<(), EmbeddedError> {
    let meta = fs::symlink_metadata(path).map_err(EmbeddedError::path("look at", path))?;
    if meta.is_dir() && meta.uid() == owner && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("it is not a folder that only user id {owner} can write to");
    Err(EmbeddedError::Unsuitable { path: path.to_owned(), why })
}

/// Takes the folder's lock and writes our pid into it, for the message the next one gets.
fn lock(dir: &Path) -> Result<Lock, EmbeddedError> {
    let path = dir.join("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(EmbeddedError::path("open", &path))?;
    let Some(lock) = Lock::take(file).map_err(EmbeddedError::path("lock", &path))? else {
        let owner = fs::read_to_string(&path).ok().filter(|owner| !owner.is_empty());
        let owner = owner.unwrap_or_else(|| "unknown".to_owned());
        return Err(EmbeddedError::InUse { dir: dir.to_owned(), owner });
    };
    let written = lock.0.set_len(0).and_then(|()| write!(&lock.0, "{}", std::process::id()));
    written.map_err(EmbeddedError::path("write", &path))?;
    Ok(lock)
}

/// Copies files, folders and symlinks, readable (and as executable as they were) for everyone.
fn copy_tree(from: &Path, to: &Path) -> Result<(), EmbeddedError> {
    fs::create_dir(to).map_err(EmbeddedError::path("create", to))?;
    fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(EmbeddedError::path("open up", to))?;
    for entry in fs::read_dir(from).map_err(EmbeddedError::path("read", from))? {
        let entry = entry.map_err(EmbeddedError::path("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&source).map_err(EmbeddedError::path("look at", &source))?;
        if meta.is_symlink() {
            let points_at = fs::read_link(&source).map_err(EmbeddedError::path("read", &source))?;
            std::os::unix::fs::symlink(points_at, &target).map_err(EmbeddedError::path("link", &target))?;
        } else if meta.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(EmbeddedError::path("copy", &source))?;
            let mode = if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&target, Permissions::from_mode(mode))
                .map_err(EmbeddedError::path("open up", &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_just_being_forked_keeps_no_lock_that_was_let_go() {
        let path = std::env::temp_dir().join(format!("sluicegate-lock-{}", std::process::id()));
        let open = || File::options().write(true).create(true).truncate(false).open(&path).unwrap();
        let held = Lock::take(open()).unwrap().unwrap();
        // What a fork leaves in the child: another descriptor of the same open file.
        let inherited = held.0.try_clone().unwrap();
        assert!(Lock::take(open()).unwrap().is_none(), "held");
        drop(held);
        assert!(Lock::take(open()).unwrap().is_some(), "let go, although a copy is still open");
        drop(inherited);
        fs::remove_file(&path).unwrap();
    }
}
