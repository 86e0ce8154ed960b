//! A stand-in for Stripe over real HTTP, for the demo and the tests.
