//! What surrounds every page: where one is, who one is, and where one can go.

/// A place in the console's menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// The money, what waits, and the charts.
    Overview,
    /// Money on its way out.
    Transfers,
    /// Money on its way in.
    Topups,
    /// Who is paid.
    Accounts,
    /// What Stripe told.
    Events,
    /// Those that could not be applied.
    DeadLetters,
    /// Who did what.
    Audit,
    /// Who may call.
    Keys,
    /// How the service is.
    Health,
}

impl Section {
    /// The menu, in its order.
    pub(super) const ALL: &[Section] = &[
        Self::Overview,
        Self::Transfers,
        Self::Topups,
        Self::Accounts,
        Self::Events,
        Self::DeadLetters,
        Self::Audit,
        Self::Keys,
        Self::Health,
    ];

    /// Its name in the menu.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Transfers => "Transfers",
            Self::Topups => "Top-ups",
            Self::Accounts => "Accounts",
            Self::Events => "Events",
            Self::DeadLetters => "Dead letters",
            Self::Audit => "Audit log",
            Self::Keys => "Keys",
            Self::Health => "Health",
        }
    }

    /// Its page.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Transfers => "/console/transfers",
            Self::Topups => "/console/topups",
            Self::Accounts => "/console/accounts",
            Self::Events => "/console/events",
            Self::DeadLetters => "/console/dead-letters",
            Self::Audit => "/console/audit",
            Self::Keys => "/console/keys",
            Self::Health => "/console/health",
        }
    }

    /// Whether only keys of scope admin lead there.
    pub(super) fn for_admins(self) -> bool {
        match self {
            Self::Keys => true,
            Self::Overview
            | Self::Transfers
            | Self::Topups
            | Self::Accounts
            | Self::Events
            | Self::DeadLetters
            | Self::Audit
            | Self::Health => false,
        }
    }
}

/// What surrounds a page.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The page's title.
    pub(super) title: String,
    /// Where it belongs.
    pub(super) section: Section,
    /// The name of the key that somebody is signed in with.
    pub(super) who: String,
    /// How far it reaches.
    pub(super) scope: &'static str,
    /// It may move money.
    pub(super) operates: bool,
    /// It may hand out keys.
    pub(super) administers: bool,
    /// What each form carries.
    pub(super) mark: String,
    /// Real money.
    pub(super) livemode: bool,
    /// What was just done.
    pub(super) done: Option<&'static str>,
}

impl Frame {
    /// The menu, as far as it is for them.
    pub(super) fn menu(&self) -> impl Iterator<Item = &'static Section> {
        let administers = self.administers;
        Section::ALL.iter().filter(move |section| administers || !section.for_admins())
    }

    /// The same with what was just done, by its code in the address.
    pub(super) fn after(self, done: Option<&'static str>) -> Self {
        Self { done, ..self }
    }
}
