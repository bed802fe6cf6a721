//! Takes secrets out of text: tokens of the API and to join, cookies of sessions, passwords, private keys, users in URLs.
//!
//! It takes out too much rather than too little: whatever follows the word in a line counts as the secret.

/// What stands where something was.
const REMOVED: &str = "<removed>";
/// What a token begins with: of the API, to join.
const TOKENS: [&str; 2] = [api::token::TOKEN_PREFIX, "azj1_"];
/// After these words the rest of a line is a secret. Compared in lower case.
const WORDS: [&str; 5] = [
    "password",
    "passphrase",
    "secret",
    "authorization",
    "azekura-session",
];
/// Names that end like this hold the name of a file, which is none.
const FILE: &str = "_file";

/// The text without what must stay secret.
pub fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_key = true;
            out.push_str(REMOVED);
            out.push('\n');
        }
        if !in_key {
            out.push_str(&scrub_line(line));
        }
        if line.contains("-----END") {
            in_key = false;
        }
    }
    out
}

fn scrub_line(line: &str) -> String {
    let (body, end) = match line.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (line, ""),
    };
    let mut out = without_users(&without_tokens(body));
    let lower = out.to_ascii_lowercase();
    let cut = WORDS.iter().filter_map(|word| {
        let mut places = lower.match_indices(word).map(|(at, _)| at + word.len());
        places.find(|&at| !lower[at..].starts_with(FILE))
    });
    if let Some(at) = cut.min() {
        out.truncate(at);
        out.push(' ');
        out.push_str(REMOVED);
    }
    out + end
}

fn is_of_a_token(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-')
}

fn without_tokens(line: &str) -> String {
    let mut out = line.to_owned();
    for prefix in TOKENS {
        let mut from = 0;
        while let Some(at) = out[from..].find(prefix).map(|at| from + at) {
            let begin = at + prefix.len();
            let length = out[begin..]
                .find(|sign: char| !is_of_a_token(sign))
                .unwrap_or(out.len() - begin);
            out.replace_range(begin..begin + length, REMOVED);
            from = begin + REMOVED.len();
        }
    }
    out
}

/// `http://user:word@host` without `user:word`.
fn without_users(line: &str) -> String {
    let mut out = line.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find("://").map(|at| from + at + 3) {
        let host = out[at..]
            .find(|sign: char| sign.is_whitespace() || matches!(sign, '/' | '"' | '\'' | ','))
            .map_or(out.len(), |length| at + length);
        if let Some(user) = out[at..host].rfind('@') {
            out.replace_range(at..at + user, REMOVED);
            from = at + REMOVED.len();
        } else {
            from = at;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let text = "token azk_0123abcd-ef is \"azj1_aa_bb_10.0.0.1:7400,x:1\" done\n\
                    azekura: the user admin was made, with the password correct horse\n\
                    admin_password_file = \"/etc/azekura/first\"\n\
                    etcd = [\"http://root:pw@10.0.0.1:2379\", \"http://10.0.0.2:2379\"]\n\
                    -----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\nlast";
        let scrubbed = scrub(text);
        for secret in ["0123abcd", "aa_bb", "horse", "root", "MIGH"] {
            assert!(!scrubbed.contains(secret), "{secret} in {scrubbed}");
        }
        for kept in [
            "azk_<removed> is",
            "/etc/azekura/first",
            "http://10.0.0.2:2379",
            "http://<removed>@10.0.0.1:2379",
            "last",
        ] {
            assert!(scrubbed.contains(kept), "{kept} not in {scrubbed}");
        }
    }

    proptest! {
        #[test]
        fn fuzz_scrub_any_text(before in ".*", secret in "[a-z0-9]{24,60}", after in ".*") {
            let text = format!("{before} azk_{secret} {after}\nthe password {secret}\n");
            prop_assert!(!scrub(&text).contains(&secret) || before.contains(&secret) || after.contains(&secret));
        }
    }
}
