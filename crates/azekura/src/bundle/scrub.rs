//! Takes secrets out of text and of answers: tokens of the API and to join, cookies of sessions, passwords, private keys, users and
//! queries in URLs.
//!
//! It takes out too much rather than too little: whatever follows the word in a line counts as the secret, or a name like one and its
//! sign (`token = `, `"cookie":`), and so does every text in a field that is named like one. A word in a name (`vault-secrets`) is none.

use serde_json::Value;

/// What stands where something was.
const REMOVED: &str = "<removed>";
/// The border above a key or a certificate.
const BEGIN: &str = "-----BEGIN";
/// Lines of the longest private key, of 16,384 bits, and some.
const KEY_LINES_MAX: usize = 256;
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
/// Names of fields with one of these in them, or that are one of the second, hold secrets. Compared in lower case, without `-` and `_`.
const FIELDS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "authorization",
    "cookie",
    "credential",
    "privatekey",
    "apikey",
];
const WHOLE_FIELDS: [&str; 5] = ["token", "hash", "key", "psk", "pin"];
/// Names that end like this hold the name of a file, which is none.
const FILE: &str = "_file";

/// The text without what must stay secret.
pub fn scrub(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let Some(key) = key_at(&lines[at..]) else {
            out.push_str(&scrub_line(line));
            at += 1;
            continue;
        };
        // Files that were joined without a line's end have the end of one part and the beginning of the next in one line.
        if let Some(begin) = line.rfind(BEGIN) {
            out.push_str(&scrub_line(&line[..begin]));
        }
        out.push_str(REMOVED);
        out.push('\n');
        at += key;
    }
    out
}

/// How many lines from here on are of a private key, where one begins here. Whatever is between its two borders is of it. Of one that has
/// no end, or whose beginning was cut off, the lines that can be.
fn key_at(lines: &[&str]) -> Option<usize> {
    let line = lines.first()?;
    let ends = |line: &&str| line.contains("-----END");
    let near = &lines[..lines.len().min(KEY_LINES_MAX)];
    let Some(begin) = { line.rfind(BEGIN) }.filter(|&at| line[at..].contains("PRIVATE KEY")) else {
        let of_key = near.iter().take_while(|line| is_of_a_key(line)).count();
        let end = near.get(of_key)?;
        return (ends(end) && end.contains("PRIVATE KEY")).then_some(of_key + 1);
    };
    if line[begin..].contains("-----END") {
        return Some(1);
    }
    let rest = near.get(1..)?;
    let whole = rest.iter().position(ends).map(|end| end + 1);
    Some(1 + whole.unwrap_or_else(|| rest.iter().take_while(|line| is_of_a_key(line)).count()))
}

/// Whether a line may be inside of a private key, or of what stands above one that is encrypted.
fn is_of_a_key(line: &str) -> bool {
    let line = line.trim();
    let digit = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '/' | '=');
    let about = ["Proc-Type:", "DEK-Info:"];
    line.chars().all(digit) || about.iter().any(|about| line.starts_with(about))
}

