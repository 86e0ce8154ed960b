//! What the stories need and do not tell.

pub mod postgres;
