//! The worker: claims what is due, hands it to its flow, and finishes, fails or buries it. Knows no Stripe.

pub mod dispatch;
pub mod driver;
pub mod fresh;
pub mod upkeep;
pub mod wake;
