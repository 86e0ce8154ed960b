//! The page between a button and what it does: what will happen, why it is wanted, and the way back. With the script
//! the same form opens in a dialog.

use askama::Template;
use axum::response::Response;
use uuid::Uuid;

use super::frame::Frame;
use super::page;
use crate::http::error::Problem;

/// A form that confirms an order.
#[derive(Debug, Template)]
#[template(path = "console/confirm.html")]
pub(super) struct Confirm {
    /// What surrounds it.
    pub(super) frame: Frame,
    /// What will happen.
    pub(super) lines: Vec<String>,
    /// Where the form goes.
    pub(super) action: String,
    /// What the button says.
    pub(super) button: &'static str,
    /// It can't be undone.
    pub(super) grave: bool,
    /// Where one goes who thinks again.
    pub(super) back: String,
    /// It is asked why.
    pub(super) reason: bool,
    /// A field beside that.
    pub(super) amount: Option<AmountField>,
    /// Two clicks are one order.
    pub(super) once: Uuid,
}

/// A field for an amount.
#[derive(Debug)]
pub(super) struct AmountField {
    /// In which currency, in capitals.
    pub(super) currency: String,
    /// What is taken where it is left empty.
    pub(super) otherwise: String,
}

impl Confirm {
    /// A form that goes to `action`, and has no field but the reason.
    pub(super) fn of(frame: Frame, action: String, button: &'static str, back: String) -> Self {
        let (lines, once) = (Vec::new(), Uuid::new_v4());
        Self { frame, lines, action, button, grave: false, back, reason: true, amount: None, once }
    }

    /// The page.
    pub(super) fn answer(&self) -> Result<Response, Problem> {
        page(self)
    }
}
