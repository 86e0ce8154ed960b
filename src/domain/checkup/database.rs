//! Postgres as it is set up: whether it can be worked with, and whether what it says is stored, is.

use time::Duration;

use super::{Finding, some};
use crate::domain::count::counted;

/// The oldest version whose SQL is used, as Postgres numbers them.
const OLDEST: i32 = 140_000;
/// Beyond it somebody should set a clock.
const SKEWED: Duration = Duration::seconds(30);

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Like 150014.
    pub version_num: i32,
    /// Like `15.14`.
    pub version: String,
    /// Like `UTF8`.
    pub encoding: String,
    /// It takes no writes.
    pub read_only: bool,
    /// `fsync`.
    pub fsync: bool,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// Whether its toast can be compressed with lz4.
    pub lz4: bool,
    /// Whether we may create in the schema that comes first.
    pub may_create: bool,
    /// Whether we may change our tables; `None` where there are none yet.
    pub owns_tables: Option<bool>,
    /// Connections that are left to ordinary users, of the server, the database and the role together.
    pub connections: i64,
    /// How far its clock is ahead of ours.
    pub ahead: Duration,
}

/// A migration: its version, and whether what is applied is what this program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub version: i64,
    /// It ran to its end.
    pub success: bool,
    /// It is the one of this program, where this program has one of that number.
    pub same: Option<bool>,
}

/// How the way to the server is protected, after the connection's address and `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It does not leave this machine.
    Local,
    /// The certificate is checked, and that it is this server's.
    Verified,
    /// The certificate is checked, not whose it is.
    OfAnyHost,
    /// Encrypted, for whoever answers.
    Unverified,
    /// In clear, or whenever the server or somebody between wants it so.
    Clear,
}

/// Whether somebody on the way could read what is stored, or be taken for the server.
pub fn way(way: Way) -> Finding {
    const CHECK: &str = "database_tls";
    let mend =
        "add `sslmode=verify-full` to DATABASE_URL, and `sslrootcert=FILE` for an authority of your own";
    match way {
        Way::Local => Finding::ok(CHECK, "the connection does not leave this machine"),
        Way::Verified => Finding::ok(CHECK, "encrypted, and the server's certificate is checked"),
        Way::OfAnyHost => {
            Finding::warn(CHECK, "any host with a certificate of that authority can pose as the server", mend)
        }
        Way::Unverified => {
            Finding::warn(CHECK, "encrypted, but whoever answers is taken for the server", mend)
        }
        Way::Clear => {
            Finding::warn(CHECK, "what is asked and stored may go in clear to another machine", mend)
        }
    }
}

/// Every check of the server. `connections_each` is what one process of the service takes, `replicas` how many run.
pub fn server(server: &Server, connections_each: i64, replicas: i64) -> Vec<Finding> {
    vec![
        version(server),
        durability(server),
        privileges(server),
        connections(server.connections, connections_each, replicas),
        clock(server.ahead),
        compression(server.lz4),
    ]
}

fn version(server: &Server) -> Finding {
    const CHECK: &str = "database";
    let found = format!("Postgres {}", server.version);
    if server.version_num < OLDEST {
        return Finding::fail(CHECK, found, "use Postgres 14 or newer");
    }
    if server.read_only {
        let mend = "point DATABASE_URL at the primary";
        return Finding::fail(CHECK, format!("{found} takes no writes: a standby, or read-only"), mend);
    }
    if server.encoding != "UTF8" {
        let found = format!("{found}, the database in {}", server.encoding);
        return Finding::fail(
            CHECK,
            found,
            "create the database with encoding UTF8: not every text can be stored",
        );
    }
    Finding::ok(CHECK, found)
}

/// Stripe is told that an event is kept only once it is; a setting that lets a commit be forgotten makes that a lie.
/// `synchronous_commit` does not matter: the service sets its own.
fn durability(server: &Server) -> Finding {
    const CHECK: &str = "durability";
    let mut off = Vec::new();
    if !server.fsync {
        off.push("fsync");
    }
    if !server.full_page_writes {
        off.push("full_page_writes");
    }
    if off.is_empty() {
        return Finding::ok(CHECK, "a commit survives a power cut");
    }
    let found =
        format!("{} is off: what Stripe was told is kept, and payments, can be forgotten", some(&off));
    Finding::fail(CHECK, found, "turn it on in postgresql.conf")
}

fn privileges(server: &Server) -> Finding {
    const CHECK: &str = "privileges";
    if !server.may_create {
        let found = "the user may not create tables in its schema: migrations and new partitions fail";
        return Finding::fail(
            CHECK,
            found,
            "`grant create on schema public to USER`, or a schema of its own",
        );
    }
    if server.owns_tables == Some(false) {
        let found = "the tables belong to another role: migrations and new partitions fail";
        return Finding::fail(CHECK, found, "run as that role, or `grant ROLE to USER`");
    }
    Finding::ok(CHECK, "may create and change its tables")
}

