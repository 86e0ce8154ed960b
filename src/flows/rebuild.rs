//! Recomputes what the tables hold from what was kept, and tells every difference.
//!
//! Accounts and top-ups follow from the outbox, money from the ledger's postings, transfers from the orders on
//! record and from what Stripe showed of them. Nothing is changed. What is being worked on at this moment, and
//! what stands in doubt until it has been fetched again, is counted and left out.

mod orders;
mod subjects;
mod transfers;

use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use super::FlowError;
use crate::domain::account::Policy;
use crate::domain::topup::Rule;
use crate::store::{db::StoreError, rebuild};

/// Differences that are told one by one; more are only counted.
const TOLD: usize = 1_000;

/// The platform's rules, which some of what is held follows from.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which conditions make an account ready.
    pub policy: Policy,
    /// When a top-up's money counts as settled.
    pub rule: Rule,
}

/// What is held and does not follow from what was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Live or test mode.
    pub livemode: bool,
    /// `account`, `topup`, `transfer`, `adjustment`, `funds` or `ledger entry`.
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// Which part of it.
    pub field: String,
    /// As it is held.
    pub held: Value,
    /// As it follows.
    pub rebuilt: Value,
}

/// What was compared, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Accounts compared.
    pub accounts: u64,
    /// Top-ups compared.
    pub topups: u64,
    /// Transfers compared.
    pub transfers: u64,
    /// Left out: being worked on, or in doubt until fetched.
    pub left_out: u64,
    /// How many differences there are.
    pub differences: u64,
    /// The first thousand of them.
    pub told: Vec<Difference>,
}

impl Report {
    fn differs(&mut self, of: &Subject<'_>, field: &str, held: Value, rebuilt: Value) {
        if held == rebuilt {
            return;
        }
        self.differences += 1;
        if self.told.len() < TOLD {
            let (kind, subject) = (of.kind.to_owned(), of.id.to_owned());
            let field = field.to_owned();
            self.told.push(Difference { livemode: of.livemode, kind, subject, field, held, rebuilt });
        }
    }
}

/// What is compared.
struct Subject<'a> {
    livemode: bool,
    kind: &'a str,
    id: &'a str,
}

/// Compares everything, in one snapshot.
pub async fn check(pool: &PgPool, rules: &Rules) -> Result<Report, FlowError> {
    let mut tx = rebuild::begin_snapshot(pool).await?;
    let mut report = Report::default();
    for livemode in rebuild::list_modes(&mut tx).await? {
        subjects::check_accounts(&mut tx, livemode, rules, &mut report).await?;
        subjects::check_topups(&mut tx, livemode, rules, &mut report).await?;
        for (kind, id) in rebuild::list_unexplained(&mut tx, livemode).await? {
            let subject = Subject { livemode, kind: &kind, id: &id };
            report.differs(&subject, "evidence", json!("held"), json!("none was kept"));
        }
        transfers::check(&mut tx, livemode, &mut report).await?;
        check_sums(&mut tx, livemode, &mut report).await?;
    }
    tx.rollback().await?;
    Ok(report)
}

async fn check_sums(tx: &mut PgConnection, livemode: bool, report: &mut Report) -> Result<(), StoreError> {
    for sum in rebuild::list_wrong_sums(tx, livemode).await? {
        let subject = Subject { livemode, kind: &sum.kind, id: &sum.subject };
        report.differs(&subject, &sum.field, json!(sum.held), json!(sum.rebuilt));
    }
    Ok(())
}
