//! The bells that one transaction rings, gathered and rung at its end.
//!
//! Everybody who rings several kinds does it in one order, with transfers last, and after all rows that the
//! decision changed: two transactions that ring the same subjects then never wait for each other crosswise.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Context;
use crate::domain::task::Kind;
use crate::store::db::StoreError;
use crate::store::tasks;

/// In which order kinds are rung.
const ORDER: [Kind; 6] =
    [Kind::Account, Kind::Topup, Kind::Funds, Kind::Balance, Kind::Forecast, Kind::Transfer];

/// What is to be rung.
#[derive(Debug, Default)]
pub struct Rings {
    by_kind: BTreeMap<Kind, BTreeMap<String, OffsetDateTime>>,
}

impl Rings {
    /// Notes that a subject is due at `at`; of two times the earlier counts.
    pub fn add(&mut self, kind: Kind, subject: impl Into<String>, at: OffsetDateTime) {
        debug_assert!(ORDER.contains(&kind), "{kind:?} has no place in the order");
        let due = self.by_kind.entry(kind).or_default().entry(subject.into()).or_insert(at);
        *due = at.min(*due);
    }

    /// Rings them all.
    pub async fn ring(&self, tx: &mut PgConnection, ctx: &Context) -> Result<(), StoreError> {
        for kind in ORDER {
            let Some(due) = self.by_kind.get(&kind) else { continue };
            let (subjects, times): (Vec<&str>, Vec<OffsetDateTime>) =
                due.iter().map(|(subject, at)| (subject.as_str(), *at)).unzip();
            tasks::ring_each(tx, kind, ctx.livemode, &subjects, &times).await?;
        }
        Ok(())
    }
}
