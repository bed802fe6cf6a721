//! A webhook: one `POST` for each change, signed where a key is given.

use super::message::{as_json, delivery_id, event};
use super::post;
use ::node::Parcel;
use ring::hmac;

/// HMAC-SHA256 of the body, in hexadecimal digits (RFC 2104).
fn signature(key: &[u8], body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let tag = hmac::sign(&key, body.as_bytes());
    let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256={}", digits.collect::<String>())
}

/// Delivers a parcel.
pub fn deliver(
    url: &str,
    ca: Option<&str>,
    key: Option<&[u8]>,
    parcel: &Parcel,
) -> Result<(), String> {
    let body = as_json(parcel).to_string();
    let mut headers = vec![
        ("x-azekura-event", event(parcel).to_owned()),
        ("x-azekura-delivery", delivery_id(parcel)),
    ];
    if let Some(key) = key {
        headers.push(("x-azekura-signature", signature(key, &body)));
    }
    post(url, ca, &headers, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_standard() {
        // RFC 4231, test case 2.
        let text = signature(b"Jefe", "what do ya want for nothing?");
        assert_eq!(
            text,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