fn connections(left: i64, each: i64, replicas: i64) -> Finding {
    const CHECK: &str = "connections";
    let found = format!("{left} for this user; a process takes up to {each}");
    let mend = "raise max_connections, or the limit of the role or the database";
    if left < each {
        return Finding::fail(CHECK, found, mend);
    }
    if left < each * (replicas.max(1) + 1) {
        let found = format!("{found}: one more, as in a rolling restart, finds no room");
        return Finding::warn(CHECK, found, mend);
    }
    Finding::ok(CHECK, found)
}

fn clock(ahead: Duration) -> Finding {
    const CHECK: &str = "database_clock";
    if ahead.abs() > SKEWED {
        let found = format!("{} s apart from ours", ahead.whole_seconds());
        return Finding::warn(CHECK, found, "keep both machines' clocks by NTP");
    }
    Finding::ok(CHECK, "agrees with ours")
}

fn compression(lz4: bool) -> Finding {
    const CHECK: &str = "compression";
    if lz4 {
        return Finding::ok(CHECK, "lz4");
    }
    let found = "the server was built without lz4: stored events take more time and room";
    Finding::warn(CHECK, found, "use a build with lz4, as the usual packages are")
}

/// The migrations: those applied, and those this program has. `None` where none was ever applied.
pub fn migrations(applied: Option<&[Applied]>, known: &[i64]) -> Finding {
    const CHECK: &str = "migrations";
    const APPLY: &str = "`sluicegate migrate` or the next start of `serve` applies them";
    let Some(applied) = applied else {
        return Finding::warn(CHECK, format!("none of {} is applied yet", known.len()), APPLY);
    };
    if let Some(broken) = applied.iter().find(|one| !one.success) {
        let found = format!("number {} broke off", broken.version);
        return Finding::fail(
            CHECK,
            found,
            "see what stands in the database's log, mend it, and run `sluicegate migrate`",
        );
    }
    if let Some(other) = applied.iter().find(|one| one.same == Some(false)) {
        let found =
            format!("number {} is not this program's: the database is that of another build", other.version);
        return Finding::fail(
            CHECK,
            found,
            "use the program that the database was made with, or a later release of it",
        );
    }
    let newer = applied.iter().filter(|one| one.same.is_none()).count();
    if newer > 0 {
        let found = format!("{} of a newer version than this program", counted(newer, "is", "are"));
        return Finding::fail(CHECK, found, "upgrade this program");
    }
    let pending = known.iter().filter(|version| !applied.iter().any(|one| one.version == **version)).count();
    if pending > 0 {
        return Finding::warn(CHECK, format!("{pending} of {} still to be applied", known.len()), APPLY);
    }
    Finding::ok(CHECK, format!("all {} are applied", known.len()))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Fail, Ok, Warn};
    use super::*;

    fn good() -> Server {
        Server {
            version_num: 150_014,
            version: "15.14".into(),
            encoding: "UTF8".into(),
            read_only: false,
            fsync: true,
            full_page_writes: true,
            lz4: true,
            may_create: true,
            owns_tables: Some(true),
            connections: 97,
            ahead: Duration::ZERO,
        }
    }

    #[test]
    fn each_setting_that_endangers_money_or_work_is_found() {
        assert!(server(&good(), 25, 1).iter().all(|finding| finding.verdict == Ok));
        type Change = fn(&mut Server);
        let rows: [(Change, &str, _); 13] = [
            (|s| s.version_num = 130_011, "database", Fail),
            (|s| s.read_only = true, "database", Fail),
            (|s| s.encoding = "SQL_ASCII".into(), "database", Fail),
            (|s| s.fsync = false, "durability", Fail),
            (|s| s.full_page_writes = false, "durability", Fail),
            (|s| s.may_create = false, "privileges", Fail),
            (|s| s.owns_tables = Some(false), "privileges", Fail),
            (|s| s.owns_tables = None, "privileges", Ok),
            (|s| s.connections = 24, "connections", Fail),
            (|s| s.connections = 49, "connections", Warn),
            (|s| s.ahead = Duration::seconds(-31), "database_clock", Warn),
            (|s| s.ahead = Duration::seconds(30), "database_clock", Ok),
            (|s| s.lz4 = false, "compression", Warn),
        ];
        for (change, check, verdict) in rows {
            let mut changed = good();
            change(&mut changed);
            let findings = server(&changed, 25, 1);
            let finding = findings.iter().find(|finding| finding.check == check).unwrap();
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert_eq!(finding.mend.is_some(), verdict != Ok);
        }
    }

    #[test]
    fn migrations_are_pending_broken_foreign_or_newer() {
        let one = |version, same| Applied { version, success: true, same };
        let all = [one(1, Some(true)), one(2, Some(true))];
        let broken = [one(1, Some(true)), Applied { success: false, ..one(2, Some(true)) }];
        let rows: [(Option<&[Applied]>, _, &str); 6] = [
            (None, Warn, "none of 2"),
            (Some(&all), Ok, "all 2"),
            (Some(&all[..1]), Warn, "1 of 2"),
            (Some(&broken), Fail, "broke off"),
            (Some(&[one(1, Some(true)), one(2, Some(false))]), Fail, "another build"),
            (Some(&[all[0], all[1], one(3, None)]), Fail, "newer version"),
        ];
        for (applied, verdict, says) in rows {
            let finding = migrations(applied, &[1, 2]);
            assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
        }
    }
}
