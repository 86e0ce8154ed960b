//! What a caller may prefill of an account, checked as Stripe checks it, and laid over the account.

use serde_json::{Map, Value, json};

use super::accounts::merge;
use super::errors::Refusal;
use super::forms::{Params, merge_metadata};

/// Parameters of an account that callers may send. `type` and `country` only when creating it.
pub(super) const PREFILL: [&str; 15] = [
    "account_token",
    "business_profile",
    "business_type",
    "capabilities",
    "company",
    "controller",
    "default_currency",
    "documents",
    "email",
    "external_account",
    "groups",
    "individual",
    "metadata",
    "settings",
    "tos_acceptance",
];

/// What may stand within a parameter.
const WITHIN: [(&str, &str); 6] = [
    (
        "business_profile",
        "annual_revenue estimated_worker_count mcc minority_owned_business_designation monthly_estimated_revenue name \
         product_description support_address support_email support_phone support_url url",
    ),
    (
        "company",
        "address address_kana address_kanji directors_provided executives_provided export_license_id name name_kana \
         name_kanji owners_provided phone registration_number structure tax_id tax_id_registrar vat_id verification",
    ),
    ("controller", "fees losses requirement_collection stripe_dashboard"),
    (
        "individual",
        "address address_kana address_kanji dob email first_name first_name_kana first_name_kanji full_name_aliases \
         gender id_number id_number_secondary last_name last_name_kana last_name_kanji maiden_name metadata phone \
         political_exposure registered_address relationship ssn_last_4 verification",
    ),
    ("settings", "branding card_issuing card_payments dashboard invoices payments payouts treasury"),
    ("tos_acceptance", "date ip service_agreement user_agent"),
];

const CAPABILITIES: &str = "bank_transfer_payments card_issuing card_payments cartes_bancaires_payments \
    legacy_payments link_payments sepa_debit_payments tax_reporting_us_1099_k tax_reporting_us_1099_misc transfers \
    treasury us_bank_account_ach_payments";

/// Countries with Stripe accounts; a few more have them by cross-border payouts only.
const COUNTRIES: &str = "AE AT AU BE BG BR CA CH CI CR CY CZ DE DK DO EE ES FI FR GB GH GI GR GT HK HR HU ID IE IN IT \
    JP KE LI LT LU LV MT MX MY NG NL NO NZ PE PH PL PT RO SE SG SI SK SN TH TT TZ US UY UZ VN ZA";

/// Checks what was sent before anything is made.
pub(super) fn check(params: &Params) -> Result<(), Refusal> {
    params.metadata()?;
    for (name, known) in WITHIN {
        let within = params.get(name).and_then(Value::as_object);
        known_within(name, within, known)?;
    }
    let capabilities = match params.get("capabilities") {
        None => None,
        Some(Value::Object(capabilities)) => Some(capabilities),
        Some(_) => return Err(Refusal::invalid("capabilities", None, "Invalid object")),
    };
    known_within("capabilities", capabilities, CAPABILITIES)?;
    if let Some(email) = params.text("email")?
        && !is_email(&email)
    {
        let message = format!("Invalid email address: {email}");
        return Err(Refusal::invalid("email", Some("email_invalid"), message));
    }
    if let Some(country) = params.text("country")?
        && !COUNTRIES.split_ascii_whitespace().any(|known| known == country)
    {
        let message = format!(
            "Country '{country}' is unknown. Try using a 2-character alphanumeric country code instead, such as 'US', \
             'EG', or 'GB'."
        );
        return Err(Refusal::invalid("country", None, message));
    }
    if let Some(kind) = params.text("business_type")?
        && !["company", "government_entity", "individual", "non_profit"].contains(&kind.as_str())
    {
        return Err(Refusal::invalid("business_type", None, format!("Invalid business_type: {kind}")));
    }
    Ok(())
}

fn known_within(name: &str, within: Option<&Map<String, Value>>, known: &str) -> Result<(), Refusal> {
    let unknown = |key: &&String| !known.split_ascii_whitespace().any(|known| known == key.as_str());
    match within.into_iter().flat_map(Map::keys).find(unknown) {
        None => Ok(()),
        Some(key) => {
            let param = format!("{name}[{key}]");
            let message = format!("Received unknown parameter: {param}");
            Err(Refusal::invalid(&param, Some("parameter_unknown"), message))
        }
    }
}

fn is_email(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '@');
    text.split_once('@').is_some_and(|(name, host)| plain(name) && plain(host) && host.contains('.'))
}

/// What Stripe shows of a prefilled person until the first link is made.
pub(super) fn person(params: &Map<String, Value>) -> Map<String, Value> {
    let about = |name: &&str| ["company", "individual"].contains(name);
    let pairs = params.iter().filter(|(name, _)| about(&name.as_str()));
    pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Lays what the caller sent over the account. What is about the person is kept apart.
pub(super) fn prefill(account: &mut Value, params: &Map<String, Value>) {
    for (name, value) in params {
        match name.as_str() {
            "capabilities" => request_capabilities(account, value),
            "metadata" => {
                if let (Some(old), Some(new)) = (account["metadata"].as_object_mut(), value.as_object()) {
                    merge_metadata(old, new.clone());
                }
            }
            "business_profile" | "settings" | "controller" | "tos_acceptance" => {
                merge(&mut account[name.as_str()], value);
            }
            "email" | "business_type" | "default_currency" => {
                account[name.as_str()] = if value.as_str() == Some("") { Value::Null } else { value.clone() };
            }
            _ => {}
        }
    }
}

fn request_capabilities(account: &mut Value, asked: &Value) {
    for (name, ask) in asked.as_object().into_iter().flatten() {
        let slot = &mut account["capabilities"][name.as_str()];
        match ask["requested"].as_str() {
            Some("true") if slot.is_null() => *slot = json!("inactive"),
            Some("false") if !slot.is_null() => *slot = json!("inactive"),
            _ => {}
        }
    }
    if let Some(capabilities) = account["capabilities"].as_object_mut() {
        capabilities.retain(|_, status| !status.is_null());
    }
}
