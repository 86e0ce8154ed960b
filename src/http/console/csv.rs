//! Tables as other programs read them: RFC 4180, with what a spreadsheet would take for a formula made harmless.

use std::fmt::Write as _;

/// A field of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// A text from anywhere.
    Text(&'a str),
    /// A number of ours, as it is written in the table.
    Number(&'a str),
}

impl<'a> Field<'a> {
    /// A text, or nothing.
    pub(super) fn maybe(text: Option<&'a str>) -> Self {
        Self::Text(text.unwrap_or_default())
    }
}

/// Writes a line below the others.
pub(super) fn line(out: &mut String, fields: &[Field<'_>]) {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match field {
            Field::Text(text) => write(out, text, is_formula(text)),
            Field::Number(digits) => write(out, digits, false),
        }
    }
    out.push_str("\r\n");
}

fn write(out: &mut String, text: &str, guarded: bool) {
    let guard = if guarded { "'" } else { "" };
    // Writing to a text never fails.
    let _ = if text.contains(['"', ',', '\r', '\n']) {
        write!(out, "\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        write!(out, "{guard}{text}")
    };
}

/// Whether a spreadsheet may calculate it: what follows white space counts too, and so do the wide forms of the signs.
fn is_formula(text: &str) -> bool {
    text.starts_with(['\t', '\r', '\n'])
        || text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &[Field<'_>]) -> String {
        let mut out = String::new();
        line(&mut out, fields);
        out
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("", "\r\n"),
            ("plain", "plain\r\n"),
            ("a,b", "\"a,b\"\r\n"),
            ("say \"so\"", "\"say \"\"so\"\"\"\r\n"),
            ("two\nlines", "\"two\nlines\"\r\n"),
        ] {
            assert_eq!(written(&[Field::Text(text)]), expected);
        }
        assert_eq!(written(&[Field::Text("a"), Field::maybe(None), Field::Number("-5")]), "a,,-5\r\n");
    }

    #[test]
    fn nothing_that_somebody_wrote_is_calculated() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\tx", "＝1"] {
            assert_eq!(written(&[Field::Text(text)]), format!("'{text}\r\n"), "{text:?}");
        }
        assert_eq!(
            written(&[Field::Text("=HYPERLINK(\"x\",\"y\")")]),
            "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"\r\n"
        );
        assert_eq!(written(&[Field::Number("-1")]), "-1\r\n", "a number of ours stays one");
    }
}
