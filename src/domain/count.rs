//! Counts in what people read.

use std::fmt::Display;

/// "1 event", "2 events": `many` is the plural.
pub fn counted(count: impl Display, one: &str, many: &str) -> String {
    let count = count.to_string();
    let what = if count == "1" { one } else { many };
    format!("{count} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(0, "event", "events"), "0 events");
        assert_eq!(counted(1_i64, "event was", "events were"), "1 event was");
        assert_eq!(counted(1_001_usize, "event", "events"), "1001 events");
    }
}