/// Takes out of an answer what must stay secret: whatever is in a field that is named like a secret, and what [`scrub`] finds.
pub fn scrub_answer(answer: &mut Value) {
    match answer {
        Value::String(text) => *text = scrub(text),
        Value::Array(items) => items.iter_mut().for_each(scrub_answer),
        Value::Object(fields) => {
            // Also as `{"name": "password", "value": "..."}`.
            let named = |name: &str| fields.get(name).and_then(Value::as_str);
            let named = ["name", "key", "field"].into_iter().filter_map(named);
            let holds = fields.contains_key("value") && named.into_iter().any(is_secret);
            for (name, value) in fields {
                match (is_secret(name) && !is_name(name)) || (holds && name == "value") {
                    true => remove(value),
                    false => scrub_answer(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `key` beside a `value` names it.
fn is_name(name: &str) -> bool {
    name == "key"
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let plain = lower.replace(['-', '_'], "");
    let part = FIELDS.iter().any(|secret| plain.contains(secret));
    let end = WHOLE_FIELDS.iter().any(|secret| plain.ends_with(secret));
    (part || end) && !lower.replace('-', "_").ends_with(FILE)
}

/// Every text, whatever it is in. Numbers and switches say nothing.
fn remove(value: &mut Value) {
    match value {
        Value::String(text) => REMOVED.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(remove),
        Value::Object(fields) => fields.values_mut().for_each(remove),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn scrub_line(line: &str) -> String {
    let (body, end) = match line.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (line, ""),
    };
    let mut out = without_queries(&without_users(&without_tokens(body)));
    let lower = out.to_ascii_lowercase();
    let words = WORDS.iter().filter_map(|word| after_word(&lower, word));
    let cut = words.chain(after_field(&lower)).min();
    // A word alone, such as the name of a field, tells nothing.
    if let Some(at) = cut.filter(|&at| !out[at..].trim().is_empty()) {
        out.truncate(at);
        out.push(' ');
        out.push_str(REMOVED);
    }
    out + end
}

/// Behind the word, where it is one of its own.
fn after_word(line: &str, word: &str) -> Option<usize> {
    let mut places = line.match_indices(word);
    let alone = |&(at, word): &(usize, &str)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_of_a_token) && !after.starts_with(is_of_a_token)
    };
    places.find(alone).map(|(at, word)| at + word.len())
}

/// Behind the sign of the first field that is named like a secret: `name = `, `name: `, `"name": `.
fn after_field(line: &str) -> Option<usize> {
    let mut signs = line.match_indices(['=', ':']);
    let names_one = |&(at, _): &(usize, &str)| {
        let before = line[..at].trim_end_matches([' ', '"', '\'']);
        let begin = before.rfind(|sign: char| !is_of_a_token(sign) && sign != '.');
        let name = begin.map_or(before, |begin| {
            before[begin..].trim_start_matches(|sign: char| !is_of_a_token(sign))
        });
        !name.is_empty() && is_secret(name)
    };
    signs.find(names_one).map(|(at, sign)| at + sign.len())
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

/// `http://host/path?query` without `query`.
fn without_queries(line: &str) -> String {
    let mut parts = line.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        let ends = |sign: char| sign.is_whitespace() || matches!(sign, '"' | '\'');
        let end = rest.find(ends).unwrap_or(rest.len());
        out.push_str("://");
        match rest[..end].find('?') {
            Some(at) => {
                out.push_str(&rest[..=at]);
                out.push_str(REMOVED);
                out.push_str(&rest[end..]);
            }
            None => out.push_str(rest),
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

    #[test]
    fn keys_in_joined_files_go_and_lines_that_speak_of_keys_stay() {
        let joined = "MIIC\n-----END CERTIFICATE----------BEGIN PRIVATE KEY-----\nMIGHhush\n-----END PRIVATE KEY-----\nafter";
        let scrubbed = scrub(joined);
        assert!(
            !scrubbed.contains("hush") && scrubbed.ends_with("after"),
            "{scrubbed}"
        );
        let spoken =
            "it has no -----BEGIN PRIVATE KEY----- line\n12:00 the next line, of a log\nand more";
        assert!(
            scrub(spoken).ends_with("12:00 the next line, of a log\nand more"),
            "{}",
            scrub(spoken)
        );
        let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nhush\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(scrub(encrypted), "<removed>\n");
        let odd = "-----BEGIN PRIVATE KEY-----\nhush-4711 odd\n-----END PRIVATE KEY-----\nafter";
        assert_eq!(scrub(odd), "<removed>\nafter");
        let beginning_lost = "of a log\nMIGHhush\nAbc=\n-----END PRIVATE KEY-----\nafter";
        assert_eq!(scrub(beginning_lost), "of a log\n<removed>\nafter");
        let end_lost = "log\n-----BEGIN PRIVATE KEY-----\nMIGHhush\nAbc=\nit went on";
        assert_eq!(scrub(end_lost), "log\n<removed>\nit went on");
    }

    #[test]
    fn fields_in_text_are_judged_by_their_names_and_words_in_names_stay() {
        for line in [
            "token = \"hush\"",
            "  tls.key: LS0hush",
            "{\"at\":1,\"cookie\":\"hush\"}",
            "export DB_PASSWD=hush",
            "INFO asked credential=hush",
            "secret hush",
            "Authorization: Bearer hush",
        ] {
            assert!(!scrub(line).contains("hush"), "{line}: {}", scrub(line));
        }
        for line in [
            "volume vault-secrets-1 is opened",
            "vault-secrets",
            "my-secret was drained",
            "first_password_file = \"/etc/first\"",
            "2026-11-29T10:00:00Z INFO node: ready name=one",
        ] {
            assert_eq!(scrub(line), line);
        }
    }

    #[test]
    fn queries_of_urls_go_and_what_is_around_them_stays() {
        assert_eq!(
            scrub("POST https://hook.test/a?t=hush&x, then http://b/c and why?"),
            "POST https://hook.test/a?<removed> then http://b/c and why?"
        );
        assert_eq!(
            scrub("(see http://u:hush@b/?q=hush) x://y"),
            "(see http://<removed>@b/?<removed> x://y"
        );
    }

    #[test]
    fn fields_of_answers_are_judged_by_their_names() {
        let mut answer = serde_json::json!({
            "name": "v", "signed": true, "password": "hush", "passwords": ["hush", {"a": "hush"}], "token": "hush",
            "smtp-password": "hush", "password_file": "/etc/x", "hash": "hush", "api_key": "hush", "version": 3,
            "labels": {"db-Password": "hush", "app": "db"}, "password_characters_min": 12,
            "settings": [{"key": "smtp-password", "value": "hush"}, {"key": "rf", "value": "2"}],
            "url": "https://u:hush@host/a?b=hush", "message": "with the password hush",
        });
        scrub_answer(&mut answer);
        let text = answer.to_string();
        assert!(!text.contains("hush"), "{text}");
        assert_eq!(answer["password_file"], "/etc/x");
        assert_eq!(answer["labels"]["app"], "db");
        assert_eq!(answer["password_characters_min"], 12);
        assert_eq!(answer["settings"][1]["value"], "2");
        assert_eq!(answer["settings"][0]["key"], "smtp-password");
        assert_eq!(answer["name"], "v");
        assert_eq!(answer["signed"], true);
    }

    proptest! {
        #[test]
        fn fuzz_scrub_answers_of_any_shape(name in ".*", text in ".*", secret in "[a-z0-9]{24,60}") {
            let mut answer = serde_json::json!([{"password": secret, "other": {"token": [secret]}}, {"value": format!("azk_{secret}")}]);
            answer[0]["note"] = Value::from(text.clone());
            scrub_answer(&mut answer);
            prop_assert!(!answer.to_string().contains(&secret) || text.contains(&secret));
            let _any_name = is_secret(&name);
        }

        #[test]
        fn fuzz_scrub_any_text(before in ".*", secret in "[a-z0-9]{24,60}", after in ".*") {
            let text = format!("{before} azk_{secret} {after}\nthe password {secret}\n");
            prop_assert!(!scrub(&text).contains(&secret) || before.contains(&secret) || after.contains(&secret));
        }
    }
}
