//! The two webhook endpoints at Stripe: which types each must be sent, and what is to be done until it is right.
//!
//! Stripe does not show whether an endpoint is one for connected accounts, so ours carry a mark in their metadata.
//! What an endpoint must be sent follows from the routing of events and nothing else.

use super::event::{Envelope, HANDLED, Ourselves, Route, Shape};
use super::ids::AccountId;

/// The metadata entry that marks an endpoint as ours and says which it is.
pub const MARK: &str = "sluicegate_endpoint";
/// Where the service takes deliveries.
pub const PATH: &str = "/webhooks/stripe";

/// Whose events an endpoint is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The platform's own.
    Platform,
    /// Connected accounts'.
    Connect,
}

impl Scope {
    /// Both.
    pub const ALL: [Scope; 2] = [Self::Platform, Self::Connect];

    /// The word of the mark, and the usual label of its secret.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Connect => "connect",
        }
    }

    /// In words.
    pub fn described(self) -> &'static str {
        match self {
            Self::Platform => "the platform's own account",
            Self::Connect => "connected accounts",
        }
    }

    /// Reads the mark.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    /// The types that take effect when they come through such an endpoint.
    pub fn needed(self) -> Vec<&'static str> {
        let (platform, connected) = ("acct_platform", "acct_connected");
        let ourselves = Ourselves { livemode: false, platform: AccountId::parse(platform).ok() };
        let (account, object) = match self {
            Self::Platform => (None, platform),
            Self::Connect => (Some(connected), connected),
        };
        let takes_effect = |event_type: &&'static str| {
            let shape = Shape::Snapshot;
            let object_id = Some(object);
            let envelope = Envelope { id: "evt_1", shape, event_type, account, object_id, livemode: false };
            // The object is none of the type's own, so that it may be unreadable; but it is not ignored.
            !matches!(envelope.route(&ourselves), Route::Ignore(_))
        };
        HANDLED.into_iter().filter(takes_effect).collect()
    }
}

/// An endpoint as Stripe shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `we_…`.
    pub id: String,
    /// Where events go.
    pub url: String,
    /// Whether they do.
    pub enabled: bool,
    /// The types it is sent; `*` for all.
    pub types: Vec<String>,
    /// The version its events are written in; `None` where it follows the account's default.
    pub api_version: Option<String>,
    /// Whether events of that version can be read.
    pub readable: bool,
    /// Live or test mode.
    pub livemode: bool,
    /// What its mark says.
    pub mark: Option<Scope>,
    /// It belongs to a Connect application.
    pub of_application: bool,
}

impl Endpoint {
    /// The needed types that it is not sent.
    pub fn missing(&self, scope: Scope) -> Vec<&'static str> {
        let sent = |needed: &&'static str| self.types.iter().any(|one| one == "*" || one == *needed);
        scope.needed().into_iter().filter(|needed| !sent(needed)).collect()
    }

    /// Whose events it is sent: by its mark, else as far as what it is sent betrays it. Only an endpoint of the
    /// platform is sent top-ups, and only one of connected accounts has use for authorisations.
    pub fn scope(&self) -> Option<Scope> {
        let sent = |beginning: &str| self.types.iter().any(|one| one.starts_with(beginning));
        self.mark.or_else(|| {
            if self.of_application || (sent("account.application.") && !sent("topup.")) {
                Some(Scope::Connect)
            } else {
                sent("topup.").then_some(Scope::Platform)
            }
        })
    }
}

/// What is to be done about one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is right.
    Keep {
        /// The endpoint.
        id: String,
    },
    /// It is ours, and lacks something that can be mended.
    Repair {
        /// The endpoint.
        id: String,
        /// The types it shall be sent, where some are missing: those it is sent already among them.
        types: Option<Vec<String>>,
    },
    /// There is none, or none that can be mended.
    Make,
}

/// An endpoint that is left alone, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The endpoint.
    pub id: String,
    /// Where its events go.
    pub url: String,
    /// What it is, and the mend.
    pub advice: &'static str,
}

/// What to do so that a URL is sent the events of a scope. Nothing is done to an endpoint without the mark.
pub fn step(scope: Scope, url: &str, existing: &[Endpoint]) -> Step {
    let mut ours: Vec<&Endpoint> =
        existing.iter().filter(|one| one.mark == Some(scope) && one.url == url && one.readable).collect();
    // What is right already goes before what has to be mended: repeated, nothing changes.
    ours.sort_by_key(|one| (!one.enabled, one.missing(scope).len(), one.id.clone()));
    let Some(best) = ours.first() else { return Step::Make };
    let missing = best.missing(scope);
    if best.enabled && missing.is_empty() {
        return Step::Keep { id: best.id.clone() };
    }
    let types = (!missing.is_empty())
        .then(|| best.types.iter().cloned().chain(missing.iter().map(|one| (*one).to_owned())).collect());
    Step::Repair { id: best.id.clone(), types }
}

