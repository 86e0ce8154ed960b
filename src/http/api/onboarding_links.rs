//! `/v1/accounts/{acct}/onboarding-links`: where to send a person so that they give Stripe their details.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::ExposeSecret;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::declined::Fault;
use crate::domain::ids;
use crate::domain::onboarding::{Collect, Future, LinkKind, Ticket};
use crate::domain::return_url::ReturnUrl;
use crate::flows::{NotDone, onboard};
use crate::http::auth::Operator;
use crate::http::error::{Code, Problem};
use crate::http::extract::{Fields, Id, OptionalBody};
use crate::http::idempotency::{Key, MayRepeat};
use crate::http::query::Params;
use crate::http::refusals::{
    AccountUnknown, AnyOrder, PublicUrlMissing, Refuses, StripeRefused, StripeUnavailable,
};
use crate::http::state::Shared;
use crate::http::words::{AccountId, CollectedFields, FutureRequirements, Instant, LinkType, WebAddress};

/// What a link is for.
#[expect(dead_code, reason = "the schema of what `read` takes field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OnboardingLinkRequest {
    #[schema(value_type = Option<LinkType>)]
    r#type: Option<String>,
    /// Where the person is sent in the end, with `account` and `ready` in the query; without it they see a small page.
    #[schema(value_type = Option<WebAddress>)]
    return_url: Option<String>,
    #[schema(value_type = Option<CollectedFields>)]
    fields: Option<String>,
    #[schema(value_type = Option<FutureRequirements>)]
    future_requirements: Option<String>,
}

/// A link, for one visit.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct OnboardingLink {
    /// Where to send the person, once you know who they are. It opens their data: never mail or log it.
    #[schema(example = "https://connect.stripe.com/setup/e/acct_1RVbKzKd3W9tqPfA/tH7")]
    url: String,
    /// Until when it opens. Afterwards it leads to another one.
    expires_at: Option<Instant>,
}

/// A link to Stripe's onboarding, for one visit within minutes
///
/// It is made anew each time, also for a repeated Idempotency-Key. The person comes back by doors of this service: one
/// makes another link when this one has ended, the other asks Stripe and sends them on to `return_url`.
#[utoipa::path(
    post, path = "/v1/accounts/{acct}/onboarding-links", tag = "accounts", operation_id = "create_onboarding_link",
    params(("acct" = AccountId, Path, description = "The account."), MayRepeat),
    request_body = Option<OnboardingLinkRequest>,
    responses(
        (status = 201, description = "The link.", body = OnboardingLink),
        Refuses<(AnyOrder, AccountUnknown, StripeRefused, PublicUrlMissing, StripeUnavailable)>,
    ),
    security(("key" = ["operate"])),
)]
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Operator(actor): Operator,
    Id(id): Id,
    // Only its form is looked at: a link is made anew each time, since a repeated one would be used up.
    _: Key,
    params: Params,
    OptionalBody(body): OptionalBody,
) -> Result<(StatusCode, Json<OnboardingLink>), Problem> {
    params.finish()?;
    let account = ids::AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    let ticket = read(body, account, state.ctx.livemode)?;
    let link = onboard::make_link(&state.ctx, &actor, ticket).await.map_err(|error| match error {
        NotDone::Declined { fault: Fault::Parameter(param), message, .. } => declined(&param, message),
        other => other.into(),
    })?;
    state.bell.ring_due();
    let shown = OnboardingLink {
        url: link.url.expose_secret().to_owned(),
        expires_at: Instant::maybe(link.expires_at),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

fn read(
    body: serde_json::Map<String, serde_json::Value>,
    account: ids::AccountId,
    livemode: bool,
) -> Result<Ticket, Problem> {
    let mut fields = Fields::of(body);
    let kind = fields.optional("type", |word| one_of(LinkKind::parse(word), LinkKind::ALL, LinkKind::as_str));
    let return_url =
        fields.optional("return_url", |text| ReturnUrl::parse(text, livemode).map_err(str::to_owned));
    let collect =
        fields.optional("fields", |word| one_of(Collect::parse(word), Collect::ALL, Collect::as_str));
    let future = fields
        .optional("future_requirements", |word| one_of(Future::parse(word), Future::ALL, Future::as_str));
    fields.finish(Some(Ticket {
        account,
        livemode,
        kind: kind.unwrap_or(LinkKind::Onboarding),
        return_url,
        collect,
        future,
        open_until: OffsetDateTime::UNIX_EPOCH,
    }))
}

fn one_of<T: Copy>(read: Option<T>, all: &[T], word: impl Fn(T) -> &'static str) -> Result<T, String> {
    let words: Vec<String> = all.iter().map(|one| format!("`{}`", word(*one))).collect();
    read.ok_or_else(|| format!("must be {}", words.join(" or ")))
}

/// Stripe names its own parameters; the addresses among them are ours.
fn declined(param: &str, message: String) -> Problem {
    let field = match param {
        "type" => "/type",
        "collection_options[fields]" => "/fields",
        "collection_options[future_requirements]" => "/future_requirements",
        _ => {
            let detail = format!("Stripe refuses a link of this platform's ({param}): {message}");
            return Problem::new(Code::StripeRefused, detail);
        }
    };
    Problem::field(field, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(body: serde_json::Value, livemode: bool) -> Result<Ticket, Problem> {
        read(body.as_object().unwrap().clone(), ids::AccountId::parse("acct_1").unwrap(), livemode)
    }

    #[test]
    fn a_link_is_for_onboarding_unless_said_otherwise() {
        let plain = asked(json!({}), true).unwrap();
        assert_eq!(
            (plain.kind, plain.return_url, plain.collect, plain.future),
            (LinkKind::Onboarding, None, None, None)
        );
        let whole = json!({"type": "account_update", "return_url": "http://a.example/x", "fields": "eventually_due",
                           "future_requirements": "include"});
        let whole = asked(whole, false).unwrap();
        assert_eq!(
            (whole.kind, whole.collect, whole.future),
            (LinkKind::Update, Some(Collect::EventuallyDue), Some(Future::Include))
        );
        assert_eq!(whole.return_url.unwrap().as_str(), "http://a.example/x");
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (body, livemode, pointer) in [
            (json!({"type": "onboarding"}), false, "/type"),
            (json!({"return_url": "/done"}), false, "/return_url"),
            (json!({"return_url": "http://a.example"}), true, "/return_url"),
            (json!({"return_url": 1}), true, "/return_url"),
            (json!({"fields": "all"}), true, "/fields"),
            (json!({"future_requirements": true}), true, "/future_requirements"),
            (json!({"refresh_url": "https://a.example"}), true, "/refresh_url"),
        ] {
            let problem = format!("{:?}", asked(body.clone(), livemode).unwrap_err());
            assert!(problem.contains(&format!("pointer: {pointer:?}")), "{body}: {problem}");
            assert_eq!(problem.matches("pointer:").count(), 1, "{body}: {problem}");
        }
    }
}
