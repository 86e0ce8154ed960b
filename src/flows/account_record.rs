//! Writes down what is held of accounts after new evidence: rows, history, and the bells of what depends on them.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::Context;
use super::rings::Rings;
use crate::domain::account::REAUTHORIZED_AFTER;
use crate::domain::reason::codes;
use crate::domain::task::Kind;
use crate::store::accounts::{self, Account, Written};
use crate::store::db::StoreError;
use crate::store::transfers::{Of, list_open_ids};

/// The pause before a doubt that a fetch left leads to the next: a stream of events dated in the same moment must
/// not turn into a stream of calls.
pub const FETCH_PAUSE: Duration = Duration::milliseconds(200);

/// An account before and after new evidence.
#[derive(Debug)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// What was held; `None` where nothing was.
    pub before: Option<Account>,
    /// What is held now.
    pub after: Account,
}

/// Writes the rows and their history, and notes the transfers that must be decided anew. The accounts must be locked
/// and sorted by id.
pub async fn record(
    tx: &mut PgConnection,
    ctx: &Context,
    changed: &[Changed],
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let policy = ctx.policy();
    let reasons: Vec<Vec<String>> =
        changed.iter().map(|changed| codes(&changed.after.known.reasons(&policy))).collect();
    let rows: Vec<Written<'_>> = changed
        .iter()
        .zip(&reasons)
        .map(|(changed, reasons)| Written { id: &changed.id, account: &changed.after, reasons })
        .collect();
    let (mut history, mut decided_on) = (Vec::new(), Vec::new());
    for (changed, row) in changed.iter().zip(&rows) {
        let (before, after) = (changed.before.as_ref(), &changed.after);
        let reasons_before = before.map(|before| codes(&before.known.reasons(&policy)));
        let other_reasons = reasons_before.as_deref() != Some(row.reasons);
        if other_reasons
            || before.and_then(|before| before.known.flags.as_ref()) != after.known.flags.as_ref()
        {
            history.push(*row);
        }
        let fresher = before.is_none_or(|before| {
            before.as_of != after.as_of || before.standing.doubted != after.standing.doubted
        });
        if other_reasons || fresher {
            decided_on.push(row.id);
        }
    }
    accounts::put_all(tx, ctx.livemode, &rows, now).await?;
    accounts::insert_changes(tx, ctx.livemode, &history, now).await?;
    for id in list_open_ids(tx, ctx.livemode, Of::Destinations(&decided_on)).await? {
        rings.add(Kind::Transfer, id, now);
    }
    Ok(())
}

/// When Stripe should be asked about an account: at once if it is in doubt; if it is taken to have left but
/// something was told of it later, as soon as a fetch could show that it is back.
pub fn fetch_due(account: &Account, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if account.standing.doubted {
        return Some(now);
    }
    let left_at = account.known.deauthorized_at.filter(|_| account.known.deauthorized())?;
    (account.standing.at > left_at).then_some(now.max(left_at + REAUTHORIZED_AFTER))
}
