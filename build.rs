//! Rebuilds when a migration is added: `sqlx::migrate!` embeds the files but does not watch the folder.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
