//! The verb that searches the recent lines of the nodes' logs.

use crate::cli::{Form, LogsArgs};
use crate::output::{Table, document, say, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown, query};
use api::http::path;
use api::{LOGS_LIMIT_MAX, LogLineAnswer, LogsAnswer, LogsSeen};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Pause between two looks with `--follow`.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

impl Console<'_> {
    /// `logs`.
    pub fn logs(&self, arguments: &LogsArgs) -> Shown {
        let last = arguments.last.map(|last| last.as_millis());
        let last = last.map(|last| u64::try_from(last).unwrap_or(u64::MAX));
        let from = last.map(|last| now_ms().saturating_sub(last));
        let answer = self.lines_from(arguments, from, arguments.limit);
        if !arguments.follow {
            return self.show::<LogsAnswer>(answer);
        }
        let mut answer = answer?;
        let mut seen = LogsSeen::from(from.unwrap_or(0));
        loop {
            let lines = seen.new_ones(answer.lines);
            let text: String = match self.form {
                Form::Table => lines.iter().map(line).collect(),
                Form::Json | Form::JsonLine => lines.iter().map(json).collect(),
                Form::Yaml => lines.iter().map(document).collect(),
            };
            if !say(&text) {
                return Ok(String::new());
            }
            std::thread::sleep(LOOK_INTERVAL);
            answer = self.lines_from(arguments, Some(seen.from_ms()), LOGS_LIMIT_MAX)?;
        }
    }

    fn lines_from(
        &self,
        arguments: &LogsArgs,
        from: Option<u64>,
        limit: u32,
    ) -> Result<LogsAnswer, RemoteError> {
        let mut text = path(&["logs"]);
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let (task, from) = (number(arguments.task), number(from));
        let ago = |ago: Duration| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let to = number(arguments.to.map(|to| now_ms().saturating_sub(ago(to))));
        let limit = limit.to_string();
        query(
            &mut text,
            &[
                ("node", arguments.node.as_deref()),
                ("level", arguments.level.map(|level| level.name())),
                ("volume", arguments.volume.as_deref()),
                ("task", task.as_deref()),
                ("request", arguments.request.as_deref()),
                ("text", arguments.text.as_deref()),
                ("from", from.as_deref()),
                ("to", to.as_deref()),
                ("limit", Some(&limit)),
            ],
        );
        self.remote.get(&text)
    }
}

fn json(line: &LogLineAnswer) -> String {
    serde_json::to_string(line).expect("lines are plain data with text keys") + "\n"
}

/// Whose line it is: a node's, or a program's on some machine.
fn whose(line: &LogLineAnswer) -> String {
    match &line.origin {
        Some(origin) => format!("{}/{}", origin.host, origin.component.name()),
        None => line.node.clone(),
    }
}

/// Without what moves the cursor, ends the line or makes colours: a line is written by whoever has a driver's token, and must not pass
/// for two, nor command the terminal that shows it, nor have it written from right to left.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign.is_control() || turns(sign) {
            true => shown.extend(sign.escape_default()),
            false => shown.push(sign),
        }
    }
    shown
}

/// Marks of the direction of writing, and the ends of lines and paragraphs that are no control characters (UAX #9, #14).
fn turns(sign: char) -> bool {
    matches!(
        sign,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// One line of text: fields that hold blanks are quoted. A line that a program told names who told it.
fn line(line: &LogLineAnswer) -> String {
    let mut text = format!(
        "{}.{:03}  {:5}  {}  {}: {}",
        time(line.at_ms).trim_end_matches('Z'),
        line.at_ms % 1000,
        line.level.name().to_uppercase(),
        shown(&whose(line)),
        shown(&line.target),
        shown(&line.message)
    );
    for (name, value) in &line.fields {
        let bare = |sign: char| sign.is_whitespace() || sign.is_control() || turns(sign);
        let plain = !value.is_empty() && !value.contains(bare);
        let name = shown(name);
        let _ = match plain {
            true => write!(text, " {name}={value}"),
            false => write!(text, " {name}={}", shown(&format!("{value:?}"))),
        };
    }
    if let Some(origin) = &line.origin {
        let _ = write!(text, " told-by={:?}", origin.by);
    }
    text + "\n"
}

impl Table for LogsAnswer {
    fn table(&self) -> String {
        let mut text: String = self.lines.iter().map(line).collect();
        if self.more {
            text += "There are older ones, too: ask for more with --limit, or with narrower conditions.\n";
        }
        if self.lines.is_empty() {
            let _ = writeln!(
                text,
                "Nothing was logged of that since {}.",
                time(self.since_ms)
            );
        }
        if !self.silent.is_empty() {
            let _ = writeln!(
                text,
                "Without the lines of {}: no answer.",
                self.silent.join(", ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::LogLevel;

    fn entry(number: u64, at_ms: u64) -> LogLineAnswer {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        LogLineAnswer {
            node: "a".to_owned(),
            number,
            at_ms,
            level: LogLevel::Warn,
            target: "node::volumes".to_owned(),
            message: "not opened".to_owned(),
            fields: [field("error", "no answer"), field("volume", "db")].into(),
            origin: None,
        }
    }

    #[test]
    fn a_line_says_when_where_and_about_what() {
        assert_eq!(
            line(&entry(1, 1_795_456_755_007)),
            "2026-11-23 17:59:15.007  WARN   a  node::volumes: not opened error=\"no answer\" volume=db\n"
        );
    }

    #[test]
    fn a_line_that_a_driver_told_names_its_machine() {
        let told = LogLineAnswer {
            origin: Some(api::LogOrigin {
                component: api::LogComponent::Attach,
                host: "worker-1".to_owned(),
                by: "token prod".to_owned(),
            }),
            ..entry(1, 0)
        };
        assert!(line(&told).contains("  worker-1/attach  node::volumes: not opened"));
        assert!(line(&told).ends_with(" told-by=\"token prod\"\n"));
    }

    #[test]
    fn a_line_is_one_line_and_commands_no_terminal() {
        let odd = LogLineAnswer {
            message: "\u{202e}x\n2026-11-29 10:00:00.000  INFO   n  t: deleted\u{1b}[2J".to_owned(),
            fields: [("a\u{7}".to_owned(), "b\u{1b}c".to_owned())].into(),
            ..entry(1, 0)
        };
        let text = line(&odd);
        assert_eq!(
            text.chars().filter(|sign| sign.is_control()).count(),
            1,
            "{text:?}"
        );
        assert!(
            text.contains("x\\n2026-11-29") && text.ends_with('\n') && !text.contains(turns),
            "{text}"
        );
    }

    #[test]
    fn an_empty_answer_says_since_when_and_who_is_missing() {
        let none = LogsAnswer {
            silent: vec!["b".to_owned()],
            ..LogsAnswer::default()
        };
        let text = none.table();
        assert!(
            text.contains("since 1970-01-01") && text.contains("lines of b"),
            "{text}"
        );
    }
}
