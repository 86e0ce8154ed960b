//! The private Postgres: it starts, keeps its data, leaves nothing behind, and says clearly why it cannot.

use std::fs;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sluicegate::embedded::{self, Cluster, Durability, EmbeddedError, Options};
use sqlx::{Connection, PgConnection};

use crate::support::postgres::database;

/// Tells a re-run of this binary which folder to own a cluster in.
const OWN: &str = "SLUICEGATE_TEST_OWN_CLUSTER";

/// A folder for one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sgt-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    /// With a cluster in it, copied from one that this process made: an initdb of its own costs a second.
    fn with_cluster(name: &str) -> Self {
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            remove_leftovers();
            let pristine = ManuallyDrop::new(Scratch::new("pristine"));
            start(&pristine.cluster_dir()).stop();
            pristine.cluster_dir()
        });
        let scratch = Self::new(name);
        let copied = Command::new("cp").arg("-a").arg(made).arg(scratch.cluster_dir()).status();
        assert!(copied.unwrap().success());
        scratch
    }

    fn cluster_dir(&self) -> PathBuf {
        self.0.join("pg")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Removes the folders of test processes that are gone: the pristine cluster of each, and what killed runs left.
fn remove_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("sgt-").and_then(|rest| rest.rsplit('-').next()).map(str::to_owned);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        pg_bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::Throwaway,
        allow_fetch: true,
        say: Box::new(|line| eprintln!("{line}")),
    }
}

fn start(dir: &Path) -> Cluster {
    embedded::start(options(dir)).unwrap()
}

