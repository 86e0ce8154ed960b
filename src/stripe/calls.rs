//! The calls that the service makes, by name.
//!
//! Bodies that move money come in encoded: they were frozen beside their idempotency key, and Stripe refuses a
//! key that comes back with other parameters.

use serde_json::{Value, json};

use super::client::{Answer, Client, Lane, Turn};
use super::error::StripeError;
use super::wire::{
    Account, AccountLink, Balance, BalanceTransaction, Item, OwnAccount, Topup, Transfer, TransferReversal,
    V2Account, V2Event, WebhookEndpoint,
};
use crate::domain::ids::{AccountId, EventId, StripeTransferId, TopupId};

/// The most pages [`Client::list_transfers`] turns before it gives up.
const TRANSFER_PAGES: u32 = 100;

/// Stripe allows sixteen endpoints an account and mode; far fewer than a page.
const ENDPOINT_PAGES: u32 = 10;
/// The same for [`Client::list_topups`]: ten thousand top-ups.
const TOPUP_PAGES: u32 = 100;

/// What of a v2 account is null unless it is asked for.
const V2_INCLUDE: &str = "include=configuration.recipient&include=requirements&include=future_requirements";

/// Which transfers to list; a None does not narrow the list.
#[derive(Debug, Clone, Default)]
pub struct TransferQuery {
    /// The label they were created with.
    pub transfer_group: Option<String>,
    /// The connected account they went to.
    pub destination: Option<AccountId>,
    /// Unix seconds: created then or later.
    pub created_gte: Option<i64>,
}

impl Client {
    /// A connected account, as the platform sees it.
    pub async fn account(&self, lane: Lane, id: &AccountId) -> Result<Answer<Account>, StripeError> {
        self.get(lane, &format!("/v1/accounts/{id}"), &Value::Null).await
    }

    /// A connected account as v2 of the API shows it, as far as it may receive transfers.
    pub async fn v2_account(&self, lane: Lane, id: &AccountId) -> Result<Answer<V2Account>, StripeError> {
        self.get_encoded(lane, &format!("/v2/core/accounts/{id}"), V2_INCLUDE).await
    }

    /// A thin event with what its delivery leaves out.
    pub async fn v2_event(&self, lane: Lane, id: &EventId) -> Result<Answer<V2Event>, StripeError> {
        self.get(lane, &format!("/v2/core/events/{id}"), &Value::Null).await
    }

    /// The platform's own account.
    pub async fn own_account(&self, lane: Lane) -> Result<Answer<OwnAccount>, StripeError> {
        self.get(lane, "/v1/account", &Value::Null).await
    }

    /// A top-up with its balance transaction expanded, which saves the second reading.
    pub async fn topup(&self, lane: Lane, id: &TopupId) -> Result<Answer<Topup>, StripeError> {
        self.get(lane, &format!("/v1/topups/{id}"), &json!({"expand": ["balance_transaction"]})).await
    }

    /// A booking in the platform's balance.
    pub async fn balance_transaction(
        &self,
        lane: Lane,
        id: &str,
    ) -> Result<Answer<BalanceTransaction>, StripeError> {
        self.get(lane, &format!("/v1/balance_transactions/{id}"), &Value::Null).await
    }

    /// The platform's balance.
    pub async fn balance(&self, lane: Lane) -> Result<Answer<Balance>, StripeError> {
        self.get(lane, "/v1/balance", &Value::Null).await
    }

    /// A transfer by Stripe's id.
    pub async fn transfer(&self, lane: Lane, id: &StripeTransferId) -> Result<Answer<Transfer>, StripeError> {
        self.get(lane, &format!("/v1/transfers/{id}"), &Value::Null).await
    }

    /// Every transfer that the query fits, newest first. An answer is complete: more than a hundred pages are an
    /// error, as is an unreadable entry, since a part of the list would prove nothing about what is not in it.
    pub async fn list_transfers(
        &self,
        lane: Lane,
        query: &TransferQuery,
    ) -> Result<Vec<Item<Transfer>>, StripeError> {
        let query = json!({
            "transfer_group": query.transfer_group,
            "destination": query.destination,
            "created": {"gte": query.created_gte},
        });
        self.list_all(lane, "/v1/transfers", &query, TRANSFER_PAGES).await
    }

