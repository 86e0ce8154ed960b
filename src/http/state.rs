//! What every handler works with.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::console::Gate as ConsoleGate;
use super::door::Door;
use super::error::Problem;
use super::live::Live;
use super::onboarding::Limiter as OnboardingLimiter;
use crate::flows::Context;
use crate::flows::bell::Bell;
use crate::flows::receive::Intake;
use crate::store::views;

/// The bootstrap key, as its SHA-256.
#[derive(Clone)]
pub struct AdminKey([u8; 32]);

impl AdminKey {
    /// The key with this secret.
    pub fn of(secret: &SecretString) -> Self {
        Self(hash(secret.expose_secret()))
    }

    /// Whether this is the hash of its secret; takes the same time for every other one.
    pub(super) fn matches(&self, secret_hash: &[u8; 32]) -> bool {
        self.0.ct_eq(secret_hash).into()
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

/// SHA-256 of a key's secret. It has 256 random bits (the bootstrap key: 32 characters), so a slow hash
/// would add nothing.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// What every handler works with.
#[derive(Clone)]
pub struct AppState {
    /// What flows work with.
    pub ctx: Context,
    /// Takes in deliveries.
    pub intake: Intake,
    /// The bootstrap key, if there is one.
    pub admin_key: Option<AdminKey>,
    /// Who was let in or turned away a moment ago.
    pub door: Door,
    /// Who answers together, looks for those who wait and reads for those who listen.
    pub live: Live,
    /// The service is ending: nobody is to be kept waiting.
    pub closing: CancellationToken,
    /// Renders all metrics as Prometheus text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Told after each write, so that this process's worker looks at once.
    pub bell: Arc<Bell>,
    /// How often onboarding's doors lead to Stripe.
    pub onboarding: Arc<OnboardingLimiter>,
    /// How often nobody was let in to the console.
    pub console: Arc<ConsoleGate>,
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").field("ctx", &self.ctx).finish_non_exhaustive()
    }
}

impl AppState {
    /// The bootstrap key's hash.
    pub(super) fn bootstrap(&self) -> Option<&[u8; 32]> {
        self.admin_key.as_ref().map(|AdminKey(hash)| hash)
    }

    /// A connection for one answer.
    pub(super) async fn connect(&self) -> Result<views::Pooled, Problem> {
        Ok(views::connect(&self.ctx.pool).await?)
    }

    /// For an answer that takes several reads.
    pub(super) async fn snapshot(&self) -> Result<views::Snapshot, Problem> {
        Ok(views::snapshot(&self.ctx.pool).await?)
    }
}

/// How handlers hold it.
pub(super) type Shared = Arc<AppState>;
