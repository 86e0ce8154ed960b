//! What the stories need and do not tell.

pub mod browser;
pub mod document;
pub mod events;
pub mod postgres;
pub mod program;
pub mod prometheus;
pub mod reply;
pub mod world;
