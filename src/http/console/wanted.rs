//! What Stripe wants from an account's holder, and why it holds one back, in words: its own names are paths into its
//! objects.

/// The words for a list of requirements: each once, in its order.
pub(super) fn in_words(fields: &[String]) -> String {
    let mut said: Vec<String> = Vec::new();
    for field in fields {
        let words = one(field);
        if !said.contains(&words) {
            said.push(words);
        }
    }
    said.join(", ")
}

/// A requirement by what stands in its path, and by the beginning whose it is.
fn one(field: &str) -> String {
    let parts: Vec<&str> = field.split('.').collect();
    let what = parts.iter().find_map(|part| known(part));
    // What we have no words for is left as Stripe says it, without its points.
    let Some(what) = what else { return field.replace(['.', '_'], " ") };
    match parts[..] {
        ["company", ..] => format!("{what} of the company"),
        ["representative", ..] => format!("{what} of the representative"),
        ["owners", ..] => format!("{what} of the owners"),
        ["directors", ..] => format!("{what} of the directors"),
        ["executives", ..] => format!("{what} of the executives"),
        [person, _, ..] if person.starts_with("person_") => format!("{what} of {person}"),
        _ => what.to_owned(),
    }
}

fn known(part: &str) -> Option<&'static str> {
    Some(match part {
        "external_account" => "bank account or card",
        "business_type" | "entity_type" => "kind of business",
        "url" => "website",
        "product_description" => "what is sold",
        "mcc" => "line of business",
        "tos_acceptance" | "terms_of_service" => "consent to Stripe's terms",
        "first_name" | "last_name" | "name" | "given_name" | "surname" => "name",
        "dob" | "date_of_birth" => "date of birth",
        "address" | "registered_address" => "address",
        "email" | "contact_email" => "e-mail address",
        "phone" => "telephone number",
        "id_number" | "ssn_last_4" | "id_numbers" => "identity number",
        "tax_id" => "tax number",
        "verification" | "documents" => "identity document",
        "relationship" => "role in the company",
        "owners_provided" => "whether all owners are named",
        "directors_provided" => "whether all directors are named",
        "executives_provided" => "whether all executives are named",
        _ => return None,
    })
}

/// Why Stripe holds an account back, with its own word for whoever asks Stripe.
pub(super) fn held_back(reason: &str) -> String {
    let words = match reason {
        "requirements.past_due" => "what it asked for is overdue",
        "requirements.pending_verification" => "it verifies what it was given",
        "under_review" => "it reviews the account",
        "platform_paused" => "the platform paused the account",
        "listed" => "the holder may be on a list of those who must not be paid",
        "rejected.fraud" => "it rejected the account for fraud",
        "rejected.terms_of_service" => "it rejected the account for a breach of its terms",
        rejected if rejected.starts_with("rejected.") => "it rejected the account",
        other => return other.to_owned(),
    };
    format!("{words} ({reason})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_told_in_words_each_once() {
        let fields = [
            "tos_acceptance.date",
            "tos_acceptance.ip",
            "external_account",
            "individual.dob.day",
            "individual.dob.month",
            "company.address.line1",
            "person_1.verification.document",
            "identity.individual.date_of_birth",
            "settings.card_payments.odd_new_thing",
        ]
        .map(str::to_owned);
        assert_eq!(
            in_words(&fields),
            "consent to Stripe's terms, bank account or card, date of birth, address of the company, \
             identity document of person_1, settings card payments odd new thing"
        );
        assert_eq!(in_words(&[]), "");
    }

    #[test]
    fn why_stripe_holds_back_keeps_stripes_own_word() {
        assert_eq!(
            held_back("requirements.past_due"),
            "what it asked for is overdue (requirements.past_due)"
        );
        assert_eq!(held_back("rejected.odd"), "it rejected the account (rejected.odd)");
        assert_eq!(held_back("odd"), "odd");
    }
}
