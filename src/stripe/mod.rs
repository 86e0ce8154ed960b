//! Stripe's wire: signatures, objects, and calls. Knows nothing about Sluicegate's tables or decisions.
