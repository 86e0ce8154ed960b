//! Questions about single accounts: those that come while one is being asked of the database are asked together.
//!
//! Fifty callers at once thus cost one statement and one connection, not fifty of each; a question is always part
//! of a statement that began after it came, so nobody is told what was true before they asked.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::Problem;
use crate::domain::ids::AccountId;
use crate::flows::Context;
use crate::store::views::{self, Account, StoreError};

/// Questions that wait; more are told to come back.
const WAITING: usize = 10_000;
/// The most asked in one statement.
const TOGETHER: usize = 500;
/// A statement that takes longer is given up, and its connection with it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Question {
    account: String,
    answer: oneshot::Sender<Result<Option<Account>, Problem>>,
}

/// Where questions are put.
#[derive(Clone, Debug)]
pub(super) struct Lookups(mpsc::Sender<Question>);

impl Lookups {
    /// A desk and who serves it, until nobody is left to ask.
    pub(super) fn open(ctx: Context) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, questions) = mpsc::channel(WAITING);
        (Self(sender), serve(ctx, questions))
    }

    /// The account with this id, if anything was heard of it.
    pub(super) async fn find(&self, account: &AccountId) -> Result<Option<Account>, Problem> {
        let (answer, told) = oneshot::channel();
        let question = Question { account: account.to_string(), answer };
        self.0.try_send(question).map_err(|_| Problem::unavailable())?;
        told.await.map_err(|_| Problem::unavailable())?
    }
}

async fn serve(ctx: Context, mut questions: mpsc::Receiver<Question>) {
    let mut asked = Vec::with_capacity(TOGETHER);
    while questions.recv_many(&mut asked, TOGETHER).await > 0 {
        // Whoever has left is not asked for.
        asked.retain(|question: &Question| !question.answer.is_closed());
        let answers = tokio::time::timeout(PATIENCE, ask(&ctx, &asked)).await;
        let answers =
            answers.map_or_else(|_| Err(Problem::unavailable()), |found| found.map_err(Problem::from));
        for question in asked.drain(..) {
            let answer = answers.as_ref().map(|found| found.get(&question.account).cloned());
            // Fails where the caller has left.
            let _ = question.answer.send(answer.map_err(Clone::clone));
        }
    }
}

async fn ask(ctx: &Context, questions: &[Question]) -> Result<BTreeMap<String, Account>, StoreError> {
    let ids: Vec<&str> = questions.iter().map(|question| question.account.as_str()).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut conn = views::connect(&ctx.pool).await?;
    let accounts = views::list_accounts_by_ids(&mut conn, ctx.livemode, &ids).await?;
    Ok(accounts.into_iter().map(|account| (account.id.clone(), account)).collect())
}
