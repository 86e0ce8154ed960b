//! Who sits at the shell, for the record: an order is on record under a person's name, not under the program's.

use std::process::{Command, Stdio};

/// A longer name is cut.
const LONGEST: usize = 64;

/// `shell:NAME` of whoever runs this process.
pub fn on_record() -> String {
    format!("shell:{}", legible(&name()))
}

/// The system's name for the user, which an environment variable can't change; under `sudo` of the one who called
/// it. A user without a name has a number.
fn name() -> String {
    let user = id(&["-un"]).or_else(|| id(&["-u"]));
    match user.as_deref() {
        Some("root") => std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty()).or(user),
        _ => user,
    }
    .unwrap_or_else(|| "unknown".to_owned())
}

fn id(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("id").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Only what reads well in a log.
fn legible(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    name.chars().take(LONGEST).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_has_a_name_that_reads_well() {
        assert!(on_record().len() > "shell:".len());
        assert_eq!(legible("a b\nü"), "a_b__");
        assert_eq!(legible(&"x".repeat(99)).len(), LONGEST);
    }
}
