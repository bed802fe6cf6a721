//! `azekura alert`: what is wrong, and who is told of it.

use crate::cli::{
    AlertListArgs, AlertNoteArgs, AlertStateName, AlertVerb, LoginArgs, MailArgs, SecurityName,
    SeverityName, TargetAddVerb, TargetArgs, TargetVerb, UrlArgs,
};
use crate::output::{Done, Table, columns, fields, render, time};
use crate::verbs::{Console, query};
use anyhow::{Context, bail};
use api::http::path;
use api::{
    AlertAnswer, AlertCountsAnswer, AlertMarkAnswer, AlertNote, AlertSeverity, AlertTargetAnswer,
    AlertTargetSpec, AlertsAnswer, MailSecurityName, TargetKind,
};
use std::io::Read;
use std::path::Path;

/// Files with secrets, addresses and certificates are small.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A whole file, or standard input.
fn read(path: &Path) -> anyhow::Result<String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        if path == Path::new("-") {
            std::io::stdin()
                .take(FILE_BYTES_MAX)
                .read_to_string(&mut text)?;
        } else {
            std::fs::File::open(path)?
                .take(FILE_BYTES_MAX)
                .read_to_string(&mut text)?;
        }
        Ok(text)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// The first line of a file.
fn first_line(path: &Path) -> anyhow::Result<String> {
    let text = read(path)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        bail!("{} has nothing in its first line", path.display());
    }
    Ok(line.to_owned())
}

fn severity(name: SeverityName) -> AlertSeverity {
    match name {
        SeverityName::Info => AlertSeverity::Info,
        SeverityName::Warning => AlertSeverity::Warning,
        SeverityName::Critical => AlertSeverity::Critical,
    }
}

fn word(severity: SeverityName) -> &'static str {
    match severity {
        SeverityName::Info => "info",
        SeverityName::Warning => "warning",
        SeverityName::Critical => "critical",
    }
}

fn target(basics: TargetArgs, kind: TargetKind) -> anyhow::Result<AlertTargetSpec> {
    Ok(AlertTargetSpec {
        minimum: Some(severity(basics.minimum)),
        ca: basics.ca.as_deref().map(read).transpose()?,
        ..AlertTargetSpec::new(&basics.name, kind)
    })
}

fn address(arguments: UrlArgs) -> anyhow::Result<Option<String>> {
    match arguments.url_file {
        Some(path) => first_line(&path).map(Some),
        None => Ok(arguments.url),
    }
}

fn password(arguments: &LoginArgs) -> anyhow::Result<Option<String>> {
    let file = arguments.password_file.as_deref();
    file.map(first_line).transpose()
}

fn mail(arguments: MailArgs) -> anyhow::Result<AlertTargetSpec> {
    Ok(AlertTargetSpec {
        server: Some(arguments.server),
        security: Some(match arguments.security {
            SecurityName::Starttls => MailSecurityName::Starttls,
            SecurityName::Tls => MailSecurityName::Tls,
            SecurityName::None => MailSecurityName::None,
        }),
        password: password(&arguments.login)?,
        user: arguments.login.user,
        from: Some(arguments.from),
        to: arguments.to,
        ..target(arguments.basics, TargetKind::Mail)?
    })
}

fn spec(verb: TargetAddVerb) -> anyhow::Result<AlertTargetSpec> {
    match verb {
        TargetAddVerb::Webhook {
            basics,
            url,
            secret_file,
        } => Ok(AlertTargetSpec {
            url: address(url)?,
            secret: secret_file.as_deref().map(first_line).transpose()?,
            ..target(basics, TargetKind::Webhook)?
        }),
        TargetAddVerb::Mail(arguments) => mail(arguments),
        TargetAddVerb::Alertmanager { basics, url, login } => Ok(AlertTargetSpec {
            url: address(url)?,
            password: password(&login)?,
            user: login.user,
            ..target(basics, TargetKind::Alertmanager)?
        }),
    }
}

