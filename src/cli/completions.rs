//! `completions`: the script that lets a shell complete commands and flags.

use clap_complete::{Shell, generate};

/// Where each shell reads it from.
pub const EXAMPLES: &str = "Examples:
  sluicegate completions bash > /etc/bash_completion.d/sluicegate
  sluicegate completions zsh > \"${fpath[1]}/_sluicegate\"
  sluicegate completions fish > ~/.config/fish/completions/sluicegate.fish
  sluicegate completions powershell >> $PROFILE
  sluicegate completions elvish >> ~/.config/elvish/rc.elv";

/// What `completions` is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn print(args: &Args, command: &mut clap::Command) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, command, name, &mut script);
    super::output::say(String::from_utf8_lossy(&script).trim_end());
}