    /// Sends money in a turn that was taken before; the body is sent byte for byte.
    pub async fn create_transfer(
        &self,
        turn: Turn,
        body: &str,
        idempotency_key: &str,
    ) -> Result<Answer<Transfer>, StripeError> {
        self.post_in(turn, "/v1/transfers", body, idempotency_key).await
    }

    /// Takes money of a transfer back; the body is sent byte for byte.
    pub async fn create_reversal(
        &self,
        transfer: &StripeTransferId,
        body: &str,
        idempotency_key: &str,
    ) -> Result<Answer<TransferReversal>, StripeError> {
        self.post(&format!("/v1/transfers/{transfer}/reversals"), body, idempotency_key).await
    }

    /// Every reversal of a transfer, newest first; complete, like [`Self::list_transfers`].
    pub async fn list_reversals(
        &self,
        lane: Lane,
        transfer: &StripeTransferId,
    ) -> Result<Vec<Item<TransferReversal>>, StripeError> {
        let path = format!("/v1/transfers/{transfer}/reversals");
        self.list_all(lane, &path, &Value::Null, TRANSFER_PAGES).await
    }

    /// Debits the platform's bank; the body is sent byte for byte.
    pub async fn create_topup(
        &self,
        body: &str,
        idempotency_key: &str,
    ) -> Result<Answer<Topup>, StripeError> {
        self.post("/v1/topups", body, idempotency_key).await
    }

    /// Every top-up created then (Unix seconds) or later, newest first; complete, like [`Self::list_transfers`].
    pub async fn list_topups(&self, lane: Lane, created_gte: i64) -> Result<Vec<Item<Topup>>, StripeError> {
        let query = json!({"created": {"gte": created_gte}});
        self.list_all(lane, "/v1/topups", &query, TOPUP_PAGES).await
    }

    /// Cancels a top-up that is still pending.
    pub async fn cancel_topup(
        &self,
        id: &TopupId,
        idempotency_key: &str,
    ) -> Result<Answer<Topup>, StripeError> {
        self.post(&format!("/v1/topups/{id}/cancel"), "", idempotency_key).await
    }

    /// Creates a connected account from Stripe's own parameters.
    pub async fn create_account(
        &self,
        parameters: &Value,
        idempotency_key: &str,
    ) -> Result<Answer<Account>, StripeError> {
        self.post_form("/v1/accounts", parameters, idempotency_key).await
    }

    /// Creates a one-time onboarding link. The key must be new each time: a replay gives a link already used.
    pub async fn create_account_link(
        &self,
        parameters: &Value,
        idempotency_key: &str,
    ) -> Result<Answer<AccountLink>, StripeError> {
        self.post_form("/v1/account_links", parameters, idempotency_key).await
    }

    /// Every webhook endpoint, newest first; their secrets are not in it.
    pub async fn list_webhook_endpoints(
        &self,
        lane: Lane,
    ) -> Result<Vec<Item<WebhookEndpoint>>, StripeError> {
        self.list_all(lane, "/v1/webhook_endpoints", &Value::Null, ENDPOINT_PAGES).await
    }

    /// Makes a webhook endpoint; the answer alone shows its secret.
    pub async fn create_webhook_endpoint(
        &self,
        parameters: &Value,
        idempotency_key: &str,
    ) -> Result<Answer<WebhookEndpoint>, StripeError> {
        self.post_form("/v1/webhook_endpoints", parameters, idempotency_key).await
    }

    /// Changes a webhook endpoint; its API version can't be.
    pub async fn update_webhook_endpoint(
        &self,
        id: &str,
        parameters: &Value,
        idempotency_key: &str,
    ) -> Result<Answer<WebhookEndpoint>, StripeError> {
        self.post_form(&format!("/v1/webhook_endpoints/{id}"), parameters, idempotency_key).await
    }
}