impl Console<'_> {
    /// `alert ...`.
    ///
    /// # Errors
    /// What the node says, and when a file cannot be read.
    pub fn alert(&self, verb: AlertVerb) -> anyhow::Result<String> {
        match verb {
            AlertVerb::List(arguments) => self.alert_list(&arguments),
            AlertVerb::Show { id } => {
                let id = id.to_string();
                let alert: AlertAnswer = self.remote.get(&path(&["alerts", &id]))?;
                Ok(render(&alert, self.form))
            }
            AlertVerb::Acknowledge(arguments) => self.alert_act("acknowledge", arguments),
            AlertVerb::Resolve(arguments) => self.alert_act("resolve", arguments),
            AlertVerb::Target(verb) => self.alert_target(verb),
        }
    }

    fn alert_list(&self, arguments: &AlertListArgs) -> anyhow::Result<String> {
        let state = match arguments.state {
            AlertStateName::Open => "open",
            AlertStateName::Resolved => "resolved",
            AlertStateName::All => "all",
        };
        let (limit, before) = (
            arguments.limit.to_string(),
            arguments.before.map(|before| before.to_string()),
        );
        let sort = arguments.sort.map(String::from);
        let mut path = path(&["alerts"]);
        query(
            &mut path,
            &[
                ("state", Some(state)),
                ("severity", arguments.severity.map(word)),
                ("kind", arguments.kind.as_deref()),
                ("entity", arguments.entity.as_deref()),
                ("before", before.as_deref()),
                ("sort", sort.as_deref()),
                ("limit", Some(&limit)),
            ],
        );
        let alerts: AlertsAnswer = self.remote.get(&path)?;
        Ok(render(&alerts, self.form))
    }

    fn alert_act(&self, action: &str, arguments: AlertNoteArgs) -> anyhow::Result<String> {
        let path = path(&["alerts", &arguments.id.to_string(), action]);
        let note = AlertNote {
            note: arguments.note,
        };
        let alert: AlertAnswer = self.remote.post(&path, &note)?;
        Ok(render(&alert, self.form))
    }

    fn alert_target(&self, verb: TargetVerb) -> anyhow::Result<String> {
        match verb {
            TargetVerb::Add(verb) => {
                let spec = spec(verb)?;
                let added: AlertTargetAnswer =
                    self.remote.post(&path(&["alert-targets"]), &spec)?;
                Ok(render(&added, self.form))
            }
            TargetVerb::List { page } => {
                let path = page.path(path(&["alert-targets"]));
                let targets: Vec<AlertTargetAnswer> = self.remote.get(&path)?;
                Ok(render(&targets, self.form))
            }
            TargetVerb::Show { name } => {
                let path = path(&["alert-targets", &name]);
                let target: AlertTargetAnswer = self.remote.get(&path)?;
                Ok(render(&target, self.form))
            }
            TargetVerb::Delete { name, on } => {
                let path = path(&["alert-targets", &name]);
                Ok(self.deleted_on(&path, format!("target {name}"), on)?)
            }
            TargetVerb::Test { name } => {
                let path = path(&["alert-targets", &name, "test"]);
                let empty = serde_json::json!({});
                let _: serde_json::Value = self.remote.post(&path, &empty)?;
                let done = Done {
                    done: format!("a test message was delivered to target {name}"),
                };
                Ok(render(&done, self.form))
            }
        }
    }
}

