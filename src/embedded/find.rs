//! Finds an installed Postgres: PG_BIN_DIR, else PATH, else the folders the usual packages install into.
//!
//! A folder counts when it holds initdb and postgres and its postgres tells a version that fits. An existing
//! cluster can only be served by its own major version, so that decides before "newest first" does.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The oldest major version whose SQL the migrations may use.
pub(super) const OLDEST_MAJOR: u32 = 14;

/// Where packages install: the parent folder, how the version's folder starts, and where its programs lie.
const FOLDERS: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/usr/local", "pgsql", "bin"),
];

/// A usable set of programs.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    /// The folder of initdb and postgres, free of symlinks: they look for `../share` beside themselves.
    pub bin: PathBuf,
    pub major: u32,
    /// As the server tells it, such as `17.10`.
    pub version: String,
}

impl Binaries {
    /// Reads the version of the programs in a folder; `Err` says what is missing.
    pub fn probe(folder: &Path) -> Result<Self, String> {
        let initdb = folder.join("initdb");
        let initdb = initdb.canonicalize().map_err(|_| "holds no initdb".to_owned())?;
        let bin = initdb.parent().unwrap_or(folder).to_owned();
        let postgres = bin.join("postgres");
        if !postgres.is_file() {
            return Err("holds no postgres".to_owned());
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("holds a postgres that does not start: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"; betas say "18beta1".
        let version = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(major) => Ok(Self { bin, major, version }),
            Err(_) => Err(format!("holds a postgres that tells no version: {}", complaint(&output.stderr))),
        }
    }

    /// Whether a cluster of that major version (any, for a new one) can be served.
    pub fn fits(&self, major: Option<u32>) -> bool {
        self.major >= OLDEST_MAJOR && major.is_none_or(|wanted| wanted == self.major)
    }
}

/// The places to look at, so that a test can look at none.
pub(super) struct Search {
    path: Option<OsString>,
    folders: &'static [(&'static str, &'static str, &'static str)],
}

impl Search {
    /// PATH and the usual folders.
    pub fn this_machine() -> Self {
        Self { path: std::env::var_os("PATH"), folders: &FOLDERS }
    }

    /// The first fitting Postgres: PATH in its own order, then the folders, newest major first.
    pub fn installed(&self, major: Option<u32>) -> Option<Binaries> {
        let on_path = self.path.as_ref().map(std::env::split_paths).into_iter().flatten();
        let mut on_path = on_path.filter(|folder| folder.join("initdb").is_file());
        if let Some(found) = on_path.find_map(|folder| fitting(&folder, major)) {
            return Some(found);
        }
        let mut found: Vec<Binaries> =
            self.usual_folders().iter().filter_map(|folder| fitting(folder, major)).collect();
        found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        found.into_iter().next()
    }

    fn usual_folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for (parent, prefix, below) in self.folders {
            let Ok(entries) = fs::read_dir(parent) else { continue };
            let named = entries
                .filter_map(Result::ok)
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(below))
                .filter(|folder| folder.join("initdb").is_file());
            folders.extend(named);
        }
        folders
    }
}

/// The programs of PG_BIN_DIR, which wins over everything and so must fit.
pub(super) fn chosen(dir: &Path, major: Option<u32>) -> Result<Binaries, EmbeddedError> {
    let refuse = |why| EmbeddedError::BinDir { dir: dir.to_owned(), why };
    let binaries = Binaries::probe(dir).map_err(refuse)?;
    if binaries.fits(major) {
        return Ok(binaries);
    }
    let wanted = needed(major);
    Err(refuse(format!("holds Postgres {}, but the data directory needs {wanted}", binaries.version)))
}

/// Which versions would do, in words.
pub(super) fn needed(major: Option<u32>) -> String {
    match major {
        Some(major) => format!("{major} (the version the data directory was made with)"),
        None => format!("{OLDEST_MAJOR} or newer"),
    }
}

/// The major version an existing cluster was made with.
pub(super) fn major_of(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

fn fitting(folder: &Path, major: Option<u32>) -> Option<Binaries> {
    match Binaries::probe(folder) {
        Ok(binaries) if binaries.fits(major) => Some(binaries),
        Ok(binaries) => {
            tracing::debug!(folder = %folder.display(), version = binaries.version, "postgres of another version");
            None
        }
        Err(why) => {
            tracing::debug!(folder = %folder.display(), why, "not a usable postgres");
            None
        }
    }
}

/// The last line of what a program complained.
fn complaint(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).trim().lines().last().unwrap_or("it printed nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(folder: &Path, version: &str) {
        fs::create_dir_all(folder).unwrap();
        for name in ["initdb", "postgres"] {
            let script = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n");
            fs::write(folder.join(name), script).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn path_wins_but_only_with_a_version_that_fits() {
        let top = std::env::temp_dir().join(format!("sluicegate-find-{}", std::process::id()));
        let (old, new, newest) = (top.join("13"), top.join("16"), top.join("18"));
        fake(&old, "13.2");
        fake(&new, "16.4 (Somebody 16.4-1)");
        fake(&newest, "18beta1");
        let path = std::env::join_paths([&old, &new, &newest]).unwrap();
        let search = Search { path: Some(path), folders: &[] };

        assert_eq!(search.installed(None).unwrap().version, "16.4");
        assert_eq!(search.installed(Some(18)).unwrap().version, "18beta1");
        assert!(search.installed(Some(13)).is_none(), "13 is older than the SQL needs");
        assert!(search.installed(Some(15)).is_none());
        assert!(Search { path: None, folders: &[] }.installed(None).is_none());

        let refused = chosen(&new, Some(18)).unwrap_err().to_string();
        assert!(refused.contains("holds Postgres 16.4, but the data directory needs 18"), "{refused}");
        assert!(chosen(&top, None).unwrap_err().to_string().contains("holds no initdb"));
        fs::remove_dir_all(&top).unwrap();
    }
}
