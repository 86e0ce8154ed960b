//! The closing table: money in, reserved, out, ours beside Stripe's.

use serde_json::Value;

use super::story::Cast;
use super::watch::{Api, dollars};
use crate::sandbox::Control;

/// Prints both books; true when they agree to the cent and every transfer exists at Stripe once.
pub async fn settle(api: &Api, stripe: &Control, cast: &Cast) -> anyhow::Result<bool> {
    let funds = api.get("/v1/funds").await?.unwrap_or_default();
    let ours = funds["data"].as_array().and_then(|all| all.iter().find(|row| row["currency"] == "usd"));
    let ours = |name: &str| ours.and_then(|row| row[name].as_i64());
    let books = stripe.books();
    let theirs = books.currencies.get("usd").cloned().unwrap_or_default();
    let rows = [
        ("money in", ours("settled"), theirs.topped_up_available - theirs.topups_reversed),
        ("reserved", ours("reserved"), 0),
        ("out", ours("released"), theirs.transferred - theirs.reversed),
        ("available", ours("available"), theirs.available),
    ];
    println!("\n  {:<12} {:>16} {:>16}", "", "Sluicegate", "Stripe");
    let mut agree = true;
    for (name, ours, theirs) in rows {
        let same = ours == Some(theirs);
        agree &= same;
        let ours = ours.map_or_else(|| "missing".to_owned(), dollars);
        println!("  {name:<12} {ours:>16} {:>16}{}", dollars(theirs), if same { "" } else { "   differs" });
    }
    for (title, id) in &cast.transfers {
        let carries = |book: &&crate::sandbox::TransferBook| {
            book.metadata.get("sluicegate_transfer").and_then(Value::as_str) == Some(id)
        };
        let times = books.transfers.iter().filter(carries).count();
        if times != 1 {
            agree = false;
            println!("  transfer {title}: {times} times at Stripe");
        }
    }
    println!("\n{}", if agree { "Both books agree to the cent." } else { "The books do not agree." });
    Ok(agree)
}