fn we_are_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Runs SQL on a cluster and answers with the one text it selects, if any.
async fn ask(cluster: &Cluster, sql: &'static str) -> Option<String> {
    let mut connection = PgConnection::connect(&cluster.url(embedded::DATABASE)).await.unwrap();
    let answer = sqlx::query_scalar::<_, String>(sql).fetch_optional(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

/// Waits, within bounds, until the process is gone; a zombie nobody reaps counts as gone.
fn assert_ends(pid: i32) {
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    };
    for _ in 0..1_000 {
        if !alive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {pid} is still there after 10 s");
}

/// Another process that starts a cluster in the folder and then only waits. Answers once the server is ready.
fn start_in_a_child(dir: &Path) -> (Child, i32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::a_child_process_owns_a_cluster_until_it_is_killed", "--nocapture"])
        .env(OWN, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..3_000 {
        let text = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        if let [pid, .., "ready"] = lines[..] {
            return (child, pid.parse().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("the child's server is not ready after 30 s");
}

/// Not a test by itself: the process that the tests below start in order to kill it.
#[test]
fn a_child_process_owns_a_cluster_until_it_is_killed() {
    let Some(dir) = std::env::var_os(OWN) else { return };
    let _cluster = start(Path::new(&dir));
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_private_postgres_starts_answers_and_is_gone_after_stop() {
    let scratch = Scratch::new("start");
    let cluster = start(&scratch.cluster_dir());
    let (pid, socket_dir) = (cluster.server_pid(), scratch.cluster_dir().join("sock"));
    let version = ask(&cluster, "show server_version").await.unwrap();
    assert!(version.starts_with(cluster.server_version()), "{version} is {}", cluster.server_version());
    assert_eq!(ask(&cluster, "show listen_addresses").await.unwrap(), "", "no network port");
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700, "nobody else may connect");
    cluster.stop();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn data_written_before_a_stop_is_there_after_the_next_start() {
    let scratch = Scratch::with_cluster("reuse");
    let cluster = start(&scratch.cluster_dir());
    ask(&cluster, "create table kept as select 'still here'::text as word").await;
    cluster.stop();
    let cluster = start(&scratch.cluster_dir());
    assert_eq!(ask(&cluster, "select word from kept").await.unwrap(), "still here");
}

#[tokio::test]
async fn a_durable_cluster_forces_its_writes_to_disk_and_checks_its_pages() {
    let scratch = Scratch::new("durable");
    let durable = Options { durability: Durability::Durable, ..options(&scratch.cluster_dir()) };
    let cluster = embedded::start(durable).unwrap();
    for setting in ["show fsync", "show synchronous_commit", "show full_page_writes", "show data_checksums"] {
        assert_eq!(ask(&cluster, setting).await.unwrap(), "on", "{setting}");
    }
}

#[test]
fn a_second_start_on_the_same_folder_is_refused_and_names_the_holder() {
    let scratch = Scratch::with_cluster("twice");
    let (mut child, _) = start_in_a_child(&scratch.cluster_dir());
    let refused = embedded::start(options(&scratch.cluster_dir())).err().unwrap();
    child.kill().unwrap();
    let holder = child.id();
    child.wait().unwrap();
    assert!(matches!(refused, EmbeddedError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("in use by process {holder}:")), "{refused}");
}

#[tokio::test]
async fn a_killed_owner_leaves_no_server_behind_and_the_data_starts_again() {
    let scratch = Scratch::with_cluster("killed");
    let first = start(&scratch.cluster_dir());
    ask(&first, "create table kept as select 'still here'::text as word").await;
    first.stop();
    let (mut child, server) = start_in_a_child(&scratch.cluster_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ends(server);
    let cluster = start(&scratch.cluster_dir());
    assert_eq!(ask(&cluster, "select word from kept").await.unwrap(), "still here");
}

#[tokio::test]
async fn a_start_right_after_the_owner_was_killed_waits_for_its_server_to_end() {
    let scratch = Scratch::with_cluster("at-once");
    let (mut child, _) = start_in_a_child(&scratch.cluster_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    let cluster = start(&scratch.cluster_dir());
    assert_eq!(ask(&cluster, "select 'up'").await.unwrap(), "up");
}

#[tokio::test]
async fn after_owner_and_server_were_both_killed_the_data_recovers() {
    let scratch = Scratch::with_cluster("both");
    let first = start(&scratch.cluster_dir());
    ask(&first, "create table kept as select 'still here'::text as word").await;
    first.stop();
    let (mut child, server) = start_in_a_child(&scratch.cluster_dir());
    assert!(Command::new("kill").args(["-9", &server.to_string()]).status().unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        scratch.cluster_dir().join("data/postmaster.pid").exists(),
        "a killed server leaves its pid file"
    );
    let cluster = start(&scratch.cluster_dir());
    assert_eq!(ask(&cluster, "select word from kept").await.unwrap(), "still here");
}

#[test]
fn a_pid_file_that_names_a_stranger_does_not_keep_the_server_from_starting() {
    let scratch = Scratch::with_cluster("stranger");
    start(&scratch.cluster_dir()).stop();
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let pid_file = scratch.cluster_dir().join("data/postmaster.pid");
    fs::write(&pid_file, format!("{}\n/elsewhere\n0\n5432\n", stranger.id())).unwrap();
    let started = embedded::start(options(&scratch.cluster_dir()));
    let untouched = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(untouched, "a process that is no postgres of ours is left alone");
    started.unwrap();
}

#[test]
fn started_by_root_the_server_runs_as_somebody_else() {
    if !we_are_root() {
        return;
    }
    let scratch = Scratch::new("root");
    let cluster = start(&scratch.cluster_dir());
    let uid = fs::metadata(format!("/proc/{}", cluster.server_pid())).unwrap().uid();
    assert_ne!(uid, 0);
    assert_eq!(fs::metadata(scratch.cluster_dir().join("data")).unwrap().uid(), uid);
}

#[tokio::test]
async fn root_gets_a_stand_in_for_a_folder_the_servers_user_cannot_reach() {
    if !we_are_root() {
        return;
    }
    let scratch = Scratch::new("closed");
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let say = Box::new(move |line: &str| heard.lock().unwrap().push_str(line));
    let cluster = embedded::start(Options { say, ..options(&scratch.cluster_dir()) }).unwrap();
    let stand_in = cluster.dir().to_owned();
    assert_eq!(ask(&cluster, "select 'up'").await.unwrap(), "up");
    assert!(!stand_in.starts_with(&scratch.0), "{}", stand_in.display());
    assert!(said.lock().unwrap().contains(&stand_in.display().to_string()), "{}", said.lock().unwrap());
    cluster.stop();
    let again = embedded::start(options(&scratch.cluster_dir())).unwrap();
    assert_eq!(again.dir(), stand_in, "the next start finds the same one");
    again.stop();
    assert!(embedded::remove_unused(&stand_in).unwrap());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one_that_goes_with_the_cluster() {
    let scratch = Scratch::new("long");
    let dir = scratch.0.join("d, ü".repeat(30));
    let cluster = start(&dir);
    let socket = ask(&cluster, "show unix_socket_directories").await.unwrap();
    let socket = PathBuf::from(socket.trim_matches('"'));
    assert!(socket.as_os_str().len() <= 80, "{}", socket.display());
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);
    cluster.stop();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_path_with_characters_that_mean_something_elsewhere_works() {
    let scratch = Scratch::new("odd");
    let cluster = start(&scratch.0.join("a b,c?d&e%20\"f#é"));
    assert_eq!(ask(&cluster, "select 'up'").await.unwrap(), "up");
}

#[test]
fn without_a_fitting_postgres_one_sentence_names_every_way_out() {
    let scratch = Scratch::new("missing");
    // No machine has it; the search is the same as for a new cluster.
    fs::create_dir_all(scratch.cluster_dir().join("data")).unwrap();
    fs::set_permissions(scratch.cluster_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scratch.cluster_dir().join("data/PG_VERSION"), "99\n").unwrap();
    if we_are_root() {
        std::os::unix::fs::chown(scratch.cluster_dir().join("data"), Some(65_534), Some(65_534)).unwrap();
    }
    let offline = Options { pg_bin_dir: None, allow_fetch: false, ..options(&scratch.cluster_dir()) };
    let error = embedded::start(offline).err().unwrap().to_string();
    for way in ["Postgres 99", "apt-get install postgresql", "PG_BIN_DIR", "DATABASE_URL", "npm or pip"] {
        assert!(error.contains(way), "{way} in: {error}");
    }
    assert_eq!(error.lines().count(), 1);

    let empty = Options { pg_bin_dir: Some(scratch.0.clone()), ..options(&scratch.cluster_dir()) };
    let error = embedded::start(empty).err().unwrap().to_string();
    assert!(error.contains("PG_BIN_DIR") && error.contains("holds no initdb"), "{error}");
}

#[test]
fn a_server_that_does_not_start_is_explained_by_the_end_of_its_log() {
    let scratch = Scratch::with_cluster("broken");
    start(&scratch.cluster_dir()).stop();
    fs::write(scratch.cluster_dir().join("data/postgresql.auto.conf"), "no_such_setting = 1\n").unwrap();
    let error = embedded::start(options(&scratch.cluster_dir())).err().unwrap();
    assert!(matches!(error, EmbeddedError::Server { .. }), "{error}");
    assert!(error.to_string().contains("unrecognized configuration parameter"), "{error}");
}

#[tokio::test]
async fn two_tests_get_two_databases_that_do_not_see_each_other() {
    let (one, two) = tokio::join!(database(), database());
    sqlx::query("create table mine (id int)").execute(&one.pool).await.unwrap();
    let seen: bool =
        sqlx::query_scalar("select to_regclass('mine') is not null").fetch_one(&two.pool).await.unwrap();
    assert!(!seen);
    assert_ne!(one.url, two.url);
}
