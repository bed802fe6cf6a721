//! The token that lets one node join.
//!
//! ```text
//! azj1_<fingerprint: 64 hex digits>_<secret: 64 hex digits>_<address>[,<address>]...
//! ```
//!
//! `fingerprint` is the SHA-256 of the authority's certificate, by which the new node knows the cluster; `secret` is what
//! the cluster knows the token by; the addresses are those of APIs, `host:port`.

use std::fmt;
use std::str::FromStr;

/// What every token to join begins with, so that leaked ones are found.
const PREFIX: &str = "azj1_";
/// Hexadecimal digits of 256 bits.
const DIGITS: usize = 64;
/// A token is tried at this many addresses at most.
const ADDRESSES_MAX: usize = 16;
/// Longest address: a name has at most 253 characters.
const ADDRESS_BYTES_MAX: usize = 260;

/// A token that lets one node join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the authority's certificate, in hexadecimal digits.
    pub fingerprint: String,
    /// What the cluster knows it by.
    pub secret: String,
    /// Where to ask.
    pub addresses: Vec<String>,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("JoinToken")
            .field("fingerprint", &self.fingerprint)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.join(",");
        write!(
            f,
            "{PREFIX}{}_{}_{addresses}",
            self.fingerprint, self.secret
        )
    }
}

fn is_digits(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == DIGITS && text.bytes().all(digit)
}

fn is_address(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'@' | b',' | b'"');
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    text.len() <= ADDRESS_BYTES_MAX && text.bytes().all(plain) && matches!(port, Some(Ok(1..)))
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let odd = |what: &str| format!("this is no token to join ({what}): copy it as a whole");
        let rest = text.trim().strip_prefix(PREFIX);
        let rest = rest.ok_or_else(|| odd("it does not begin with azj1_"))?;
        let mut parts = rest.splitn(3, '_');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (fingerprint, secret, addresses) = (next(), next(), next());
        if !is_digits(&fingerprint) || !is_digits(&secret) {
            return Err(odd("its fingerprint and secret have 64 hexadecimal digits"));
        }
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if addresses.len() > ADDRESSES_MAX || !addresses.iter().all(|one| is_address(one)) {
            return Err(odd("it ends with addresses such as 10.0.0.1:7400"));
        }
        Ok(Self {
            fingerprint,
            secret,
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            fingerprint: "0a".repeat(32),
            secret: "f1".repeat(32),
            addresses: vec!["10.0.0.1:7400".to_owned(), "[fd00::1]:7400".to_owned()],
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was_and_its_secret_stays_out_of_logs() {
        let text = token().to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("f1f1"));
        let named = text.replace("10.0.0.1", "node_1.example");
        assert_eq!(
            named
                .parse::<JoinToken>()
                .map(|token| token.addresses.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_token_that_is_cut_or_changed_is_refused() {
        let text = token().to_string();
        for cut in 0..text.len() - "0,[fd00::1]:7400".len() - 3 {
            assert!(
                text[..cut].parse::<JoinToken>().is_err(),
                "{}",
                &text[..cut]
            );
        }
        for (from, to) in [
            ("azj1", "azj2"),
            ("0a0a", "0A0a"),
            (":7400", ":0"),
            ("10.", "1/."),
        ] {
            assert!(
                text.replacen(from, to, 1).parse::<JoinToken>().is_err(),
                "{to}"
            );
        }
    }

    #[test]
    fn fuzz_corpus_of_tokens() {
        let target = fuzz::target!("token");
        let parse = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse::<JoinToken>();
        let committed = target.sample("two", token().to_string().as_bytes());
        assert_eq!(parse(&committed), Ok(token()));
        let cut = target.sample("cut", &token().to_string().as_bytes()[..100]);
        assert!(parse(&cut).is_err());
        target.play(|bytes| {
            if let Ok(token) = parse(bytes) {
                assert!(token.addresses.len() <= ADDRESSES_MAX);
                assert_eq!(token.to_string().parse(), Ok(token));
            }
        });
    }

    proptest! {
        #[test]
        fn fuzz_token(text in "(azj1_)?[0-9a-f_]{0,200}[ -~]{0,40}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.to_string().parse(), Ok(token));
            }
        }
    }
}
