//! The house's laws, checked against its source: which room may reach which, and what may stand where.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the source has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use of the others, beside itself.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("clock", &[]),
    ("planted", &[]),
    ("trail", &[]),
    ("telemetry", &["config"]),
    ("config", &["domain"]),
    ("stripe", &["domain"]),
    ("store", &["domain"]),
    ("flows", &["domain", "stripe", "store", "clock", "planted", "trail"]),
    ("worker", &["domain", "flows", "store", "clock", "trail"]),
    ("http", &["domain", "flows", "store", "clock"]),
    ("sandbox", &["stripe", "clock"]),
    ("embedded", &[]),
    (
        "cli",
        &[
            "clock",
            "config",
            "domain",
            "embedded",
            "flows",
            "http",
            "planted",
            "sandbox",
            "store",
            "stripe",
            "telemetry",
            "worker",
        ],
    ),
];

/// Shared floors of the flows: the only files of that room that others of it may use.
const SHARED_FLOORS: [&str; 14] = [
    "account_answer",
    "account_evidence",
    "account_record",
    "account_view",
    "attempt_record",
    "bell",
    "event_record",
    "order",
    "rings",
    "together",
    "topup_evidence",
    "topup_record",
    "transfer_evidence",
    "transfer_snapshot",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The room a file of `src` belongs to, and its own name within it.
fn room_of(path: &Path) -> (String, String) {
    let inside = path.strip_prefix(src()).unwrap().with_extension("");
    let mut parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The code of a file without comments, strings left in, tests left out.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every `crate::room` that a piece of code names, `use crate::{a, b}` included.
fn rooms_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => {
                let inner = group.split('}').next().unwrap_or_default();
                named.extend(inner.split(',').map(|part| first_word(part.trim())));
            }
            None => named.push(first_word(after)),
        }
    }
    named.retain(|name| !name.is_empty());
    named
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn no_arrow_points_up_or_round() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut broken = Vec::new();
    let mut arrows = 0;
    for path in sources(&src()) {
        let (room, _) = room_of(&path);
        if room == "main" || room == "lib" {
            continue;
        }
        let Some(may) = rules.get(room.as_str()) else {
            broken.push(format!("{}: a room the law does not know", path.display()));
            continue;
        };
        for used in rooms_named(&code_of(&path)) {
            arrows += 1;
            if used != room && !may.contains(&used.as_str()) {
                broken.push(format!("{}: uses {used}", path.display()));
            }
        }
    }
    assert!(arrows > 100, "the arrows were not found: {arrows}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_worker_sees_of_the_store_only_tasks_and_the_pool() {
    for path in sources(&src().join("worker")) {
        let code = code_of(&path);
        for after in code.split("crate::store::").skip(1) {
            let named = after.split(';').next().unwrap_or_default();
            let rooms: Vec<String> = match named.strip_prefix('{') {
                Some(group) => group
                    .split(", ")
                    .map(first_word)
                    .filter(|word| word.starts_with(char::is_lowercase))
                    .collect(),
                None => vec![first_word(named)],
            };
            for room in rooms {
                assert!(["tasks", "db"].contains(&room.as_str()), "{}: uses store::{room}", path.display());
            }
        }
    }
}

#[test]
fn http_writes_through_flows_and_reads_through_views() {
    for path in sources(&src().join("http")) {
        for after in code_of(&path).split("crate::store::").skip(1) {
            assert_eq!(first_word(after), "views", "{}", path.display());
        }
    }
}

#[test]
fn every_route_is_in_the_document() {
    let mut mounted = 0;
    for path in sources(&src().join("http")) {
        let code = code_of(&path);
        let is_page = path.ends_with("http/router.rs");
        for silent in [".route(", ".route_service(", ".nest(", ".nest_service(", "Router::new()"] {
            // The operators' pages are for people: they stand on the page of routes, and not in the document.
            let pages = |after: &str| after.trim_start().starts_with("\"/console");
            let may = match silent {
                ".route(" => is_page && code.split(silent).skip(1).all(pages),
                "Router::new()" => is_page && code.matches("Router::new()").count() == 1,
                _ => false,
            };
            assert!(
                may || !code.contains(silent),
                "{}: {silent} mounts what the document does not see",
                path.display()
            );
        }
        assert!(is_page || !code.contains("routes!("), "{}: routes stand on one page", path.display());
        if is_page {
            let lists = code.split("routes!(").skip(1).filter_map(|after| after.split(')').next());
            mounted = lists.map(|list| list.split(',').filter(|name| !name.trim().is_empty()).count()).sum();
        }
    }
    let document = sluicegate::http::document();
    let methods = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
    assert_eq!(methods.sum::<usize>(), mounted, "routes on the page, and calls in the document");
    assert!(document["paths"].as_object().unwrap().keys().all(|path| !path.starts_with("/console")));
    assert!(mounted > 30, "the routes were not found: {mounted}");
}

