//! Accounts and top-ups, folded once more from everything that was kept about them.

use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Report, Rules, Subject};
use crate::domain::task::Kind;
use crate::flows::{FlowError, account_evidence, topup_evidence};
use crate::store::accounts::{self, Account};
use crate::store::rebuild::{self, Evidence};
use crate::store::retention;
use crate::store::topups::{self, Topup};

/// All that was kept about one subject, or why it is left out.
struct Kept {
    subject: String,
    evidence: Vec<Evidence>,
}

impl Kept {
    /// Somebody works on it at this moment.
    fn is_open(&self) -> bool {
        self.evidence.iter().any(|evidence| evidence.open)
    }

    fn applied(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter().filter(|evidence| !evidence.dead)
    }
}

/// Reads the evidence subject by subject.
struct Subjects {
    livemode: bool,
    kind: Kind,
    read: std::vec::IntoIter<Evidence>,
    first: Option<Evidence>,
    /// Of the subjects that nothing but a baseline is kept of, the last one that was read.
    beyond: String,
    bare: std::vec::IntoIter<String>,
}

impl Subjects {
    async fn open(tx: &mut PgConnection, livemode: bool, kind: Kind) -> Result<Self, FlowError> {
        rebuild::open_evidence(tx, livemode, kind.as_str()).await?;
        Ok(Self {
            livemode,
            kind,
            read: Vec::new().into_iter(),
            first: None,
            beyond: String::new(),
            bare: Vec::new().into_iter(),
        })
    }

    async fn next_one(&mut self, tx: &mut PgConnection) -> Result<Option<Evidence>, FlowError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if let Some(next) = self.read.next() {
            return Ok(Some(next));
        }
        self.read = rebuild::next_evidence(tx).await?.into_iter();
        Ok(self.read.next())
    }

    /// The next subject whose events have all been dropped.
    async fn next_bare(&mut self, tx: &mut PgConnection) -> Result<Option<Kept>, FlowError> {
        if self.bare.as_slice().is_empty() {
            let (kind, beyond) = (self.kind.as_str(), &self.beyond);
            self.bare = retention::list_only_baselines(tx, self.livemode, kind, beyond).await?.into_iter();
        }
        let Some(subject) = self.bare.next() else {
            rebuild::close_evidence(tx).await?;
            return Ok(None);
        };
        self.beyond.clone_from(&subject);
        Ok(Some(Kept { subject, evidence: Vec::new() }))
    }

    async fn next(&mut self, tx: &mut PgConnection) -> Result<Option<Kept>, FlowError> {
        let Some(first) = self.next_one(tx).await? else { return self.next_bare(tx).await };
        let mut kept = Kept { subject: first.subject.clone(), evidence: vec![first] };
        while let Some(next) = self.next_one(tx).await? {
            if next.subject != kept.subject {
                self.first = Some(next);
                break;
            }
            kept.evidence.push(next);
        }
        Ok(Some(kept))
    }
}

pub(super) async fn check_accounts(
    tx: &mut PgConnection,
    livemode: bool,
    rules: &Rules,
    report: &mut Report,
) -> Result<(), FlowError> {
    let mut subjects = Subjects::open(tx, livemode, Kind::Account).await?;
    while let Some(kept) = subjects.next(tx).await? {
        let held = accounts::find(tx, livemode, &kept.subject).await?;
        let baseline = retention::find_account(tx, livemode, &kept.subject).await?;
        let rebuilt = account(&kept, baseline, rules)?;
        let doubted = |account: &Option<Account>| account.as_ref().is_some_and(|a| a.standing.doubted);
        if kept.is_open() || doubted(&held) || doubted(&rebuilt) {
            report.left_out += 1;
            continue;
        }
        report.accounts += 1;
        let subject = Subject { livemode, kind: "account", id: &kept.subject };
        let known = |account: &Option<Account>| account.as_ref().map(|account| account.known.clone());
        let (held, rebuilt) = (known(&held), known(&rebuilt));
        if held != rebuilt {
            report.differs(&subject, "readiness", json!(format!("{held:?}")), json!(format!("{rebuilt:?}")));
        }
    }
    Ok(())
}

/// What follows from the evidence, on top of what earlier evidence that is no longer kept had led to.
fn account(kept: &Kept, baseline: Option<Account>, rules: &Rules) -> Result<Option<Account>, FlowError> {
    let mut account = baseline;
    for evidence in kept.applied() {
        account_evidence::fold_kept(&mut account, &evidence.event, &rules.policy)?;
    }
    Ok(account)
}

pub(super) async fn check_topups(
    tx: &mut PgConnection,
    livemode: bool,
    rules: &Rules,
    report: &mut Report,
) -> Result<(), FlowError> {
    let funds_since = rebuild::find_funds_since(tx).await?.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut subjects = Subjects::open(tx, livemode, Kind::Topup).await?;
    while let Some(kept) = subjects.next(tx).await? {
        let held = topups::find(tx, livemode, &kept.subject).await?;
        let baseline = retention::find_topup(tx, livemode, &kept.subject).await?;
        let rebuilt = topup(&kept, baseline, rules, funds_since)?;
        let doubted = |topup: &Option<Topup>| topup.as_ref().is_some_and(|t| t.standing.doubted);
        if kept.is_open() || doubted(&held) || doubted(&rebuilt) {
            report.left_out += 1;
            continue;
        }
        report.topups += 1;
        let subject = Subject { livemode, kind: "topup", id: &kept.subject };
        let (Some(held), Some(rebuilt)) = (&held, &rebuilt) else {
            report.differs(&subject, "row", json!(held.is_some()), json!(rebuilt.is_some()));
            continue;
        };
        let booked = |topup: &Topup| {
            let settlement = topup.known().map(|known| known.settlement(rules.rule, funds_since));
            settlement.map_or(0, |settlement| settlement.booked_minor)
        };
        let status = |topup: &Topup| json!(topup.status.as_str());
        report.differs(&subject, "status", status(held), status(rebuilt));
        report.differs(&subject, "amount", json!(held.amount_minor), json!(rebuilt.amount_minor));
        report.differs(&subject, "currency", json!(held.currency), json!(rebuilt.currency));
        let proof = |topup: &Topup| json!(topup.proof.as_ref().map(|proof| format!("{proof:?}")));
        report.differs(&subject, "proof", proof(held), proof(rebuilt));
        report.differs(&subject, "settled", json!(held.settled), json!(rebuilt.settled));
        report.differs(&subject, "booked", json!(held.booked_minor), json!(booked(rebuilt)));
    }
    Ok(())
}

fn topup(
    kept: &Kept,
    baseline: Option<Topup>,
    rules: &Rules,
    funds_since: OffsetDateTime,
) -> Result<Option<Topup>, FlowError> {
    let mut topup = baseline;
    for evidence in kept.applied() {
        topup_evidence::fold_kept(&mut topup, &evidence.event)?;
        if let Some(topup) = &mut topup {
            topup_evidence::settle(topup, rules.rule, funds_since);
        }
    }
    Ok(topup)
}
