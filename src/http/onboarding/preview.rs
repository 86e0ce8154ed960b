//! Telling a person from a program that looks ahead: a link preview, a prefetch, a HEAD.
//!
//! Stripe's link opens once, so whoever only looks must not be given one. A person who is taken for a program
//! loses a click: the page has a button.

use axum::http::{HeaderMap, Method};

/// Parts of the names that previewers, crawlers and mail scanners give themselves, in lower case.
const LOOKERS: [&str; 16] = [
    "bot",
    "crawler",
    "spider",
    "preview",
    "facebookexternalhit",
    "whatsapp",
    "slack-imgproxy",
    "embedly",
    "iframely",
    "unfurl",
    "vkshare",
    "skypeuri",
    "outbrain",
    "safelinks",
    "urlscan",
    "headless",
];

/// Headers by which a browser says that nobody has asked for the page yet.
const AHEAD: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];

/// Whether nobody stands at the door yet.
pub(super) fn is_looking_ahead(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name: &str, words: &[&str]| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.map(str::to_ascii_lowercase).any(|value| words.iter().any(|word| value.contains(word)))
    };
    method == Method::HEAD
        || AHEAD.iter().any(|name| says(name, &["prefetch", "prerender", "preview"]))
        || says("user-agent", &LOOKERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn looks(method: Method, headers: &[(&'static str, &'static str)]) -> bool {
        let pairs =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        is_looking_ahead(&method, &pairs.collect())
    }

    #[test]
    fn who_only_looks_is_known_by_what_it_says() {
        let people = [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Mobile Safari/604.1",
            "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
        ];
        for agent in people {
            assert!(!looks(Method::GET, &[("user-agent", agent)]), "{agent}");
            assert!(looks(Method::HEAD, &[("user-agent", agent)]), "{agent}");
        }
        for agent in [
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
            "facebookexternalhit/1.1",
            "WhatsApp/2.23.20.0",
            "TelegramBot (like TwitterBot)",
            "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
        ] {
            assert!(looks(Method::GET, &[("user-agent", agent)]), "{agent}");
        }
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("purpose", "prefetch"),
            ("x-purpose", "preview"),
            ("x-moz", "prefetch"),
        ] {
            assert!(looks(Method::GET, &[(name, value)]), "{name}: {value}");
        }
        assert!(!looks(Method::GET, &[]));
    }
}
