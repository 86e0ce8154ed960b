//! The story of a run, told to the replicas and to Stripe.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::replica::ADMIN_KEY;
use super::schedule::{Fate, REVENUE, Schedule, Step};
use crate::sandbox::{AccountChange, AccountSpec, Control};

/// How long an order may be repeated until a replica takes it.
const ORDER_PATIENCE: Duration = Duration::from_secs(30);

/// The ids that the story's numbers have in this run.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// Connected accounts.
    pub accounts: Vec<String>,
    /// Top-ups.
    pub topups: Vec<String>,
    /// Transfers, as Sluicegate names them.
    pub transfers: Vec<String>,
}

/// The story as it is told to the replicas and to Stripe.
pub struct Story<'a> {
    pub schedule: &'a Schedule,
    pub control: Control,
    urls: Vec<String>,
    http: reqwest::Client,
    pub cast: Cast,
}

impl<'a> Story<'a> {
    pub fn new(schedule: &'a Schedule, control: Control, urls: Vec<String>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let mut cast = Cast::default();
        control.add_balance("usd", REVENUE);
        for fate in &schedule.fates {
            let ready = matches!(fate, Fate::Ready | Fate::Falls);
            cast.accounts.push(control.create_account(AccountSpec { ready, ..AccountSpec::default() }));
        }
        cast.topups = vec![String::new(); schedule.fates.len() + 8];
        cast.transfers = vec![String::new(); schedule.asks.len()];
        Ok(Self { schedule, control, urls, http, cast })
    }

    pub async fn until_up(&self) -> anyhow::Result<()> {
        let mut waiting = JoinSet::new();
        for url in &self.urls {
            let request = self.http.get(format!("{url}/readyz"));
            waiting.spawn(async move {
                while !request.try_clone()?.send().await.is_ok_and(|answer| answer.status().is_success()) {
                    sleep(Duration::from_millis(20)).await;
                }
                Some(())
            });
        }
        let up = tokio::time::timeout(Duration::from_secs(30), waiting.join_all()).await;
        up.context("the replicas did not start within 30 seconds").map(drop)
    }

    pub async fn tell(&mut self, began: Instant) -> anyhow::Result<()> {
        for (at, step) in &self.schedule.steps {
            sleep_until(began + *at).await;
            self.take(step).await.with_context(|| format!("{step:?}"))?;
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Account(account, ready) => {
                let opened = AccountChange { charges_enabled: Some(*ready), ..AccountChange::default() };
                let late = self.schedule.fates[*account] == Fate::Late;
                let change = if late { AccountChange::ready() } else { opened };
                self.control.change_account(&self.cast.accounts[*account], &change)?;
            }
            Step::Topup(topup, amount) => self.create_topup(*topup, *amount),
            Step::Settle(topup) => self.control.settle_topup(&self.cast.topups[*topup])?,
            Step::Available(topup) => self.control.make_available(&self.cast.topups[*topup])?,
            Step::Fail(topup) => self.control.fail_topup(&self.cast.topups[*topup], "insufficient_funds")?,
            Step::Ask(ask) => self.ask(*ask).await?,
            Step::Hold(ask, hold) => {
                self.order_about(*ask, if *hold { "hold" } else { "resume" }, json!({})).await?;
            }
            Step::Cancel(ask) => self.order_about(*ask, "cancel", json!({})).await?,
            Step::Pause(pause) => {
                let word = if *pause { "pause" } else { "resume" };
                self.order(&format!("/v1/releases/{word}"), &format!("all-{word}"), &json!({})).await?;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, number: usize) -> anyhow::Result<()> {
        let ask = &self.schedule.asks[number];
        let mut body = json!({
            "destination": self.cast.accounts[ask.account], "amount": ask.amount, "currency": "usd",
            "priority": ask.priority,
        });
        if let Some(topup) = ask.topup {
            // Tied to one that is not there yet: then it comes now.
            let steps = self.schedule.steps.iter();
            let created = steps.clone().find_map(|(_, step)| match step {
                Step::Topup(of, amount) if *of == topup => Some(*amount),
                _ => None,
            });
            self.create_topup(topup, created.unwrap_or_default());
            body["topup"] = json!(self.cast.topups[topup]);
        }
        let made = self.order("/v1/transfers", &format!("ask-{number}"), &body).await?;
        made["id"].as_str().unwrap_or_default().clone_into(&mut self.cast.transfers[number]);
        Ok(())
    }

    fn create_topup(&mut self, number: usize, amount: i64) {
        if self.cast.topups[number].is_empty() {
            self.cast.topups[number] = self.control.create_topup("usd", amount);
        }
    }

    /// What comes back after all has gone out.
    pub async fn take_back(&self) -> anyhow::Result<()> {
        for (ask, amount) in &self.schedule.reversals {
            self.order_about(*ask, "reverse", json!({"amount": amount})).await?;
        }
        if let Some(topup) = self.schedule.bounced {
            self.control.reverse_topup(&self.cast.topups[topup])?;
        }
        Ok(())
    }

    async fn order_about(&self, ask: usize, order: &str, body: Value) -> anyhow::Result<()> {
        let path = format!("/v1/transfers/{}/{order}", self.cast.transfers[ask]);
        self.order(&path, &format!("{order}-{ask}"), &body).await.map(drop)
    }

    /// An order under one key, to one replica after the other until one takes it.
    async fn order(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
        let until = Instant::now() + ORDER_PATIENCE;
        let mut last = "nobody answered".to_owned();
        for url in self.urls.iter().cycle() {
            if Instant::now() > until {
                break;
            }
            let request = self.http.post(format!("{url}{path}")).bearer_auth(ADMIN_KEY);
            match request.header("Idempotency-Key", key).json(body).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer.json().await?),
                Ok(answer) if answer.status().is_client_error() => {
                    anyhow::bail!(
                        "POST {path}: {} {}",
                        answer.status(),
                        answer.text().await.unwrap_or_default()
                    )
                }
                Ok(answer) => last = answer.status().to_string(),
                Err(error) => last = error.to_string(),
            }
            sleep(Duration::from_millis(30)).await;
        }
        anyhow::bail!("POST {path}: {last}")
    }
}
