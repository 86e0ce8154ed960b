//! How a run ended, in terms that are the same for every run of a seed.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::schedule::{Fate, Schedule};
use super::story::Cast;
use crate::store::db::StoreError;
use crate::store::inspect;

/// Statuses and sums by the numbers of the story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Status, reasons and what came back of each transfer.
    pub transfers: BTreeMap<usize, (String, Vec<String>, i64)>,
    /// Why each account can't be paid.
    pub accounts: BTreeMap<usize, Vec<String>>,
    /// Status of each top-up, and what of it is booked.
    pub topups: BTreeMap<usize, (String, i64)>,
    /// Settled, reserved, released, available by currency.
    pub funds: BTreeMap<String, Vec<i64>>,
}

impl Ending {
    /// Reads it.
    pub async fn read(pool: &PgPool, cast: &Cast) -> Result<Self, StoreError> {
        let mut conn = pool.acquire().await?;
        let number = |all: &[String], id: &str| all.iter().position(|known| known == id);
        let mut ending = Self::default();
        for transfer in inspect::list_transfers(&mut conn).await? {
            let place = number(&cast.transfers, &transfer.id).unwrap_or(usize::MAX);
            let stands = (transfer.status, transfer.waiting_on, transfer.amount_reversed);
            ending.transfers.insert(place, stands);
        }
        for (account, reasons) in inspect::list_accounts(&mut conn).await? {
            ending.accounts.insert(number(&cast.accounts, &account).unwrap_or(usize::MAX), reasons);
        }
        for (topup, status, booked) in inspect::list_topups(&mut conn).await? {
            ending.topups.insert(number(&cast.topups, &topup).unwrap_or(usize::MAX), (status, booked));
        }
        for (currency, sums) in inspect::list_funds(&mut conn).await? {
            ending.funds.insert(currency, sums.0);
        }
        Ok(ending)
    }

    /// Whether all has gone out that can, and everything else waits, before anything comes back.
    pub fn is_half(&self, schedule: &Schedule) -> bool {
        self.transfers.len() == schedule.asks.len()
            && (0..schedule.asks.len()).all(|ask| self.stands(schedule, ask, 0))
            && self.accounts_stand(schedule)
    }

    fn accounts_stand(&self, schedule: &Schedule) -> bool {
        schedule.fates.iter().enumerate().all(|(account, fate)| {
            let reasons = self.accounts.get(&account);
            reasons.is_some_and(|reasons| reasons.is_empty() == (*fate != Fate::Never))
        })
    }

    /// Whether what was to come back has come back, and the bank's taking back is known.
    pub fn is_whole(&self, schedule: &Schedule) -> bool {
        let back = |ask: usize| {
            let of = schedule.reversals.iter().find(|(reversed, _)| *reversed == ask);
            of.map_or(0, |(_, amount)| *amount)
        };
        let bounced = schedule.bounced.is_none_or(|topup| {
            self.topups.get(&topup).is_some_and(|(status, booked)| status == "reversed" && *booked == 0)
        });
        bounced
            && (0..schedule.asks.len()).all(|ask| self.stands(schedule, ask, back(ask)))
            && self.accounts_stand(schedule)
    }

    /// What keeps it from its end, for a person.
    pub fn unfinished(&self, schedule: &Schedule, whole: bool) -> String {
        let back = |ask: usize| {
            let of = schedule.reversals.iter().find(|(reversed, _)| whole && *reversed == ask);
            of.map_or(0, |(_, amount)| *amount)
        };
        let transfers: Vec<String> = (0..schedule.asks.len())
            .filter(|ask| !self.stands(schedule, *ask, back(*ask)))
            .map(|ask| format!("transfer {ask} is {:?}", self.transfers.get(&ask)))
            .collect();
        format!("{}; accounts {:?}; top-ups {:?}", transfers.join(", "), self.accounts, self.topups)
    }

    fn stands(&self, schedule: &Schedule, ask: usize, back: i64) -> bool {
        let Some((status, _, reversed)) = self.transfers.get(&ask) else { return false };
        let amount = schedule.asks[ask].amount;
        let expected = match (schedule.goes_out(ask), schedule.canceled.contains(&ask)) {
            (true, _) if back == amount => "reversed",
            (true, _) if back > 0 => "partially_reversed",
            (true, _) => "released",
            (false, true) => "canceled",
            (false, false) => "waiting",
        };
        status == expected && *reversed == back
    }

    /// What is not as in the other, one line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        fn of<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
            what: &str,
            one: &BTreeMap<K, V>,
            other: &BTreeMap<K, V>,
        ) -> Vec<String> {
            let keys: std::collections::BTreeSet<&K> = one.keys().chain(other.keys()).collect();
            let differ = keys.into_iter().filter(|key| one.get(key) != other.get(key));
            differ
                .map(|key| {
                    format!("{what} {key:?} is {:?}, and without mishaps {:?}", one.get(key), other.get(key))
                })
                .collect()
        }
        let mut all = of("transfer", &self.transfers, &other.transfers);
        all.extend(of("account", &self.accounts, &other.accounts));
        all.extend(of("top-up", &self.topups, &other.topups));
        all.extend(of("funds", &self.funds, &other.funds));
        all
    }
}
