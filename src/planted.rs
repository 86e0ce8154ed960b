//! Bugs that are planted on purpose, to prove that the simulator finds such.
//!
//! They exist in debug builds only, and there only in a process that is told to have one; in a release build
//! every question here is answered no at compile time.

use std::sync::LazyLock;

/// The environment variable that names the bug a process is to have.
pub const VARIABLE: &str = "SLUICEGATE_PLANTED";

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

bugs! {
    /// Every send has an idempotency key of its own.
    FreshKey = "fresh_key",
    /// A 5xx counts as a refusal, and the next key is used.
    TrustServerErrors = "trust_server_errors",
    /// One look-up, made at once, counts as proof that nothing was created.
    OneLookUpIsProof = "one_look_up_is_proof",
    /// Before a send nobody asks whether the account is still ready.
    SkipRecheck = "skip_recheck",
    /// A delivery is answered before it is stored.
    AnswerBeforeCommit = "answer_before_commit",
    /// A top-up's money counts as soon as the bank has paid, although Stripe does not have it yet.
    SettleEarly = "settle_early",
}

/// Whether this process has the bug.
#[inline]
pub fn has(bug: Bug) -> bool {
    cfg!(debug_assertions) && *PLANTED == Some(bug)
}

static PLANTED: LazyLock<Option<Bug>> = LazyLock::new(|| {
    let named = std::env::var(VARIABLE).ok()?;
    Bug::ALL.iter().copied().find(|bug| bug.as_str() == named)
});
