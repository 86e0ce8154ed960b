//! Connections go back to the pool as they came from it.

use sluicegate::store::db;

use crate::support::postgres::database;

/// Were one given back within a transaction, what is written next would be gone with it.
#[tokio::test]
async fn who_goes_away_while_a_transaction_begins_leaves_no_connection_within_it() {
    let world = database().await;
    let pool = db::connect(&world.url, 1).await.unwrap();
    let mut given_up = 0;
    for turns in (0..40).cycle().take(400) {
        let patience = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        let begun = tokio::select! {
            biased;
            begun = db::begin(&pool) => Some(begun),
            () = patience => None,
        };
        given_up += usize::from(begun.is_none());
        drop(begun);
        let mut conn = pool.acquire().await.unwrap();
        let mut transaction = async || {
            let current = sqlx::query_scalar("select pg_current_xact_id()::text");
            let id: String = current.fetch_one(&mut *conn).await.unwrap();
            id
        };
        let (one, other) = (transaction().await, transaction().await);
        assert_ne!(one, other, "two statements by themselves share a transaction after {turns} turns");
    }
    assert!(given_up >= 10, "not even those without patience went away: {given_up}");
}

/// Stripe is told that an event is kept: no setting of the server's or the user's may make that a hope.
#[tokio::test]
async fn a_commit_is_durable_whatever_the_server_is_set_to() {
    let world = database().await;
    let set_to = async |conn: &mut sqlx::PgConnection| {
        let setting: String = sqlx::query_scalar("show synchronous_commit").fetch_one(conn).await.unwrap();
        setting
    };
    let mut plain = <sqlx::PgConnection as sqlx::Connection>::connect(&world.url).await.unwrap();
    assert_eq!(set_to(&mut plain).await, "off", "or this story shows nothing");
    let pool = db::connect(&world.url, 2).await.unwrap();
    assert_eq!(set_to(&mut pool.acquire().await.unwrap()).await, "on");
    // What asks for more than that stays.
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut plain).await.unwrap();
    let more = format!("alter database {name} set synchronous_commit = remote_apply");
    sqlx::raw_sql(sqlx::AssertSqlSafe(more)).execute(&mut plain).await.unwrap();
    let pool = db::connect(&world.url, 1).await.unwrap();
    assert_eq!(set_to(&mut pool.acquire().await.unwrap()).await, "remote_apply");
}
