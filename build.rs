//! Rebuilds when a migration is added: `sqlx::migrate!` embeds the files but does not watch the folder. And finds out
//! which commit is built, for `--version`.

use std::path::Path;
use std::process::Command;

/// Where there is no repository, a packager says what is built.
const GIVEN: &str = "SLUICEGATE_COMMIT";

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed={GIVEN}");
    let given = std::env::var(GIVEN).ok().filter(|commit| !commit.is_empty());
    // Whoever develops would compile everything again after each commit.
    let asked = || std::env::var("PROFILE").is_ok_and(|profile| profile == "release").then(of_git).flatten();
    let build = given.or_else(asked).map(|commit| format!(" ({commit})")).unwrap_or_default();
    println!("cargo:rustc-env=SLUICEGATE_BUILD={build}");
}

/// The commit of this folder's own repository, with `+` where it was changed since. A tarball that was unpacked within
/// another repository has none.
fn of_git() -> Option<String> {
    let prefix = git(&["rev-parse", "--show-prefix"])?;
    if !prefix.is_empty() {
        return None;
    }
    for watched in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", watched])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