#[test]
fn flows_do_not_call_each_other() {
    let mut broken = Vec::new();
    for path in sources(&src().join("flows")) {
        let (_, own) = room_of(&path);
        if own == "mod" {
            continue;
        }
        let inside_story =
            path.parent().is_some_and(|dir| dir.file_name().is_some_and(|name| name != "flows"));
        let code = code_of(&path);
        let up = if inside_story { "super::super::" } else { "super::" };
        for after in code.split("crate::flows::").skip(1).chain(code.split(&format!("use {up}")).skip(1)) {
            let used = first_word(after);
            let is_story = used.chars().next().is_some_and(char::is_lowercase)
                && src().join("flows").join(format!("{used}.rs")).exists();
            if is_story && used != own && !SHARED_FLOORS.contains(&used.as_str()) {
                broken.push(format!("{}: uses flows::{used}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn sql_stands_only_in_the_store() {
    for path in sources(&src()) {
        let (room, _) = room_of(&path);
        let code = code_of(&path);
        let speaks_sql =
            ["sqlx::query", "query_as(", "query_scalar(", "AssertSqlSafe"].iter().any(|w| code.contains(w));
        assert!(!speaks_sql || room == "store", "{} speaks SQL", path.display());
    }
}

/// Why stands at `store::db::begin`.
#[test]
fn transactions_are_begun_in_one_place() {
    for path in sources(&src().join("flows")).into_iter().chain(sources(&src().join("store"))) {
        let code = code_of(&path);
        let begins =
            ["pool.begin()", "pool.begin_with(", "pool.try_begin("].iter().any(|word| code.contains(word));
        assert!(!begins || path.ends_with("store/db.rs"), "{} begins one itself", path.display());
    }
}

#[test]
fn every_statement_begins_with_its_name() {
    let mut statements = 0;
    for path in sources(&src().join("store")) {
        let code = code_of(&path);
        for after in code.split(": &str = \"").skip(1) {
            let first = after.lines().next().unwrap_or_default();
            let is_sql = after.trim_start().starts_with("--")
                || ["select ", "insert ", "update ", "delete ", "with "]
                    .iter()
                    .any(|w| first.trim_start().starts_with(w));
            if is_sql {
                statements += 1;
                assert!(first.starts_with("-- "), "{}: {first}", path.display());
            }
        }
    }
    assert!(statements > 50, "the statements were not found: {statements}");
}

#[test]
fn the_time_is_read_in_one_place() {
    for path in sources(&src()) {
        let (room, _) = room_of(&path);
        let code = code_of(&path);
        let reads = code.contains("now_utc()") || code.contains("SystemTime::now");
        // The demo's timetable and the private server's files live on the wall's time, not on the service's.
        let outside = ["clock", "embedded", "sandbox", "cli"].contains(&room.as_str());
        assert!(!reads || outside, "{} reads the clock", path.display());
    }
}

#[test]
fn the_domain_is_pure() {
    for path in sources(&src().join("domain")) {
        let code = code_of(&path);
        for impure in
            ["async ", "sqlx", "axum", "reqwest", "tokio", "tracing", "now_utc", "fastrand", "getrandom"]
        {
            assert!(!code.contains(impure), "{}: {impure}", path.display());
        }
    }
}

#[test]
fn no_file_is_a_bucket_and_none_is_too_long() {
    for path in sources(&src()) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["types", "util", "utils", "common", "helpers", "manager", "misc"].contains(&name.as_str()),
            "{}",
            path.display()
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 400, "{}: {} lines", path.display(), text.lines().count());
        let head = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!((1..=6).contains(&head), "{}: says in {head} lines what it knows", path.display());
    }
}
