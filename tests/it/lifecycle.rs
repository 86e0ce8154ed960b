//! A transfer's life as the database holds it.

use serde_json::json;
use sluicegate::domain::transfer::Status;

use crate::support::world::World;

/// Columns that go with a status.
fn columns(status: Status) -> &'static str {
    match status {
        Status::Waiting | Status::Releasing | Status::Canceled => {
            "stripe_transfer = null, amount_reversed = 0, failure_code = null"
        }
        Status::Released => "stripe_transfer = 'tr_1', amount_reversed = 0, failure_code = null",
        Status::PartiallyReversed => "stripe_transfer = 'tr_1', amount_reversed = 40, failure_code = null",
        Status::Reversed => "stripe_transfer = 'tr_1', amount_reversed = 100, failure_code = null",
        Status::Failed => "stripe_transfer = null, amount_reversed = 0, failure_code = 'x'",
    }
}

#[tokio::test]
async fn the_database_lets_a_transfer_live_as_the_domain_says_and_no_other_way() {
    let mut world = World::start().await;
    let id = world.transfer("acct_1", 100, json!({})).await;
    world.stop_service().await;
    let set = |status: Status, guarded: bool| {
        let trigger = if guarded { "enable" } else { "disable" };
        format!(
            "begin; alter table transfers {trigger} trigger transfers_keep_to_their_life;
             update transfers set waiting_on = '{{}}', fundable = false, status = '{}', {} where id = '{id}'; commit",
            status.as_str(),
            columns(status)
        )
    };
    for from in Status::ALL {
        for to in Status::ALL {
            let mut conn = world.pool().acquire().await.unwrap();
            sqlx::raw_sql(sqlx::AssertSqlSafe(set(from, false))).execute(&mut *conn).await.unwrap();
            let moved = sqlx::raw_sql(sqlx::AssertSqlSafe(set(to, true))).execute(&mut *conn).await;
            let _ = sqlx::raw_sql("rollback").execute(&mut *conn).await;
            // The columns of a lower status also take money back, which is refused on its own.
            assert_eq!(moved.is_ok(), from.may_become(to), "{from:?} to {to:?}: {moved:?}");
        }
    }
}

#[tokio::test]
async fn what_was_asked_for_stays_as_it_was_asked() {
    let world = World::start().await;
    let id = world.transfer("acct_1", 100, json!({"topup": "tu_1"})).await;
    for change in
        ["amount = 99", "destination = 'acct_2'", "topup = null", "created_by = 'x'", "livemode = true"]
    {
        let sql = format!("update transfers set {change} where id = '{id}'");
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(world.pool()).await.unwrap_err();
        assert!(refused.to_string().contains("keeps what was asked for"), "{change}: {refused}");
    }
}
