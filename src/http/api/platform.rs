//! `/v1/platform`: the platform's own account at Stripe, and what of it endangers the money it adds.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::platform::Warning;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::query::Params;
use crate::http::refusals::{AnyCall, Refuses};
use crate::http::state::Shared;
use crate::http::words::{AccountId, CurrencyCode, Instant};
use crate::store::views;

/// The platform's own account, and what should be mended there
#[utoipa::path(
    get, path = "/v1/platform", tag = "platform", operation_id = "get_platform",
    responses((status = 200, description = "What is known of it.", body = Platform), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
) -> Result<Json<Platform>, Problem> {
    params.finish()?;
    let mut conn = state.connect().await?;
    let held = views::get_platform(&mut conn, state.ctx.livemode).await?;
    Ok(Json(Platform::of(state.ctx.livemode, held)))
}

/// The platform's own account.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Platform {
    /// Null as long as Stripe has not shown it to this service's key.
    #[schema(value_type = Option<AccountId>)]
    account: Option<String>,
    livemode: bool,
    /// Two letters.
    #[schema(example = "US")]
    country: Option<String>,
    #[schema(value_type = Option<CurrencyCode>)]
    default_currency: Option<String>,
    payouts: OwnPayouts,
    /// What should be mended; empty where nothing is known to be wrong.
    warnings: Vec<PlatformWarning>,
    /// What Stripe said when it last refused to show the account.
    refusal: Option<String>,
    /// When Stripe was asked for what is shown.
    as_of: Option<Instant>,
}

/// How the platform's balance goes to its own bank.
#[derive(Debug, Serialize, ToSchema)]
struct OwnPayouts {
    /// Stripe's word: `manual`, `daily`, `weekly`, `monthly`.
    #[schema(example = "manual")]
    interval: Option<String>,
    /// Whether Stripe pays out by itself; null where nothing tells.
    automatic: Option<bool>,
    /// The latest payout that Stripe made by itself.
    last_automatic_at: Option<Instant>,
}

/// Something an operator should mend at Stripe.
#[derive(Debug, Serialize, ToSchema)]
struct PlatformWarning {
    /// Stable.
    #[schema(example = "automatic_payouts")]
    code: &'static str,
    /// What is so, and why it is dangerous.
    message: String,
    /// What to do.
    mend: &'static str,
}

impl Platform {
    fn of(livemode: bool, held: views::Platform) -> Self {
        let payouts = held.payouts();
        let warning = |Warning { code, message, mend }: Warning| PlatformWarning { code, message, mend };
        Self {
            warnings: payouts.warnings().into_iter().map(warning).collect(),
            payouts: OwnPayouts {
                automatic: payouts.automatic(),
                interval: payouts.interval,
                last_automatic_at: Instant::maybe(payouts.automatic_at),
            },
            account: held.account,
            livemode,
            country: held.country,
            default_currency: held.default_currency,
            refusal: held.refusal,
            as_of: Instant::maybe(held.as_of),
        }
    }
}
