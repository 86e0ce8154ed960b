//! API keys: who may call, and how far. A secret is shown once, when its key is made.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

use super::confirm::Confirm;
use super::form::Form;
use super::frame::{Frame, Section};
use super::query::Asked;
use super::session::Admin;
use super::{onward, page, words};
use crate::domain::ids::KeyId;
use crate::flows::admit::Scope;
use crate::flows::operate::{self, OperateError};
use crate::flows::order::Ordered;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::state::Shared;
use crate::store::views::{self, Key};

#[derive(Debug, Template)]
#[template(path = "console/keys.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug)]
struct Row {
    id: String,
    name: String,
    scope: &'static str,
    made: String,
    by: String,
    used: Option<String>,
    revoked: Option<String>,
}

/// The form for a new key.
#[derive(Debug, Template)]
#[template(path = "console/key_new.html")]
struct New {
    frame: Frame,
    once: Uuid,
}

/// A key that was made.
#[derive(Debug, Template)]
#[template(path = "console/key_made.html")]
struct Made {
    frame: Frame,
    name: String,
    scope: &'static str,
    secret: Option<String>,
}

/// Keys, the newest first, those taken back included.
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    Admin(visitor): Admin,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let done = asked.take("done").filter(|word| word == "revoke").map(|_| "The key was revoked.");
    let below = asked.below();
    let mut params = asked.strictly();
    let place = params.page("keys", |key| KeyId::parse(key).is_ok());
    params.finish()?;
    let mut conn = state.connect().await?;
    let found = views::list_keys(&mut conn, place.after.as_deref(), place.to_read()).await?;
    let rows = place.of(found, |key| key.id.clone(), |key| Some(Row::of(key)));
    page(&List {
        frame: visitor.frame(Section::Keys, "API keys").after(done),
        rows: rows.data,
        next: rows.next.map(|after| below.to(&after)),
    })
}

impl Row {
    fn of(key: &Key) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            scope: key.scope().as_str(),
            made: words::moment(key.created_at),
            by: key.created_by.clone(),
            used: key.last_used_at.map(words::moment),
            revoked: key.revoked_at.map(words::moment),
        }
    }
}

/// Asks what a new key is for.
pub(in crate::http) async fn new(Admin(visitor): Admin) -> Result<Response, Problem> {
    page(&New { frame: visitor.frame(Section::Keys, "A new API key"), once: Uuid::new_v4() })
}

/// Makes a key, and shows its secret this once.
pub(in crate::http) async fn create(
    State(state): State<Shared>,
    Admin(visitor): Admin,
    form: Form,
) -> Result<Response, Problem> {
    let missing = |name: &str| Problem::field(&format!("/{name}"), "is required");
    let name = form.text("name", 100)?.ok_or_else(|| missing("name"))?;
    let scope =
        form.text("scope", 10)?.and_then(|word| Scope::parse(&word)).ok_or_else(|| missing("scope"))?;
    let once = form.once();
    let kept = |key: &Key| json!({"id": key.id});
    let (ordered, secret) =
        operate::create_key(&state.ctx, &visitor.actor, once.as_ref(), &name, scope, kept).await?;
    match ordered {
        Ordered::Answer(_) => page(&Made {
            frame: visitor.frame(Section::Keys, "The key is made"),
            name,
            scope: scope.as_str(),
            secret: secret.map(|secret| secret.expose_secret().to_owned()),
        }),
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}

/// Asks before a key is taken back.
pub(in crate::http) async fn ask_to_revoke(Admin(visitor): Admin, Id(id): Id) -> Result<Response, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Problem::key_unknown())?;
    let frame = visitor.frame(Section::Keys, "Revoke the key?");
    let action = format!("/console/keys/{id}/revoke");
    let confirm = Confirm::of(frame, action, "Revoke it", "/console/keys".to_owned());
    let own =
        (id.as_str() == visitor.actor.id).then(|| "It is the key that you are signed in with.".to_owned());
    let first = format!("{id} reaches nothing from then on, and whoever is signed in with it is signed out.");
    let lines = [Some(first), Some("This can't be undone.".to_owned()), own].into_iter().flatten().collect();
    Confirm { lines, grave: true, reason: false, ..confirm }.answer()
}

/// Takes a key back.
pub(in crate::http) async fn revoke(
    State(state): State<Shared>,
    Admin(visitor): Admin,
    Id(id): Id,
    _: Form,
) -> Result<Response, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Problem::key_unknown())?;
    let revoked = operate::revoke_key(&state.ctx, &visitor.actor, &id).await;
    // Whatever became of the order: the database says whose a key is.
    state.door.forget_keys();
    revoked.map_err(|error| match error {
        OperateError::NotFound => Problem::key_unknown(),
        other => other.into(),
    })?;
    Ok(onward("/console/keys?done=revoke"))
}