/// `2 critical, 1 warning`; nothing when there is none.
pub fn counted(open: AlertCountsAnswer) -> Option<String> {
    let AlertCountsAnswer {
        critical,
        warning,
        info,
    } = open;
    let counts = [(critical, "critical"), (warning, "warning"), (info, "info")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> = counts
        .map(|(count, severity)| format!("{count} {severity}"))
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn said(mark: Option<&AlertMarkAnswer>) -> String {
    let Some(mark) = mark else {
        return String::new();
    };
    let by = mark.by.as_deref().unwrap_or("nobody: its cause is gone");
    let note = mark.note.as_ref();
    let note = note.map_or_else(String::new, |note| format!(": {note}"));
    format!("{} by {by}{note}", time(mark.at_ms))
}

impl Table for AlertAnswer {
    fn table(&self) -> String {
        fields(&[
            ("alert", self.id.to_string()),
            ("severity", self.severity.clone()),
            ("state", self.state.clone()),
            ("kind", self.kind.clone()),
            ("about", self.entity.clone()),
            ("cause", self.cause.clone()),
            ("impact", self.impact.clone()),
            ("remedy", self.remedy.clone()),
            ("raised", time(self.raised_ms)),
            ("last seen", time(self.seen_ms)),
            ("acknowledged", said(self.acknowledged.as_ref())),
            ("resolved", said(self.resolved.as_ref())),
            (
                "ends",
                match (self.by_hand, &self.resolved) {
                    (true, None) => {
                        format!("when somebody says so: azekura alert resolve {}", self.id)
                    }
                    (false, None) => "by itself, when its cause is gone".to_owned(),
                    (_, Some(_)) => String::new(),
                },
            ),
        ])
    }
}

impl Table for AlertsAnswer {
    fn table(&self) -> String {
        let row = |alert: &AlertAnswer| {
            vec![
                alert.id.to_string(),
                alert.severity.clone(),
                alert.state.clone(),
                time(alert.raised_ms),
                alert.kind.clone(),
                alert.entity.clone(),
                format!("{}; {}", alert.cause, alert.remedy),
            ]
        };
        if self.alerts.is_empty() {
            return "no alert\n".to_owned();
        }
        let rows: Vec<Vec<String>> = self.alerts.iter().map(row).collect();
        let head = [
            "ID",
            "SEVERITY",
            "STATE",
            "RAISED",
            "KIND",
            "ABOUT",
            "CAUSE AND REMEDY",
        ];
        let mut text = columns(&head, &rows);
        if let Some(next) = self.next {
            text += &format!("there are more: --before {next}\n");
        }
        text
    }
}

fn how(target: &AlertTargetAnswer) -> String {
    match (&target.error, target.delivered_ms) {
        (Some(error), _) => format!(
            "not reached since {} ({} attempts): {error}",
            time(target.failing_ms.unwrap_or_default()),
            target.failures
        ),
        (None, Some(at)) => format!("delivered {}", time(at)),
        (None, None) => "nothing was to be delivered yet".to_owned(),
    }
}

impl Table for AlertTargetAnswer {
    fn table(&self) -> String {
        let yes = |is: bool, text: &str| if is { text.to_owned() } else { String::new() };
        fields(&[
            ("target", self.name.clone()),
            ("kind", self.kind.clone()),
            ("address", self.address.clone()),
            ("minimum", self.minimum.clone()),
            ("encryption", self.security.clone().unwrap_or_default()),
            ("believes", yes(self.own_ca, "its own authorities")),
            ("signed", yes(self.signed, "yes")),
            ("user", self.user.clone().unwrap_or_default()),
            ("from", self.from.clone().unwrap_or_default()),
            ("to", self.to.join(", ")),
            ("created", time(self.created_ms)),
            ("state", how(self)),
        ])
    }
}

impl Table for Vec<AlertTargetAnswer> {
    fn table(&self) -> String {
        let row = |target: &AlertTargetAnswer| {
            vec![
                target.name.clone(),
                target.kind.clone(),
                target.minimum.clone(),
                target.address.clone(),
                target.waiting.to_string(),
                target.missed.to_string(),
                how(target),
            ]
        };
        let rows: Vec<Vec<String>> = self.iter().map(row).collect();
        let head = [
            "TARGET", "KIND", "MINIMUM", "ADDRESS", "WAITING", "MISSED", "STATE",
        ];
        columns(&head, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_name_only_what_there_is() {
        let counts = |critical, warning, info| {
            counted(AlertCountsAnswer {
                critical,
                warning,
                info,
            })
        };
        assert_eq!(counts(0, 0, 0), None);
        assert_eq!(counts(2, 0, 1).as_deref(), Some("2 critical, 1 info"));
    }

    #[test]
    fn an_alert_says_how_it_ends() {
        let alert = AlertAnswer {
            id: 7,
            cause: "store 4 is full".to_owned(),
            remedy: "add disks".to_owned(),
            by_hand: true,
            ..AlertAnswer::default()
        };
        assert!(alert.table().contains("azekura alert resolve 7"));
        let over = AlertAnswer {
            resolved: Some(AlertMarkAnswer::default()),
            ..alert.clone()
        };
        assert!(over.table().contains("its cause is gone"));
        let list = AlertsAnswer {
            alerts: vec![alert],
            next: Some(7),
            ..AlertsAnswer::default()
        };
        let text = list.table();
        assert!(text.contains("store 4 is full; add disks"), "{text}");
        assert!(text.contains("--before 7"), "{text}");
    }
}
