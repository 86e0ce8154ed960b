//! `/v1/keys`: who may call.

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, body_of, told};
use crate::domain::ids;
use crate::flows::operate::{self, OperateError, Scope};
use crate::http::auth::Admin;
use crate::http::error::Problem;
use crate::http::extract::{Body, Fields, Id, text};
use crate::http::idempotency::{self, MayRepeat};
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AnyCall, AnyOrder, KeyUnknown, Refuses};
use crate::http::state::Shared;
use crate::http::words::{Instant, KeyId, KeyScope, Title};
use crate::store::views::{self, Key};

/// A new API key
///
/// Its secret is told once, here. A repeated request is answered without it.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "create_key",
    params(MayRepeat),
    request_body = KeyRequest,
    responses((status = 201, description = "The key and its secret.", body = KeyMade), Refuses<AnyOrder>),
    security(("key" = ["admin"])),
)]
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Admin(actor): Admin,
    key: idempotency::Key,
    params: Params,
    Body(body): Body,
) -> Result<Answer, Problem> {
    params.finish()?;
    let once = key.optional(&body);
    let mut fields = Fields::of(body);
    let name = fields.required("name", text(100));
    let scope = fields.required("scope", |word| {
        Scope::parse(word).ok_or_else(|| "must be `read`, `operate` or `admin`".to_owned())
    });
    let (name, scope) = fields.finish(name.zip(scope))?;
    let shown = |key: &Key| body_of(&ApiKey::of(key));
    let (ordered, secret) =
        operate::create_key(&state.ctx, &actor, once.as_ref(), &name, scope, shown).await?;
    let (status, Json(mut body)) = told(ordered)?;
    if let Some(secret) = secret {
        body["secret"] = secret.expose_secret().into();
    }
    Ok((status, Json(body)))
}

/// API keys, by id, those taken back included
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "list_keys",
    params(Paging),
    responses((status = 200, description = "A page of them.", body = List<ApiKey>), Refuses<AnyCall>),
    security(("key" = ["admin"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Admin,
    mut params: Params,
) -> Result<Json<List<ApiKey>>, Problem> {
    let page = params.page("keys", |key| ids::KeyId::parse(key).is_ok());
    params.finish()?;
    let mut conn = state.connect().await?;
    let keys = views::list_keys(&mut conn, page.after.as_deref(), page.to_read()).await?;
    Ok(Json(page.of(keys, |key| key.id.clone(), |key| Some(ApiKey::of(key)))))
}

/// Takes an API key back
///
/// From now on it reaches nothing. One that was taken back before keeps its date.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = KeyId, Path, description = "The key's id.")),
    responses((status = 200, description = "The key.", body = ApiKey), Refuses<(AnyCall, KeyUnknown)>),
    security(("key" = ["admin"])),
)]
pub(in crate::http) async fn revoke(
    State(state): State<Shared>,
    Admin(actor): Admin,
    Id(id): Id,
    params: Params,
) -> Result<Json<ApiKey>, Problem> {
    params.finish()?;
    let id = ids::KeyId::parse(&id).map_err(|_| Problem::key_unknown())?;
    let revoked = operate::revoke_key(&state.ctx, &actor, &id).await;
    // Whatever became of the order: the database says whose a key is.
    state.door.forget_keys();
    revoked.map(|key| Json(ApiKey::of(&key))).map_err(|error| match error {
        OperateError::NotFound => Problem::key_unknown(),
        other => other.into(),
    })
}

/// The body of `POST /v1/keys`.
#[expect(dead_code, reason = "the schema of what `create` reads field by field")]
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    #[schema(value_type = Title)]
    name: String,
    #[schema(value_type = KeyScope)]
    scope: String,
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ApiKey {
    #[schema(value_type = KeyId)]
    id: String,
    /// What its owner calls it.
    #[schema(example = "payroll")]
    name: String,
    #[schema(value_type = KeyScope)]
    scope: &'static str,
    created_at: Instant,
    /// The key that made it; `admin` for the bootstrap key.
    #[schema(example = "admin")]
    created_by: String,
    /// To the minute.
    last_used_at: Option<Instant>,
    revoked_at: Option<Instant>,
}

impl ApiKey {
    fn of(key: &Key) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            scope: key.scope().as_str(),
            created_at: Instant::of(key.created_at),
            created_by: key.created_by.clone(),
            last_used_at: Instant::maybe(key.last_used_at),
            revoked_at: Instant::maybe(key.revoked_at),
        }
    }
}

/// A new API key.
#[expect(dead_code, reason = "the schema of an answer that is kept without its secret")]
#[derive(ToSchema)]
struct KeyMade {
    #[serde(flatten)]
    key: ApiKey,
    /// Told once: left out where the request was answered before.
    #[schema(nullable = false, example = "sgk_8f4Qm0sXy2Zk7bJc1VnE5tRhWdLpAuG3iOoTqYxB6Ce")]
    secret: Option<String>,
}
