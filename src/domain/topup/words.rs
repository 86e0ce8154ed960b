//! A top-up in words that somebody in finance understands: where its money is, and why the bank refused.

use time::OffsetDateTime;

use super::Status;

/// Why a bank refused, by Stripe's code: what it means, and what to do.
const REFUSALS: [(&str, &str); 16] = [
    (
        "account_closed",
        "The bank account is closed. Add another bank account in Stripe's Dashboard and top up from it.",
    ),
    (
        "account_frozen",
        "The bank has frozen the account. Ask the bank; until then top up from another account.",
    ),
    (
        "bank_account_restricted",
        "The bank restricts what may be taken from the account. Ask the bank to allow debits by Stripe.",
    ),
    (
        "bank_account_unusable",
        "The bank account can't be debited. Check it in Stripe's Dashboard or use another one.",
    ),
    (
        "bank_account_unverified",
        "The bank account is not verified. Confirm the two microdeposits (ACCTVERIFY, 1 to 2 business days) in Stripe's \
         Dashboard, then top up again.",
    ),
    (
        "bank_ownership_changed",
        "The account has another owner at the bank than before. Add it anew in Stripe's Dashboard.",
    ),
    (
        "could_not_process",
        "The bank could not process the debit. Top up again; if it fails again, ask the bank.",
    ),
    (
        "debit_not_authorized",
        "The bank does not allow Stripe to debit the account. Ask the bank to authorize debits by Stripe (many business \
         accounts have a debit block), then top up again.",
    ),
    ("declined", "The bank declined the debit. Ask the bank why before topping up again."),
    (
        "incorrect_account_holder_name",
        "The account holder's name is not the one the bank has. Correct it in Stripe's Dashboard.",
    ),
    (
        "insufficient_funds",
        "There was not enough money in the bank account when the debit arrived. Put money there and top up again.",
    ),
    (
        "invalid_account_number",
        "The account number is not one of the bank's. Correct the bank account in Stripe's Dashboard.",
    ),
    (
        "invalid_currency",
        "The bank account can't be debited in this currency. Top up in the account's own currency, or from another \
         account.",
    ),
    (
        "no_account",
        "The bank knows no such account. Check account and routing number in Stripe's Dashboard, or add another bank \
         account.",
    ),
    ("refer_to_customer", "The bank returned the debit and asks you to get in touch with it."),
    ("unsupported_card", "The card can't be used for top-ups. Top up from a bank account."),
];

/// What a failure means; `None` for a code that this version does not know: then Stripe's own text must do.
pub fn failure(code: &str) -> Option<&'static str> {
    REFUSALS.iter().find(|(known, _)| *known == code).map(|(_, words)| *words)
}

/// What tells where the money of a top-up is.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// Its status.
    pub status: Status,
    /// Its balance transaction is available.
    pub available: bool,
    /// The settlement rule holds.
    pub settled: bool,
    /// It holds, and the money does not count.
    pub excluded: bool,
    /// When its money should be there.
    pub expected_at: Option<OffsetDateTime>,
}

/// Where the money of a top-up is, and what to expect.
pub fn explanation(of: &Whereabouts) -> String {
    let when = of.expected_at.map(|at| format!(" on {}", day(at)));
    match of.status {
        Status::Pending => match when {
            Some(when) => format!("The bank has been asked; Stripe expects the money to be available{when}."),
            None => {
                "The bank has been asked; Stripe gives no date yet. A bank debit takes up to 6 business days."
                    .to_owned()
            }
        },
        Status::Succeeded if of.settled && of.excluded => {
            "The money had arrived before Sluicegate was to count it, and is not released.".to_owned()
        }
        Status::Succeeded if of.settled => "The money is there and may be released.".to_owned(),
        Status::Succeeded if of.available => {
            "The money is in Stripe's balance, but not in the part that transfers draw on.".to_owned()
        }
        Status::Succeeded => match when {
            Some(when) => format!("The bank has paid; Stripe makes the money available{when}."),
            None => "The bank has paid; Stripe has not made the money available yet.".to_owned(),
        },
        Status::Failed => "The bank did not pay: no money came in.".to_owned(),
        Status::Canceled => "It was called off before the bank paid: no money came in.".to_owned(),
        Status::Reversed => "The bank took the money back after it had paid.".to_owned(),
        Status::Unknown => "Stripe shows a status that this version does not know.".to_owned(),
    }
}

fn day(at: OffsetDateTime) -> String {
    format!("{} {} {}", at.day(), at.month(), at.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_of_the_test_banks_has_its_words_and_a_new_one_has_none() {
        for code in
            ["no_account", "account_closed", "insufficient_funds", "debit_not_authorized", "invalid_currency"]
        {
            assert!(failure(code).is_some_and(|words| words.ends_with('.')), "{code}");
        }
        assert_eq!(failure("of_tomorrow"), None);
        assert!(REFUSALS.is_sorted_by_key(|(code, _)| *code), "so that no code stands twice unseen");
    }

    #[test]
    fn each_state_is_told_with_its_date() {
        let soon = time::macros::datetime!(2026-11-28 0:00 UTC);
        let of = |status| Whereabouts {
            status,
            available: false,
            settled: false,
            excluded: false,
            expected_at: Some(soon),
        };
        let paid = of(Status::Succeeded);
        let rows = [
            (
                of(Status::Pending),
                "The bank has been asked; Stripe expects the money to be available on 28 November 2026.",
            ),
            (Whereabouts { expected_at: None, ..of(Status::Pending) }, "no date yet"),
            (paid.clone(), "Stripe makes the money available on 28 November 2026."),
            (Whereabouts { expected_at: None, ..paid.clone() }, "not made the money available yet"),
            (Whereabouts { available: true, settled: true, ..paid.clone() }, "may be released"),
            (Whereabouts { available: true, settled: true, excluded: true, ..paid.clone() }, "not released"),
            (Whereabouts { available: true, ..paid }, "not in the part"),
            (of(Status::Failed), "did not pay"),
            (of(Status::Canceled), "called off"),
            (of(Status::Reversed), "took the money back"),
            (of(Status::Unknown), "does not know"),
        ];
        for (of, part) in rows {
            assert!(explanation(&of).contains(part), "{of:?}: {}", explanation(&of));
        }
    }
}
