//! Fills the outbox with a past: millions of events that were applied long ago, over the partitions there are.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use sqlx::Connection as _;
use time::{Duration, OffsetDateTime};

use super::payload;
use super::stand::{Database, Stand};
use crate::store::outbox;
use crate::store::{db, trial};

/// Rows of one statement.
const CHUNK: i64 = 20_000;
/// As many as there are cores to be expected for them.
const WRITERS: usize = 2;
/// How far back the past reaches: the partitions of five weeks lie there.
const WEEKS: i64 = 5;
/// How long event ids are here.
const ID_LEN: usize = 28;
/// Log, temporary files and what the measures add, in bytes; less for a small past.
const BESIDE: u64 = 6 * 1024 * 1024 * 1024;

/// What is stored, again and again.
struct Kinds {
    payloads: Vec<Vec<u8>>,
    types: Vec<String>,
    round: Vec<i32>,
    id_at: i32,
}

impl Kinds {
    fn read() -> anyhow::Result<Self> {
        let (mut payloads, mut types, mut round, mut id_at) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (place, (name, body, share)) in (1..).zip(payload::samples()?) {
            // The id stands first in every body, so at the same place.
            let at = body.find("evt_").context("a body names its event")?;
            anyhow::ensure!(id_at == 0 || id_at == at, "{name}: the id stands elsewhere than in the others");
            id_at = at;
            types.push(name.replacen('_', ".", 1));
            payloads.push(body.into_bytes());
            round.extend(std::iter::repeat_n(place, usize::try_from(share)?));
        }
        let short = payloads.iter().any(|body| body.len() < id_at + ID_LEN);
        anyhow::ensure!(!short, "a body ends before its id does");
        Ok(Self { payloads, types, round, id_at: i32::try_from(id_at)? + 1 })
    }
}

/// Stores `rows` past events and settles the database; returns how that went, for people.
pub async fn fill(stand: &Stand, database: &Database, rows: u64) -> anyhow::Result<String> {
    let (kinds, began) = (Kinds::read()?, Instant::now());
    let now = OffsetDateTime::now_utc();
    let rows = i64::try_from(rows).context("so many rows")?;
    let mut conn = db::connect_one(&database.url).await?;
    let mut tx = conn.begin().await?;
    outbox::ensure_partitions(&mut tx, now).await?;
    tx.commit().await?;
    let (from, over) = (now - Duration::weeks(WEEKS), Duration::weeks(WEEKS).whole_seconds());
    let past = |numbers| trial::Past {
        numbers,
        from,
        over_s: over,
        payloads: &kinds.payloads,
        types: &kinds.types,
        round: &kinds.round,
        id_at: kinds.id_at,
    };
    let empty = trial::get_size(&mut conn).await?;
    let first = rows.min(CHUNK);
    let mut stored = trial::insert_past(&mut conn, &past((1, first))).await?;
    let a_row = (trial::get_size(&mut conn).await? - empty).max(1) / first.max(1);
    refuse_a_small_disk(stand, a_row.saturating_mul(rows))?;
    let next = AtomicI64::new(first + 1);
    let writers = (0..WRITERS).map(|_| async {
        let mut conn = db::connect_one(&database.url).await?;
        let mut stored = 0;
        loop {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from > rows {
                return anyhow::Ok(stored);
            }
            stored += trial::insert_past(&mut conn, &past((from, rows.min(from + CHUNK - 1)))).await?;
            let done = from * 10 / rows;
            if done > (from - CHUNK) * 10 / rows {
                eprintln!("  {done}0 % of {rows} rows after {:.0} s", began.elapsed().as_secs_f64());
            }
        }
    });
    for written in futures_util::future::join_all(writers).await {
        stored += written?;
    }
    let filled = began.elapsed();
    trial::settle(&mut conn).await?;
    let size = trial::get_size(&mut conn).await? as f64 / 1e9;
    Ok(format!(
        "{stored} past events stored in {:.0} s, settled in {:.0} s; {size:.2} GB on disk",
        filled.as_secs_f64(),
        (began.elapsed() - filled).as_secs_f64()
    ))
}

fn refuse_a_small_disk(stand: &Stand, bytes: i64) -> anyhow::Result<()> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let needed = bytes.saturating_add(bytes.min(BESIDE));
    let gb = |bytes: u64| bytes as f64 / 1e9;
    match stand.free_bytes() {
        Some(free) => anyhow::ensure!(
            free >= needed,
            "{:.1} GB would be needed in {} and {:.1} are free: fill fewer --rows, or name another --scratch folder",
            gb(needed),
            stand.folder.display(),
            gb(free)
        ),
        None => {
            eprintln!("the disk of the named server is not ours to look at: it needs {:.1} GB", gb(needed))
        }
    }
    Ok(())
}
