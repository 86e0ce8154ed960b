//! Where a caller wants a person back after onboarding, and what is told there.

use url::Url;

use super::ids::AccountId;

/// The longest that is taken, in bytes: it travels within another URL.
pub const LONGEST: usize = 1_000;

/// A web address that a browser may be sent to. ASCII, as every URL that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnUrl(String);

/// What the caller's page is told.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Whose onboarding it was.
    pub account: &'a AccountId,
    /// Whether the account may be paid.
    pub ready: bool,
    /// Whether Stripe was asked just now; else `ready` is as it was last known.
    pub confirmed: bool,
}

/// The names that are ours in the query of the caller's page.
const OURS: [&str; 3] = ["account", "ready", "confirmed"];

impl ReturnUrl {
    /// Takes an absolute web address, or says what is wrong with it. Live mode takes HTTPS alone, as Stripe does.
    pub fn parse(text: &str, livemode: bool) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "must be an absolute URL like https://example.com/done")?;
        match url.scheme() {
            "https" => {}
            "http" if !livemode => {}
            "http" => return Err("must be https:// in live mode: Stripe takes http:// in test mode alone"),
            _ => return Err("must be an https:// URL"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password");
        }
        // As it is written out, since that is what travels.
        let url = String::from(url);
        if url.len() > LONGEST { Err("must be shorter: 1000 characters at most") } else { Ok(Self(url)) }
    }

    /// The address as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address alone, without path and query, for the record.
    pub fn origin(&self) -> String {
        Url::parse(&self.0).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    /// The address with what the page is told in its query. What else is in the query stays as it was written, in
    /// its order, and so does the fragment; parameters that the caller gave our names are replaced.
    pub fn with(&self, arrival: &Arrival<'_>) -> String {
        let (rest, fragment) = self.0.split_once('#').map_or((self.0.as_str(), None), |(r, f)| (r, Some(f)));
        let (page, query) = rest.split_once('?').unwrap_or((rest, ""));
        let theirs = query.split('&').filter(|pair| !pair.is_empty() && !is_ours(pair));
        let mut told: Vec<String> = theirs.map(str::to_owned).collect();
        told.push(format!("account={}", arrival.account));
        told.push(format!("ready={}", arrival.ready));
        if !arrival.confirmed {
            told.push("confirmed=false".to_owned());
        }
        let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
        format!("{page}?{}{fragment}", told.join("&"))
    }
}

fn is_ours(pair: &str) -> bool {
    let named = url::form_urlencoded::parse(pair.as_bytes()).next();
    named.is_some_and(|(name, _)| OURS.contains(&name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_is_told_joins_what_is_there() {
        let account = AccountId::parse("acct_1").unwrap();
        let told = |url: &str, ready, confirmed| {
            let arrival = Arrival { account: &account, ready, confirmed };
            ReturnUrl::parse(url, false).unwrap().with(&arrival)
        };
        let rows = [
            ("https://a.example", "https://a.example/?account=acct_1&ready=true"),
            ("https://a.example/x?", "https://a.example/x?account=acct_1&ready=true"),
            ("https://a.example/x?b=1&c=%20+2", "https://a.example/x?b=1&c=%20+2&account=acct_1&ready=true"),
            ("https://a.example/x?b#top?y", "https://a.example/x?b&account=acct_1&ready=true#top?y"),
            ("https://a.example/#/spa?q=1", "https://a.example/?account=acct_1&ready=true#/spa?q=1"),
            (
                "https://a.example/?ready=maybe&%61ccount=acct_2&already=1",
                "https://a.example/?already=1&account=acct_1&ready=true",
            ),
            (
                "http://bücher.example/ä?ö=ü",
                "http://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC&account=acct_1&ready=true",
            ),
        ];
        for (url, with) in rows {
            assert_eq!(told(url, true, true), with);
        }
        assert_eq!(
            told("https://a.example/", false, false),
            "https://a.example/?account=acct_1&ready=false&confirmed=false"
        );
    }

    #[test]
    fn only_web_addresses_are_taken_and_live_mode_takes_https_alone() {
        for good in ["https://a.example/x", "https://localhost:3000", "https://[::1]/"] {
            assert!(ReturnUrl::parse(good, true).is_ok() && ReturnUrl::parse(good, false).is_ok(), "{good}");
        }
        let plain = "http://localhost:3000/done";
        assert!(ReturnUrl::parse(plain, false).is_ok());
        assert!(ReturnUrl::parse(plain, true).unwrap_err().contains("live mode"));
        let long = format!("https://a.example/{}", "ä".repeat(200));
        for bad in [
            "",
            "/done",
            "a.example",
            "//a.example",
            "https://",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://a.example",
            "https://me@a.example",
            "https://me:x@a.example",
            "app://done",
            &long,
        ] {
            assert!(ReturnUrl::parse(bad, false).is_err(), "{bad}");
        }
        assert_eq!(
            ReturnUrl::parse("https://a.example:8443/x?y", true).unwrap().origin(),
            "https://a.example:8443"
        );
    }
}
