//! `/v1/keys`: who may call.

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Answer, instant, maybe, told};
use crate::domain::ids::KeyId;
use crate::flows::operate::{self, OperateError, Scope};
use crate::http::auth::Admin;
use crate::http::error::Problem;
use crate::http::extract::{Body, Fields, Id, text};
use crate::http::idempotency;
use crate::http::query::Params;
use crate::http::state::Shared;
use crate::store::views::{self, Key};

/// `POST /v1/keys`
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
    let (ordered, secret) =
        operate::create_key(&state.ctx, &actor, once.as_ref(), &name, scope, shown).await?;
    let (status, Json(mut body)) = told(ordered)?;
    if let Some(secret) = secret {
        body["secret"] = secret.expose_secret().into();
    }
    Ok((status, Json(body)))
}

/// `GET /v1/keys`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Admin,
    mut params: Params,
) -> Result<Json<Value>, Problem> {
    let page = params.page("keys", |key| KeyId::parse(key).is_ok());
    params.finish()?;
    let mut conn = state.connect().await?;
    let keys = views::list_keys(&mut conn, page.after.as_deref(), page.to_read()).await?;
    Ok(Json(page.of(keys, |key| key.id.clone(), |key| Some(shown(key)))))
}

/// `DELETE /v1/keys/{id}`
pub(in crate::http) async fn revoke(
    State(state): State<Shared>,
    Admin(actor): Admin,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let id = KeyId::parse(&id).map_err(|_| Problem::key_unknown())?;
    let revoked = operate::revoke_key(&state.ctx, &actor, &id).await;
    revoked.map(|key| Json(shown(&key))).map_err(|error| match error {
        OperateError::NotFound => Problem::key_unknown(),
        other => other.into(),
    })
}

fn shown(key: &Key) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "scope": key.scope().as_str(),
        "created_at": instant(key.created_at),
        "created_by": key.created_by,
        "last_used_at": maybe(key.last_used_at),
        "revoked_at": maybe(key.revoked_at),
    })
}
