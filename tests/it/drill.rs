//! The drill of docs/OPERATIONS.md: a backup is made, the original lost, the copy put in its place, and proved.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sluicegate::embedded::{self, Cluster, DATABASE, Durability, Options};
use sqlx::PgPool;
use time::Duration;

use crate::support::program::{bare, ended};
use crate::support::world::World;

/// A folder for one drill, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("sgt-drill-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Where this runs as root, the server is another user, who must get through.
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn start(dir: PathBuf) -> Cluster {
    let options = Options {
        data_dir: dir,
        pg_bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::Throwaway,
        allow_fetch: true,
        say: Box::new(|line| eprintln!("{line}")),
    };
    tokio::task::spawn_blocking(|| embedded::start(options).unwrap()).await.unwrap()
}

async fn stop(cluster: Cluster) {
    tokio::task::spawn_blocking(|| cluster.stop()).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Brings the service up on what this cluster holds.
async fn serve(world: &mut World, cluster: &Cluster) {
    world.db.url = cluster.url(DATABASE);
    world.db.pool = PgPool::connect(&world.db.url).await.unwrap();
    world.plan.database_url.clone_from(&world.db.url);
    world.start_service().await;
}

async fn check(url: &str) -> String {
    let mut command = bare(&["rebuild", "--check"]);
    command.env("DATABASE_URL", url);
    let checked = ended(command).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    checked.out
}

#[tokio::test]
async fn a_cold_copy_of_the_cluster_takes_the_place_of_the_lost_one() {
    let scratch = Scratch::new();
    let (original, backup, restored) =
        (scratch.0.join("original"), scratch.0.join("backup"), scratch.0.join("restored"));
    let cluster = start(original.clone()).await;
    let url = cluster.url(DATABASE);
    let mut world = World::with(|setting| setting.plan.database_url = url).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let before = world.transfer(&account, 1_000, json!({})).await;
    world.until_status(&before, "released").await;

    // The backup: nothing runs while it is copied.
    world.stop_service().await;
    stop(cluster).await;
    copy(&original, &backup);

    // Life goes on, and ends.
    let cluster = start(original.clone()).await;
    serve(&mut world, &cluster).await;
    let after = world.transfer(&account, 2_000, json!({})).await;
    world.until_status(&after, "released").await;
    world.stop_service().await;
    world.db.pool.close().await;
    stop(cluster).await;
    fs::remove_dir_all(&original).unwrap();

    // The restore: a copy of the backup, so that the backup itself stays what it is; proved before it serves.
    copy(&backup, &restored);
    let cluster = start(restored).await;
    check(&cluster.url(DATABASE)).await;
    world.clock.advance(Duration::hours(1));
    serve(&mut world, &cluster).await;
    for id in [&before, &after] {
        world.until_status(id, "released").await;
        assert_eq!(world.times_at_stripe(id), 1, "{id}");
    }
    let funds = world.funds("usd").await;
    assert_eq!((&funds["released"], &funds["available"]), (&json!(3_000), &json!(7_000)));
    world.assert_books_hold().await;
    let told = check(&world.db.url).await;
    assert!(!told.is_empty(), "it says what it compared");
    world.stop_service().await;
    world.db.pool.close().await;
    stop(cluster).await;
}