/// The endpoints that are neither of the two `used` ones, and seem to have to do with us.
pub fn aside(url: &str, existing: &[Endpoint], used: &[String]) -> Vec<Aside> {
    let left = existing.iter().filter(|one| !used.contains(&one.id));
    let advice = |one: &Endpoint| match (one.mark, one.url == url) {
        (Some(_), true) if !one.readable => Some(
            "its API version can't be read and can't be changed: delete it once the new one's secret is in use",
        ),
        (Some(_), true) => Some("a second one of the same kind: delete it in the Dashboard"),
        (Some(_), false) => {
            Some("goes elsewhere: delete it in the Dashboard if nothing listens there any more")
        }
        (None, true) => Some(
            "was made by hand, so it can't be told for whose events: delete it in the Dashboard once the two of \
             this command deliver",
        ),
        (None, false) => None,
    };
    let noted = left.filter_map(|one| {
        advice(one).map(|advice| Aside { id: one.id.clone(), url: one.url.clone(), advice })
    });
    noted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://pay.example.com/webhooks/stripe";

    fn right(scope: Scope) -> Endpoint {
        Endpoint {
            id: format!("we_{}", scope.as_str()),
            url: URL.to_owned(),
            enabled: true,
            types: scope.needed().into_iter().map(str::to_owned).collect(),
            api_version: Some("2026-10-28.endive".to_owned()),
            readable: true,
            livemode: false,
            mark: Some(scope),
            of_application: false,
        }
    }

    #[test]
    fn each_type_that_is_handled_is_needed_by_the_endpoint_it_takes_effect_through() {
        let (platform, connect) = (Scope::Platform.needed(), Scope::Connect.needed());
        for needed in
            ["topup.reversed", "transfer.created", "balance.available", "payout.created", "account.updated"]
        {
            assert!(platform.contains(&needed), "{needed}");
        }
        assert_eq!(
            connect,
            [
                "account.updated",
                "account.application.authorized",
                "account.application.deauthorized",
                "capability.updated"
            ]
        );
        assert!(HANDLED.iter().all(|one| platform.contains(one) || connect.contains(one)));
    }

    #[test]
    fn what_is_right_is_kept_what_can_be_mended_is_and_all_else_is_made_anew() {
        let scope = Scope::Connect;
        let keep = Step::Keep { id: "we_connect".into() };
        let repair = |types| Step::Repair { id: "we_connect".into(), types };
        let with = |change: &dyn Fn(&mut Endpoint)| {
            let mut endpoint = right(scope);
            change(&mut endpoint);
            step(scope, URL, &[right(Scope::Platform), endpoint])
        };
        assert_eq!(step(scope, URL, &[]), Step::Make);
        assert_eq!(with(&|_| {}), keep);
        assert_eq!(with(&|one| one.types = vec!["*".into()]), keep);
        assert_eq!(with(&|one| one.enabled = false), repair(None));
        let all = ["person.updated", "account.updated"].into_iter().map(str::to_owned);
        let rest = scope.needed().into_iter().skip(1).map(str::to_owned);
        assert_eq!(
            with(&|one| one.types = vec!["person.updated".into(), "account.updated".into()]),
            repair(Some(all.chain(rest).collect())),
            "what it was sent before, it is sent still"
        );
        assert_eq!(with(&|one| one.readable = false), Step::Make);
        assert_eq!(with(&|one| one.url = "https://elsewhere.example".into()), Step::Make);
        assert_eq!(with(&|one| one.mark = None), Step::Make, "what is not marked is not touched");
    }

    #[test]
    fn of_two_of_a_kind_the_better_is_used_and_the_other_put_aside() {
        let worn = Endpoint { id: "we_a".into(), enabled: false, ..right(Scope::Platform) };
        let existing = [worn, right(Scope::Platform)];
        assert_eq!(step(Scope::Platform, URL, &existing), Step::Keep { id: "we_platform".into() });
        let left = aside(URL, &existing, &["we_platform".into()]);
        assert_eq!(left.len(), 1);
        assert!(left[0].id == "we_a" && left[0].advice.contains("second"));
    }

    #[test]
    fn others_are_put_aside_only_where_they_have_to_do_with_us() {
        let foreign = Endpoint { mark: None, url: "https://shop.example".into(), ..right(Scope::Platform) };
        assert_eq!(aside(URL, std::slice::from_ref(&foreign), &[]), []);
        let by_hand = Endpoint { url: URL.into(), ..foreign };
        assert!(aside(URL, &[by_hand], &[])[0].advice.contains("by hand"));
        let old = Endpoint { readable: false, ..right(Scope::Platform) };
        assert!(aside(URL, &[old], &[])[0].advice.contains("API version"));
    }

    #[test]
    fn an_endpoint_without_a_mark_betrays_its_scope_or_not() {
        let unmarked = |types: &[&str]| {
            let types = types.iter().map(|one| (*one).to_owned()).collect();
            Endpoint { mark: None, types, ..right(Scope::Platform) }.scope()
        };
        assert_eq!(unmarked(&["topup.succeeded", "account.updated"]), Some(Scope::Platform));
        assert_eq!(unmarked(&["account.updated", "account.application.deauthorized"]), Some(Scope::Connect));
        assert_eq!(unmarked(&["*"]), None);
        assert_eq!(unmarked(&["account.updated"]), None);
        assert_eq!(Scope::parse("connect"), Some(Scope::Connect));
    }
}
