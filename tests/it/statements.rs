//! Postgres understands every statement in the code, also those that only a rare race runs.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::support::postgres::database;

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => files_under(&path, found),
            path if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            _ => {}
        }
    }
}

/// The text of each constant that begins like a statement, as the compiler reads it.
fn statements_in(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in source.split("&str = \"-- ").skip(1) {
        let mut text = String::from("-- ");
        let mut letters = after.chars();
        while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
            match (letter == '\\').then(|| letters.next().unwrap()) {
                None => text.push(letter),
                Some('n') => text.push('\n'),
                Some('\n') => letters = letters.as_str().trim_start().chars(),
                Some(escaped) => text.push(escaped),
            }
        }
        found.push(text);
    }
    found
}

/// Every statement there is.
pub fn statements_of_the_store() -> Vec<String> {
    let mut files = Vec::new();
    files_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut files);
    files.sort();
    files.iter().flat_map(|file| statements_in(&std::fs::read_to_string(file).unwrap())).collect()
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let db = database().await;
    let (statements, mut wrong) = (statements_of_the_store(), Vec::new());
    for statement in &statements {
        let prepared = db.pool.prepare(AssertSqlSafe(statement.clone()).into_sql_str()).await;
        wrong.extend(prepared.err().map(|error| format!("{error}\n{statement}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(statements.len() > 150, "only {} statements were found", statements.len());
}
