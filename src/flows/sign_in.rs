//! The console's sessions: an API key is exchanged for one, which reaches as far as the key and ends with it.

use serde_json::{Value, json};

use super::order::{Answer, Begun, begin};
use super::{Actor, Context};
use crate::domain::audit::Action;
use crate::domain::session::{self, Token};
use crate::store::db::StoreError;
use crate::store::{keys, sessions};

pub use crate::store::keys::Scope;

/// What a failed sign-in is recorded under where the key is nobody's.
const NOBODY: &str = "unknown";
/// The bootstrap key's name in the records.
const ADMIN: &str = "admin";
/// What the audit rows are about.
const CONSOLE: &str = "console";

/// With which key somebody signs in.
#[derive(Clone, Debug)]
pub enum With {
    /// An API key.
    Key(Actor),
    /// The bootstrap key of this SHA-256.
    Bootstrap([u8; 32]),
}

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The operating system gave no random bits.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for SignInError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who, for the record.
    pub actor: Actor,
    /// What the key's owner calls it.
    pub name: String,
    /// How far the key reaches.
    pub scope: Scope,
}

/// A token that nobody has yet.
pub fn token() -> Result<Token, SignInError> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits).map_err(|error| SignInError::Randomness(error.to_string()))?;
    Ok(Token::of(bits))
}

/// Begins a session; `from` is the browser's address, for the record.
pub async fn begin_session(ctx: &Context, with: &With, from: &str) -> Result<Token, SignInError> {
    let token = token()?;
    let (actor, key, seal) = match with {
        With::Key(actor) => (actor.clone(), Some(actor.id.as_str()), None),
        With::Bootstrap(hash) => (Actor { id: ADMIN.to_owned() }, None, Some(token.seal(hash))),
    };
    // Without a key it is always a new order.
    let Begun::Fresh(mut order) = begin(ctx, &actor, None).await? else { return Ok(token) };
    let now = order.now;
    let (token_hash, ends_at) = (token.hash(), now + session::LASTS);
    let new = sessions::New { token_hash: &token_hash, key, admin_seal: seal.as_ref(), ends_at };
    sessions::delete_ended(order.tx(), now).await?;
    sessions::insert(order.tx(), &new, now).await?;
    order.note(Action::ConsoleSignedIn, CONSOLE, &json!({"from": from}));
    order.end(Answer { status: 200, body: Value::Null }).await?;
    Ok(token)
}

/// Whose session this is, while it lasts. `bootstrap` is the SHA-256 of the bootstrap key in force; `acts` says
/// that its owner does something, and not a page that keeps itself up to date.
pub async fn recall(
    ctx: &Context,
    token: &Token,
    bootstrap: Option<&[u8; 32]>,
    acts: bool,
) -> Result<Option<Known>, StoreError> {
    let (now, hash) = (ctx.clock.now(), token.hash());
    let mut conn = ctx.pool.acquire().await?;
    let Some(session) = sessions::find(&mut conn, &hash).await? else { return Ok(None) };
    if session::is_over(session.seen_at, session.ends_at, now) || session.revoked_at.is_some() {
        return Ok(None);
    }
    let scope = session.scope();
    let known = match (session.key, session.admin_seal) {
        (Some(id), _) => Known { name: session.name.unwrap_or_default(), actor: Actor { id }, scope },
        // No secret is compared: whoever has the row's token has all that the seal could tell.
        (None, Some(seal)) if bootstrap.is_some_and(|hash| token.seal(hash).as_slice() == seal) => {
            Known { actor: Actor { id: ADMIN.to_owned() }, name: ADMIN.to_owned(), scope: Scope::Admin }
        }
        (None, _) => return Ok(None),
    };
    if acts && session.seen_at <= now - session::NOTED_EVERY {
        sessions::touch(&mut conn, &hash, now).await?;
        keys::touch_if_older(&mut conn, &known.actor.id, now, now - session::NOTED_EVERY).await?;
    }
    Ok(Some(known))
}

/// Ends a session.
pub async fn end_session(ctx: &Context, actor: &Actor, token: &Token) -> Result<(), StoreError> {
    let Begun::Fresh(mut order) = begin(ctx, actor, None).await? else { return Ok(()) };
    if sessions::delete(order.tx(), &token.hash()).await? {
        order.note(Action::ConsoleSignedOut, CONSOLE, &json!({}));
    }
    order.end(Answer { status: 200, body: Value::Null }).await?;
    Ok(())
}

/// Puts it on record that nobody was let in from this address, and how many failures before that were not. `known`
/// is the owner of a key that was taken back.
pub async fn note_failure(
    ctx: &Context,
    known: Option<&Actor>,
    from: &str,
    unrecorded: u64,
) -> Result<(), StoreError> {
    let nobody = Actor { id: NOBODY.to_owned() };
    let Begun::Fresh(mut order) = begin(ctx, known.unwrap_or(&nobody), None).await? else { return Ok(()) };
    let cause = if known.is_some() { "revoked" } else { "unknown" };
    let details = json!({"cause": cause, "from": from, "not_recorded_before": unrecorded});
    order.note(Action::ConsoleSignInFailed, CONSOLE, &details);
    order.end(Answer { status: 200, body: Value::Null }).await?;
    Ok(())
}
