//! `migrate`, as a deployment runs it: into a pipe, and again whenever it likes.

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::program::{Ended, bare, ended};
use crate::support::world::World;

async fn migrate(url: &str, form: &[&str]) -> Ended {
    let mut command = bare(&[&["migrate"], form].concat());
    command.env("DATABASE_URL", url);
    ended(command).await
}

#[tokio::test]
async fn what_was_missing_is_told_to_a_pipe_once_and_never_a_password() {
    let world = World::start().await;
    let plain = world.db.empty_beside().await;
    let (scheme, rest) = plain.split_once("://").unwrap();
    let (user, place) = rest.split_once('@').unwrap();
    // The private server trusts whoever connects, and takes any password.
    let (user, password) = user.split_once(':').unwrap_or((user, "hunter2"));
    let url = format!("{scheme}://{user}:{password}@{place}");
    let first = migrate(&url, &[]).await;
    let told = first.json();
    let mut conn = PgConnection::connect(&plain).await.unwrap();
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select version, description from _sqlx_migrations where success order by version")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let applied: Vec<Value> =
        rows.iter().map(|(version, name)| json!({"version": version, "name": name})).collect();
    assert_eq!(told["applied"], Value::from(applied));
    assert_eq!(told["applied"][0], json!({"version": 1, "name": "outbox"}));
    let database = told["database"].as_str().unwrap();
    assert!(database.ends_with(plain.split('?').next().unwrap().rsplit('/').next().unwrap()), "{told}");
    assert!(!format!("{first:?}").contains(password), "{first:?}");

    let again = migrate(&plain, &[]).await.json();
    assert_eq!(again, json!({"applied": [], "database": database}));
    let table = migrate(&plain, &["--output", "table"]).await;
    assert_eq!(
        (table.code, table.out),
        (0, format!("{} migrations are applied to {database}, 0 of them now\n", rows.len()))
    );
}
