//! `audit verify`: whether the audit log is still what was written.

use serde_json::json;
use sqlx::PgPool;

use super::output::Output;
use super::{Failed, database, service};
use crate::config::{Flags, Settings};
use crate::domain::audit::{Broken, Head};
use crate::store::audit;

/// Rows read at once.
const PAGE: i64 = 1_000;

/// What is done with the audit log.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Check every row against the hash of the one before it; exit 1 where the chain breaks
    #[command(
        after_help = "Examples:\n  sluicegate audit verify\n  sluicegate audit verify --expect 42:9f86d0…    # a row's number and hash, as noted before"
    )]
    Verify {
        /// A row and its hash that was noted elsewhere: the chain must still hold it
        #[arg(long, value_name = "ROW:HASH", value_parser = noted)]
        expect: Vec<Noted>,
        /// How to show the result; a table on a terminal, else JSON
        #[arg(long, value_enum)]
        output: Option<Output>,
        #[command(flatten)]
        flags: Box<Flags>,
    },
}

/// A row and its hash, as noted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    id: i64,
    hash: Vec<u8>,
}

fn noted(text: &str) -> Result<Noted, String> {
    let (id, hash) = text.split_once(':').ok_or("is written ROW:HASH")?;
    let id = id.parse().ok().filter(|id| *id >= 1).ok_or("the row is a number from 1")?;
    let hash = hex::decode(hash).ok().filter(|hash| hash.len() == 32).ok_or("the hash is 64 hex digits")?;
    Ok(Noted { id, hash })
}

/// What was found.
struct Verified {
    head: Head,
    broken: Option<String>,
}

/// Verifies the log.
pub async fn verify(settings: Settings, expect: &[Noted], output: Option<Output>) -> Result<bool, Failed> {
    let database =
        database::reach(settings.database_url.as_ref(), settings.data_dir, settings.pg_bin_dir).await?;
    let pool = service::connect(&database.url, 2).await?;
    let verified = walk(&pool, expect).await?;
    pool.close().await;
    database.stop().await;
    let well = verified.broken.is_none();
    Output::or_fitting(output).print(&json!({
        "verified": well,
        "rows": verified.head.id,
        "last": format!("{}:{}", verified.head.id, hex::encode(&verified.head.hash)),
        "problem": verified.broken,
    }));
    Ok(well)
}

async fn walk(pool: &PgPool, expect: &[Noted]) -> anyhow::Result<Verified> {
    let mut conn = pool.acquire().await?;
    // Rows that are added meanwhile lie beyond it.
    let kept = audit::get_head(&mut conn).await?;
    let mut head = Head::default();
    let mut missing: Vec<&Noted> = expect.iter().collect();
    loop {
        let rows = audit::list(&mut conn, head.id, PAGE).await?;
        if rows.is_empty() || head.id >= kept.id {
            break;
        }
        for row in rows.iter().take_while(|row| row.id <= kept.id) {
            if let Err(broken) = head.follow(row) {
                return Ok(Verified { head, broken: Some(Broken::to_string(&broken)) });
            }
            missing.retain(|noted| noted.id != head.id || noted.hash != head.hash);
        }
    }
    let broken = if head != kept {
        Some(format!("the log ends at row {} and should end at row {}", head.id, kept.id))
    } else {
        missing.first().map(|noted| format!("row {} is not the one that was noted", noted.id))
    };
    Ok(Verified { head, broken })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_row_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        assert_eq!(noted(&format!("7:{hash}")), Ok(Noted { id: 7, hash: vec![0xab; 32] }));
        for bad in ["", "7", "0:ab", &format!("0:{hash}"), &format!("x:{hash}"), "7:abcd"] {
            assert!(noted(bad).is_err(), "{bad}");
        }
    }
}
