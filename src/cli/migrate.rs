//! `migrate`: applies what the database lacks of this program's migrations.

use anyhow::Context as _;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::output::{Output, say};
use super::shell::Shown;
use super::{Failed, database, service, settings};
use crate::store::{checkup, db};
use crate::telemetry;

/// Applies the migrations, and says which were missing and of which database.
pub async fn run(shown: &Shown) -> Result<(), Failed> {
    let settings = settings(&shown.flags)?;
    telemetry::init(settings.log_format, settings.log_filter.as_deref());
    let database =
        database::provide(settings.database_url.as_ref(), settings.data_dir, settings.pg_bin_dir).await?;
    let pool = service::connect(&database.url, 2).await?;
    let applied = apply(&pool).await;
    pool.close().await;
    let place = db::place(&database.url)?;
    database.stop().await;
    show(shown.form(), &applied?, &place);
    Ok(())
}

/// Applies what is missing; a replica that starts at this moment may do a part of it.
async fn apply(pool: &PgPool) -> anyhow::Result<Vec<Value>> {
    let before = checkup::list_applied(&mut *pool.acquire().await?).await?.unwrap_or_default();
    db::migrate(pool).await.context("the migrations could not be applied")?;
    let missing = db::MIGRATIONS.iter().filter(|ours| !before.iter().any(|had| had.version == ours.version));
    Ok(missing.map(|ours| json!({"version": ours.version, "name": ours.description})).collect())
}

fn show(form: Output, applied: &[Value], place: &str) {
    match form {
        Output::Table => say(&format!(
            "{} migrations are applied to {place}, {} of them now",
            db::MIGRATIONS.iter().count(),
            applied.len(),
        )),
        Output::Json => say(&json!({"applied": applied, "database": place}).to_string()),
    }
}
