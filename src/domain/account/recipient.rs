//! What v2 of Stripe's API says of an account, made one with what v1 says of it.
//!
//! v1's view decides where it has a say. A refusal for good is v2's alone to tell: v1 knows no word for it.

use super::{Flags, Requirements};

/// An account as its recipient configuration shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The capability `stripe_balance.stripe_transfers`: `active`, `pending`, `restricted`, `unsupported`, `rejected`;
    /// open for more. `None` where it was never requested.
    pub transfers: Option<String>,
    /// What is due, past due, pending.
    pub requirements: Requirements,
    /// It was closed.
    pub closed: bool,
}

impl Recipient {
    /// The flags of both views as one.
    pub fn complete(&self, v1: Flags) -> Flags {
        let transfers = match (v1.transfers_capability, &self.transfers) {
            (_, Some(status)) if is_final(Some(status)) => Some(status.clone()),
            (None, status) => status.clone(),
            (status, _) => status,
        };
        // A view that names nothing due may be one that does not say.
        let silent = v1.requirements == Requirements::default();
        let requirements = if silent { self.requirements.clone() } else { v1.requirements };
        Flags { transfers_capability: transfers, requirements, ..v1 }
    }
}

/// Whether a transfers capability is one that Stripe will not give.
pub fn is_final(status: Option<&str>) -> bool {
    matches!(status, Some("rejected" | "unsupported"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::{Known, Policy};
    use crate::domain::reason::Reason::{
        self, AccountBlocked, ChargesDisabled, DetailsNotSubmitted, TransfersInactive,
    };

    fn v1(flag: Option<bool>, transfers: Option<&str>) -> Flags {
        Flags {
            details_submitted: flag,
            charges_enabled: flag,
            payouts_enabled: flag,
            transfers_capability: transfers.map(str::to_owned),
            ..Flags::default()
        }
    }

    /// What v1 says of the flags and of the capability, what v2 says of it; the one capability and the reasons.
    type Row<'a> = (Option<bool>, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a [Reason]);

    #[test]
    fn the_two_views_of_an_account_give_one_readiness() {
        let nothing: [Reason; 3] = [DetailsNotSubmitted, ChargesDisabled, TransfersInactive];
        let blocked = [AccountBlocked, DetailsNotSubmitted, ChargesDisabled, TransfersInactive];
        let rows: [Row<'_>; 14] = [
            (None, None, Some("active"), Some("active"), &[]),
            (None, None, Some("pending"), Some("pending"), &nothing),
            (None, None, Some("restricted"), Some("restricted"), &nothing),
            (None, None, Some("unsupported"), Some("unsupported"), &blocked),
            (None, None, Some("rejected"), Some("rejected"), &blocked),
            (None, None, Some("a_word_of_tomorrow"), Some("a_word_of_tomorrow"), &nothing),
            (None, None, None, None, &nothing),
            (Some(true), None, Some("active"), Some("active"), &[]),
            (Some(true), None, Some("pending"), Some("pending"), &[TransfersInactive]),
            (Some(true), Some("active"), Some("restricted"), Some("active"), &[]),
            (Some(true), Some("inactive"), Some("active"), Some("inactive"), &[TransfersInactive]),
            (
                Some(true),
                Some("active"),
                Some("rejected"),
                Some("rejected"),
                &[AccountBlocked, TransfersInactive],
            ),
            (
                Some(true),
                Some("inactive"),
                Some("unsupported"),
                Some("unsupported"),
                &[AccountBlocked, TransfersInactive],
            ),
            (Some(false), Some("active"), Some("active"), Some("active"), &nothing[..2]),
        ];
        for (flag, of_v1, of_v2, one, reasons) in rows {
            let recipient = Recipient { transfers: of_v2.map(str::to_owned), ..Recipient::default() };
            let flags = recipient.complete(v1(flag, of_v1));
            assert_eq!(flags.transfers_capability.as_deref(), one, "{flag:?} {of_v1:?} {of_v2:?}");
            let known = Known { flags: Some(flags), ..Known::default() };
            assert_eq!(known.reasons(&Policy::default()), reasons, "{flag:?} {of_v1:?} {of_v2:?}");
        }
    }

    #[test]
    fn what_is_due_is_told_by_v1_where_it_says_so() {
        let due = |name: &str| Requirements { past_due: vec![name.to_owned()], ..Requirements::default() };
        let recipient = Recipient { requirements: due("of_v2"), ..Recipient::default() };
        assert_eq!(recipient.complete(Flags::default()).requirements, due("of_v2"));
        let said = Flags { requirements: due("of_v1"), ..Flags::default() };
        assert_eq!(recipient.complete(said).requirements, due("of_v1"));
    }

    #[test]
    fn what_was_closed_is_blocked_whatever_its_flags_say() {
        let closed_at = Some(time::OffsetDateTime::UNIX_EPOCH);
        let flags = Some(v1(Some(true), Some("active")));
        for known in [Known { flags, closed_at, ..Known::default() }, Known { closed_at, ..Known::default() }]
        {
            assert_eq!(known.reasons(&Policy::default()), [AccountBlocked]);
        }
    }
}
