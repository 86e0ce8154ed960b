//! `man`: the manual, made from the same description as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;

/// Where the pages are read from.
pub const EXAMPLES: &str = "Examples:
  sluicegate man | man -l -
  sluicegate man --dir /usr/local/share/man/man1    # a page for each command as well";

/// What `man` is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write a page for each command into this folder, instead of the first to standard output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the first page, or writes all of them.
pub fn make(args: &Args, command: clap::Command) -> anyhow::Result<()> {
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .and_then(|()| clap_mangen::generate_to(command, dir))
                .with_context(|| format!("can't write the pages to {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            super::output::say(String::from_utf8_lossy(&page).trim_end());
        }
    }
    Ok(())
}
