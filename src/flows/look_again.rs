//! An event of a type that nobody handled is looked at again once this program handles it.
//!
//! It was kept, so an upgrade makes up for what the earlier version could not read. Types differ in nothing but
//! what is understood of them, so a page of which nothing is understood ends the look at its type.

use bytes::Bytes;

use super::{Context, FlowError, event_record};
use crate::domain::event::{Ignored, Ourselves};
use crate::store::db;
use crate::store::unhandled::{self, Unhandled};

/// Events looked at in one transaction.
const PAGE: i64 = 500;
/// And no further one once there are so many bytes of payloads.
const PAGE_BYTES: i64 = 2 * 1024 * 1024;

/// Looks at what was ignored for want of a handler; returns how many events are understood now.
pub async fn run(ctx: &Context, ourselves: &Ourselves) -> Result<u64, FlowError> {
    let mut conn = ctx.pool.acquire().await?;
    let types = unhandled::list_types(&mut conn, ctx.livemode).await?;
    drop(conn);
    let mut understood = 0;
    for event_type in types {
        let mut after_seq = 0;
        while let Some((found, last_seq)) = page(ctx, ourselves, &event_type, after_seq).await? {
            understood += found;
            if found == 0 {
                break;
            }
            after_seq = last_seq;
        }
    }
    Ok(understood)
}

/// One page of a type: how many are understood, and where the page ended; `None` where there are no more.
async fn page(
    ctx: &Context,
    ourselves: &Ourselves,
    event_type: &str,
    after_seq: i64,
) -> Result<Option<(u64, i64)>, FlowError> {
    let now = ctx.clock.now();
    let mut tx = db::begin(&ctx.pool).await?;
    let events =
        unhandled::claim_next(&mut tx, ctx.livemode, event_type, after_seq, PAGE, PAGE_BYTES).await?;
    let Some(last) = events.last() else { return Ok(None) };
    let (mut understood, last_seq) = (0, last.seq);
    for mut event in events {
        let Some(read) = read_again(&mut event, ourselves, now) else { continue };
        let (kind, subject) = (read.subject_kind, read.subject.as_deref());
        unhandled::understand(&mut tx, &event, kind, subject, read.ignored, now).await?;
        understood += 1;
    }
    tx.commit().await?;
    Ok(Some((understood, last_seq)))
}

/// The event as it is read today; `None` while its type is still nobody's.
fn read_again(
    event: &mut Unhandled,
    ourselves: &Ourselves,
    now: time::OffsetDateTime,
) -> Option<crate::store::outbox::NewEvent> {
    let body = Bytes::from(std::mem::take(&mut event.payload));
    // It was an event when it was stored; one that is none today stays where it is.
    let read = event_record::read(&body, None, ourselves, now).ok()?;
    (read.ignored != Some(Ignored::UnhandledType.as_str())).then_some(read)
}
