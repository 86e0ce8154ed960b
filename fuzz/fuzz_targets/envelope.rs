//! The event envelope beside a plain reading of the same JSON: what one takes from it, the other finds there too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sluicegate_fuzz::stripe::wire::{Envelope, Kind};

fuzz_target!(|body: &[u8]| {
    let Ok(envelope) = Envelope::parse(body) else { return };
    let whole: Value = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        // Numbers too large for a float stay unread in the envelope, and so does nesting beyond the reader's depth.
        Err(_) => return,
    };
    let text = |name: &str| whole[name].as_str();
    assert_eq!(Some(envelope.id.as_str()), text("id"));
    assert_eq!(Some(envelope.event_type.as_ref()), text("type"));
    match envelope.kind {
        Kind::Snapshot => {
            let account = text("account").or(text("stripe_user_id"));
            assert_eq!(envelope.account.as_ref().map(|account| account.as_str()), account);
        }
        Kind::Thin => {
            assert_eq!(text("object"), Some("v2.core.event"));
            assert!(envelope.data_object.is_none());
            // A context names an account, or an organisation, which is none of ours.
            let last = text("context").map(|path| path.rsplit('/').next().unwrap_or_default());
            let last = last.filter(|last| last.starts_with("acct_"));
            assert_eq!(envelope.account.as_ref().map(|account| account.as_str()), last);
        }
    }
    if let Some(livemode) = envelope.livemode {
        assert_eq!(whole["livemode"], livemode);
    }
    // Whatever was taken can be used without a panic.
    let _ = envelope.object_id();
    if let Some(object) = envelope.data_object {
        assert!(object.get().starts_with('{'));
    }
});
