//! What `doctor` thinks of what it was told: one finding a check, with the mend.
//!
//! Each judgement is a pure function of facts that others read. What could not be read is a finding too.

pub mod database;
pub mod secrets;
pub mod service;
pub mod stripe;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but somebody should know or mend it.
    Warn,
    /// The service can't work, or money is in danger.
    Fail,
}

impl Verdict {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check; stable.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What is so.
    pub found: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    /// Worth a look.
    pub fn warn(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    /// Broken.
    pub fn fail(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), mend: Some(mend.into()) }
    }

    /// It was not looked at, for want of something.
    pub fn unchecked(check: &'static str, why: impl AsRef<str>, mend: impl Into<String>) -> Self {
        Self::warn(check, format!("not checked: {}", why.as_ref()), mend)
    }
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// A list in words, at most five of it.
fn some(words: &[&str]) -> String {
    match words {
        [one, two, three, four, _, _, ..] => {
            format!("{one}, {two}, {three}, {four} and {} more", words.len() - 4)
        }
        few => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts_and_long_lists_are_cut() {
        let findings = [Finding::ok("a", ""), Finding::warn("b", "", ""), Finding::ok("c", "")];
        assert_eq!((worst(&findings), worst(&[])), (Verdict::Warn, Verdict::Ok));
        assert_eq!(some(&["a", "b"]), "a, b");
        assert_eq!(some(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
