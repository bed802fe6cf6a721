//! Mail: one for each change, in plain text. Mails about one alert refer to the same message, so that readers show them together.

use super::message::{delivery_id, subject, text};
use super::smtp::{Envelope, Server, send};
use super::{base64, encryption};
use crate::output::time;
use ::node::Parcel;
use catalog::{Delivery, MailSecurity};

/// Bytes of one encoded word: 52 characters, so that the first line stays below 78 with the name of its head.
const WORD_BYTES: usize = 39;
/// Bytes of one line of the body: 76 characters.
const LINE_BYTES: usize = 57;

/// A subject that may have any letters (RFC 2047). Whole characters only in each word.
fn encoded(text: &str) -> String {
    let mut words: Vec<String> = vec![String::new()];
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        let last = words.last_mut().expect("there is one from the beginning");
        match last.len() + letter.len_utf8() > WORD_BYTES {
            true => words.push(letter.to_string()),
            false => last.push(letter),
        }
    }
    let word = |text: &String| format!("=?utf-8?B?{}?=", base64(text.as_bytes()));
    words.iter().map(word).collect::<Vec<_>>().join("\r\n ")
}

/// A date as RFC 5322 has it.
fn date(milliseconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = time(milliseconds);
    let day = DAYS[(milliseconds / 86_400_000 % 7) as usize];
    let mut parts = text.split(['-', ' ', 'Z']);
    let mut next = || parts.next().unwrap_or_default();
    let (year, month, of_month, clock) = (next(), next(), next(), next());
    let month = month.parse::<usize>().unwrap_or(1).clamp(1, 12);
    format!(
        "{day}, {of_month} {} {year} {clock} +0000",
        MONTHS[month - 1]
    )
}

/// The domain of an address.
fn domain(address: &str) -> &str {
    address
        .rsplit_once('@')
        .map_or("azekura", |(_, domain)| domain)
}

/// A whole message, with lines that end as mail servers want them. Pure.
fn message(parcel: &Parcel, from: &str, to: &[String]) -> String {
    let id = delivery_id(parcel);
    let domain = domain(from);
    let mut head = vec![
        format!("From: Azekura <{from}>"),
        format!("To: {}", to.join(",\r\n ")),
        format!("Subject: {}", encoded(&subject(parcel))),
        format!("Date: {}", date(parcel.now_ms)),
        format!("Message-ID: <{id}@{domain}>"),
    ];
    if let Some(change) = parcel.changes.first() {
        let alert = &change.alert;
        let thread = format!(
            "{}-alert-{}-{}",
            parcel.cluster_id, alert.id, alert.raised_ms
        );
        head.push(format!("References: <{thread}@{domain}>"));
    }
    head.extend(
        [
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: base64",
            "Auto-Submitted: auto-generated",
        ]
        .map(str::to_owned),
    );
    head.push(format!("X-Azekura-Delivery: {id}"));
    let body = text(parcel);
    let lines = body.as_bytes().chunks(LINE_BYTES).map(base64);
    let body: Vec<String> = lines.collect();
    format!("{}\r\n\r\n{}\r\n", head.join("\r\n"), body.join("\r\n"))
}

/// Delivers a parcel.
pub fn deliver(delivery: &Delivery, parcel: &Parcel) -> Result<(), String> {
    let Delivery::Mail {
        server,
        security,
        ca,
        user,
        password,
        from,
        to,
    } = delivery
    else {
        return Err("it is no target of kind mail".to_owned());
    };
    let encryption = match security {
        MailSecurity::None => None,
        MailSecurity::Starttls | MailSecurity::Tls => Some(encryption(ca.as_deref())?),
    };
    let login = user.as_deref().zip(password.as_ref());
    let server = Server {
        address: server,
        encryption,
        at_once: *security == MailSecurity::Tls,
        login: login.map(|(user, password)| (user, password.0.as_str())),
    };
    let message = message(parcel, from, to);
    send(&server, &Envelope { from, to, message })
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::parcel;
    use super::*;
    use catalog::AlertTurn;

    #[test]
    fn a_message_is_of_short_lines_of_ascii() {
        let to = ["ops@mail.test".to_owned(), "more@mail.test".to_owned()];
        let text = message(&parcel(AlertTurn::Raised), "azekura@mail.test", &to);
        assert!(text.is_ascii());
        for line in text.split("\r\n") {
            assert!(line.len() <= 78 && !line.contains(['\r', '\n']), "{line:?}");
            assert_ne!(line, ".", "nothing ends the message early");
        }
        for head in [
            "Message-ID: <0123456789abcdef-12-1764208860000@mail.test>",
            "References: <0123456789abcdef-alert-7-1764208800000@mail.test>",
            "Date: Thu, 27 Nov 2025 02:01:01 +0000",
            "To: ops@mail.test,\r\n more@mail.test",
        ] {
            assert!(text.contains(head), "{text}");
        }
    }

    #[test]
    fn a_subject_is_cut_into_words_of_whole_letters() {
        let text = encoded(&"ノ".repeat(40));
        let words: Vec<&str> = text.split("\r\n ").collect();
        assert_eq!(words.len(), 4);
        assert!(
            words
                .iter()
                .all(|word| word.len() <= 75 && word.ends_with("?="))
        );
        assert_eq!(encoded("a\r\nBcc: x"), "=?utf-8?B?YUJjYzogeA==?=");
    }
}
