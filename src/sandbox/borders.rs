//! Where a platform's transfers may go, as Stripe decides it: within a region, or among a few.

/// Countries whose platforms and accounts pay each other, as Stripe documents it.
const AMONG: [&str; 34] = [
    "AT", "BE", "BG", "CA", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU",
    "IE", "IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "US",
];

/// Whether a platform of one country may send money to an account of another.
pub(super) fn may_send(from: &str, to: &str) -> bool {
    from == to || (AMONG.contains(&from) && AMONG.contains(&to))
}
