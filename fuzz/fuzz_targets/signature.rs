//! The signature header against a second, slower reading of what Stripe documents.
//!
//! A fuzzer guesses no MAC. It is given the true one: wherever `SIGNATURE` stands in the header, the signature of the
//! body at `NOW` is put. What then must hold is decided from the header's text alone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::stripe::signature::{SigningSecret, sign, verify};

const NOW: i64 = 1_790_000_000;
const PLACE: &str = "SIGNATURE";

fuzz_target!(|data: &[u8]| {
    let (header, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b""[..]),
    };
    let Ok(header) = std::str::from_utf8(header) else { return };
    let secret = SigningSecret::parse("platform=whsec_fuzz").expect("a well formed secret");
    let true_header = sign(body, &secret, NOW);
    let (_, true_mac) = true_header.split_once(",v1=").expect("what sign writes");
    let header = header.replace(PLACE, true_mac);
    let secrets = [SigningSecret::parse("other=whsec_other").expect("a well formed secret"), secret];
    let outcome = verify(body, &header, &secrets, NOW, 300);

    let elements: Vec<(&str, &str)> = header
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
        .map(|element| element.split_once('=').unwrap_or((element, "")))
        .collect();
    let times: Vec<&str> = elements.iter().filter(|(key, _)| *key == "t").map(|(_, value)| *value).collect();
    let told = times == [NOW.to_string()];
    let signed = |same: fn(&str, &str) -> bool| {
        elements.iter().any(|(key, value)| *key == "v1" && same(value, true_mac))
    };
    match outcome {
        Ok(secret) => {
            assert!(told, "taken with the times {times:?}");
            assert!(
                signed(|given, expected| given.eq_ignore_ascii_case(expected)),
                "taken without the signature"
            );
            assert_eq!(secret.label.as_deref(), Some("platform"));
        }
        Err(error) => assert!(!(told && signed(|given, expected| given == expected)), "refused: {error}"),
    }
    // The same header never holds for another body.
    let mut other = body.to_vec();
    other.push(b' ');
    assert!(verify(&other, &header, &secrets, NOW, 300).is_err(), "taken for another body");
});
