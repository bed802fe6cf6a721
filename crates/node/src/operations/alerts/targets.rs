//! Who is told of alerts: added when it can be understood, shown without secrets, tested by the node that delivers.

use super::{Result, catalog_error, severity_of};
use crate::alerts::{origin, test};
use crate::host::Host;
use api::{
    AlertOperation, AlertTargetAnswer, AlertTargetSpec, Answer, ErrorKind, MailSecurityName,
    Operation, OperationError, TargetKind,
};
use catalog::{AlertCursorRow, AlertTargetRow, Delivery, MailSecurity, Secret, Severity};
use std::rc::Rc;
use world::Duration;

/// Longest address, user and the like, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 512;
/// Shortest key of a signature: below it can be guessed.
const KEY_BYTES_MIN: usize = 16;
/// Largest set of certificates.
const CA_BYTES_MAX: usize = 32 << 10;
/// Receivers of a mail.
const RECEIVERS_MAX: usize = 16;
/// Longest mail address (RFC 5321, 4.5.3.1.3).
const MAIL_BYTES_MAX: usize = 254;
/// Patience with the node that delivers, which has some with the target.
const TEST_PATIENCE: Duration = Duration::from_secs(75);

fn odd<T>(reason: impl Into<String>) -> Result<T> {
    Err(OperationError::bad_request(reason))
}

/// Text of one line.
fn line(what: &str, text: String, bytes_max: usize) -> Result<String> {
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return odd(format!(
            "`{what}` is one line of 1 to {bytes_max} bytes without control characters"
        ));
    }
    Ok(text)
}

fn url(url: Option<String>) -> Result<String> {
    let Some(url) = url else {
        return odd("`url` is missing: say where, such as https://hooks.example.com/azekura");
    };
    let url = line("url", url, TEXT_BYTES_MAX)?;
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => odd(
            "`url` has a user in it: an Alertmanager has `user` and `password`, a webhook has `secret`",
        ),
        Some(host) if !host.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(url)
        }
        _ => odd("`url` is not an address that begins with http:// or https:// and names a host"),
    }
}

fn ca(ca: Option<String>) -> Result<Option<String>> {
    match ca {
        Some(text) if text.len() > CA_BYTES_MAX => {
            odd(format!("`ca` has more than {CA_BYTES_MAX} bytes"))
        }
        Some(text) if !text.contains("-----BEGIN CERTIFICATE-----") => {
            odd("`ca` has no certificate in it: it is text (PEM) with -----BEGIN CERTIFICATE-----")
        }
        other => Ok(other),
    }
}

fn secret(what: &str, secret: Option<String>) -> Result<Option<Secret>> {
    let secret = secret.map(|secret| line(what, secret, SECRET_BYTES_MAX));
    Ok(secret.transpose()?.map(Secret))
}

/// Who logs in, and with what: both or none.
fn login(
    user: Option<String>,
    password: Option<String>,
) -> Result<(Option<String>, Option<Secret>)> {
    if user.is_some() != password.is_some() {
        return odd("`user` and `password` come together");
    }
    let user = user.map(|user| line("user", user, TEXT_BYTES_MAX));
    Ok((user.transpose()?, secret("password", password)?))
}

/// An address as a mail server takes it: nothing in it can end a command or a header.
fn mail_address(what: &str, text: String) -> Result<String> {
    let plain = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'<' | b'>' | b',' | b';' | b'"' | b'\\' | b'(' | b')')
    };
    let sides = text.split_once('@');
    let whole = sides.is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    if !whole || text.len() > MAIL_BYTES_MAX || !text.bytes().all(plain) {
        return odd(format!(
            "`{what}` has {text:?}, which is no mail address of ASCII letters such as ops@example.com"
        ));
    }
    Ok(text)
}

/// The server with its port.
fn mail_server(server: Option<String>, security: MailSecurityName) -> Result<String> {
    let Some(server) = server else {
        return odd("`server` is missing: the mail server, such as mail.example.com:587");
    };
    let server = line("server", server, TEXT_BYTES_MAX)?;
    let (host, port) = match server.rsplit_once(':') {
        // An IPv6 address is in brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (server.as_str(), None),
    };
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0),
        None => Some(match security {
            MailSecurityName::Starttls => 587,
            MailSecurityName::Tls => 465,
            MailSecurityName::None => 25,
        }),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    match port {
        Some(port) if !host.is_empty() && host.bytes().all(plain) => Ok(format!("{host}:{port}")),
        _ => odd(format!("`server` {server:?} is not host:port")),
    }
}

fn mail(spec: AlertTargetSpec) -> Result<Delivery> {
    let security = spec.security.unwrap_or_default();
    let server = mail_server(spec.server, security)?;
    let (user, password) = login(spec.user, spec.password)?;
    if security == MailSecurityName::None && password.is_some() {
        return odd("with `security` none the password would go in the clear: use starttls or tls");
    }
    let Some(from) = spec.from else {
        return odd("`from` is missing: the address that mails come from");
    };
    if !(1..=RECEIVERS_MAX).contains(&spec.to.len()) {
        return odd(format!("`to` has 1 to {RECEIVERS_MAX} addresses"));
    }
    let to: Result<Vec<String>> = spec
        .to
        .into_iter()
        .map(|address| mail_address("to", address))
        .collect();
    Ok(Delivery::Mail {
        server,
        security: match security {
            MailSecurityName::Starttls => MailSecurity::Starttls,
            MailSecurityName::Tls => MailSecurity::Tls,
            MailSecurityName::None => MailSecurity::None,
        },
        ca: ca(spec.ca)?,
        user,
        password,
        from: mail_address("from", from)?,
        to: to?,
    })
}

/// Refuses what has no meaning for this kind.
fn check_foreign(spec: &AlertTargetSpec) -> Result<()> {
    let given = [
        ("url", spec.url.is_some()),
        ("secret", spec.secret.is_some()),
        ("server", spec.server.is_some()),
        ("security", spec.security.is_some()),
        ("user", spec.user.is_some()),
        ("password", spec.password.is_some()),
        ("from", spec.from.is_some()),
        ("to", !spec.to.is_empty()),
    ];
    let takes: &[&str] = match spec.kind {
        TargetKind::Webhook => &["url", "secret"],
        TargetKind::Alertmanager => &["url", "user", "password"],
        TargetKind::Mail => &["server", "security", "user", "password", "from", "to"],
    };
    let mut given = given.iter().filter(|(_, is)| *is);
    match given.find(|(name, _)| !takes.contains(name)) {
        Some((name, _)) => odd(format!(
            "a target of kind {} has no `{name}`: it takes {}",
            spec.kind.name(),
            takes.join(", ")
        )),
        None => Ok(()),
    }
}

/// How alerts get there, if it can be understood. Pure.
fn delivery(spec: AlertTargetSpec) -> Result<Delivery> {
    check_foreign(&spec)?;
    match spec.kind {
        TargetKind::Mail => mail(spec),
        TargetKind::Webhook => {
            let short = |key: &String| key.len() < KEY_BYTES_MIN;
            if spec.secret.as_ref().is_some_and(short) {
                return odd(format!("`secret` has at least {KEY_BYTES_MIN} bytes"));
            }
            Ok(Delivery::Webhook {
                url: url(spec.url)?,
                ca: ca(spec.ca)?,
                secret: secret("secret", spec.secret)?,
            })
        }
        TargetKind::Alertmanager => {
            let (user, password) = login(spec.user, spec.password)?;
            let url = url(spec.url)?;
            if password.is_some() && url.starts_with("http://") {
                return odd("the password would go in the clear: use an address with https://");
            }
            Ok(Delivery::Alertmanager {
                url,
                ca: ca(spec.ca)?,
                user,
                password,
            })
        }
    }
}

fn describe(row: AlertTargetRow, cursor: AlertCursorRow, last_change: u64) -> AlertTargetAnswer {
    let mut answer = AlertTargetAnswer {
        address: origin(&row.delivery),
        name: row.name,
        minimum: row.minimum.name().to_owned(),
        created_ms: row.created_ms,
        delivered_ms: cursor.delivered_ms,
        waiting: last_change.saturating_sub(cursor.done),
        missed: cursor.missed,
        failures: cursor.failures,
        failing_ms: cursor.failing_ms,
        error: cursor.error,
        ..AlertTargetAnswer::default()
    };
    match row.delivery {
        Delivery::Webhook { ca, secret, .. } => {
            answer.kind = TargetKind::Webhook.name().to_owned();
            (answer.own_ca, answer.signed) = (ca.is_some(), secret.is_some());
        }
        Delivery::Alertmanager { ca, user, .. } => {
            answer.kind = TargetKind::Alertmanager.name().to_owned();
            (answer.own_ca, answer.user) = (ca.is_some(), user);
        }
        Delivery::Mail {
            security,
            ca,
            user,
            from,
            to,
            ..
        } => {
            let security = match security {
                MailSecurity::Starttls => MailSecurityName::Starttls,
                MailSecurity::Tls => MailSecurityName::Tls,
                MailSecurity::None => MailSecurityName::None,
            };
            answer.kind = TargetKind::Mail.name().to_owned();
            answer.security = Some(security.name().to_owned());
            (answer.own_ca, answer.user) = (ca.is_some(), user);
            (answer.from, answer.to) = (Some(from), to);
        }
    }
    answer
}

impl Host {
    pub(super) async fn list_targets(&self) -> Result<Answer> {
        let targets = self.catalog.alert_targets().await.map_err(catalog_error)?;
        let head = self.catalog.alert_head().await.map_err(catalog_error)?;
        let mut answers = Vec::new();
        for (row, cursor) in targets {
            let version = self.catalog.version_if_still(&row).await;
            answers.push(AlertTargetAnswer {
                version,
                ..describe(row, cursor, head.last_change)
            });
        }
        Ok(Answer::AlertTargets(answers))
    }

    pub(super) async fn show_target(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.alert_target(name).await;
        let found = found.map_err(catalog_error)?;
        let cursor = self.catalog.alert_cursor(&found.row).await;
        let cursor = cursor.map_err(catalog_error)?;
        let head = self.catalog.alert_head().await.map_err(catalog_error)?;
        let version = Some(self.catalog.version_of(&found));
        Ok(Answer::AlertTarget(AlertTargetAnswer {
            version,
            ..describe(found.row, cursor, head.last_change)
        }))
    }

    pub(super) async fn add_target(&self, spec: AlertTargetSpec) -> Result<Answer> {
        let row = AlertTargetRow {
            name: spec.name.clone(),
            minimum: spec.minimum.map_or(Severity::Info, severity_of),
            created_ms: self.world.clock.unix_ms(),
            delivery: delivery(spec)?,
        };
        let created = self.catalog.create_alert_target(&row).await;
        created.map_err(catalog_error)?;
        self.upkeep.alerts.on_changed();
        let version = self.catalog.version_if_still(&row).await;
        Ok(Answer::AlertTarget(AlertTargetAnswer {
            version,
            ..describe(row, AlertCursorRow::default(), 0)
        }))
    }

    /// By the node that leads: what it reaches counts.
    pub(super) async fn test_target(self: &Rc<Self>, name: String) -> Result<Answer> {
        let leader = self.leader().await;
        let leader = leader.map_err(|error| catalog_error(error.into()))?;
        let Some(leader) = leader else {
            return Err(OperationError::unavailable(
                "no node leads at the moment: try again in a few seconds",
            ));
        };
        if leader == self.id {
            return self.test_target_here(&name).await;
        }
        let operation = Operation::Alert(AlertOperation::TargetTest { name });
        let mut unclear = false;
        let asked = self.ask_node(leader, &operation, TEST_PATIENCE, &mut unclear);
        asked.await.unwrap_or_else(|reason| {
            let leader = self.members.node_name(leader);
            Err(OperationError::unavailable(format!(
                "node {leader}, which delivers alerts, {reason}"
            )))
        })
    }

    pub(super) async fn test_target_here(&self, name: &str) -> Result<Answer> {
        let target = self.catalog.alert_target(name).await;
        let target = target.map_err(catalog_error)?.row;
        let refused = |reason: String| OperationError::new(ErrorKind::Refused, reason);
        let Some(courier) = self.options.courier.clone() else {
            return Err(refused(format!(
                "node {} delivers no alerts: it was started without a courier",
                self.options.name
            )));
        };
        let tested = test(self, &*courier, &target).await;
        tested.map_err(|reason| {
            refused(format!(
                "target {name} does not take a test message from node {}: {reason}; delete it and add it anew if it is described \
                 wrongly",
                self.options.name
            ))
        })?;
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(spec: AlertTargetSpec) -> String {
        delivery(spec).map_or_else(|error| error.message, |_| String::new())
    }

    fn webhook(url: &str) -> AlertTargetSpec {
        AlertTargetSpec {
            url: Some(url.to_owned()),
            ..AlertTargetSpec::new("t", TargetKind::Webhook)
        }
    }

    fn to(address: &str) -> AlertTargetSpec {
        AlertTargetSpec {
            server: Some("mail.test".to_owned()),
            from: Some("azekura@mail.test".to_owned()),
            to: vec![address.to_owned()],
            ..AlertTargetSpec::new("t", TargetKind::Mail)
        }
    }

    #[test]
    fn a_webhook_is_an_address_without_a_user() {
        assert_eq!(why(webhook("https://hooks.test/a?b=c")), "");
        for bad in [
            "",
            "hooks.test",
            "ftp://hooks.test",
            "http://",
            "http:///x",
            "http://a b",
            "http://a\r\nb",
        ] {
            assert!(why(webhook(bad)).contains("`url`"), "{bad:?}");
        }
        assert!(why(webhook("https://me:hush@hooks.test")).contains("user"));
        let short = AlertTargetSpec {
            secret: Some("short".to_owned()),
            ..webhook("http://a")
        };
        assert!(why(short).contains("at least 16"));
        let foreign = AlertTargetSpec {
            from: Some("a@b".to_owned()),
            ..webhook("http://a")
        };
        assert!(why(foreign).contains("has no `from`"));
        let no_certificate = AlertTargetSpec {
            ca: Some("nonsense".to_owned()),
            ..webhook("https://a")
        };
        assert!(why(no_certificate).contains("`ca`"));
    }

    #[test]
    fn a_mail_has_addresses_that_end_no_command() {
        assert_eq!(why(to("ops@mail.test")), "");
        for bad in [
            "ops",
            "@a",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b>\r\nRCPT TO:<x@y",
            "a@b,c@d",
            "é@b",
        ] {
            assert!(why(to(bad)).contains("no mail address"), "{bad:?}");
        }
        let clear = AlertTargetSpec {
            security: Some(MailSecurityName::None),
            user: Some("me".to_owned()),
            password: Some("hush".to_owned()),
            ..to("a@b")
        };
        assert!(why(clear).contains("in the clear"));
        let half = AlertTargetSpec {
            user: Some("me".to_owned()),
            ..to("a@b")
        };
        assert!(why(half).contains("come together"));
    }

    #[test]
    fn ports_of_mail_servers_follow_from_how_they_encrypt() {
        let server = |text: &str, security| mail_server(Some(text.to_owned()), security);
        let starttls = MailSecurityName::Starttls;
        assert_eq!(server("m.test", starttls).unwrap(), "m.test:587");
        assert_eq!(
            server("m.test", MailSecurityName::Tls).unwrap(),
            "m.test:465"
        );
        assert_eq!(server("m.test:2525", starttls).unwrap(), "m.test:2525");
        assert_eq!(server("[::1]", MailSecurityName::None).unwrap(), "[::1]:25");
        for bad in ["", ":25", "m.test:0", "m.test:x", "m test"] {
            assert!(server(bad, starttls).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let spec = AlertTargetSpec {
            secret: Some("sixteen bytes of hush".to_owned()),
            ..webhook("https://hooks.test/hush")
        };
        let row = AlertTargetRow {
            name: "t".to_owned(),
            delivery: delivery(spec).unwrap(),
            minimum: Severity::Warning,
            created_ms: 1,
        };
        let answer = describe(row, AlertCursorRow::default(), 7);
        let text = serde_json::to_string(&answer).unwrap();
        assert!(!text.contains("hush"), "{text}");
        assert_eq!((answer.signed, answer.waiting), (true, 7));
        assert_eq!(answer.address, "https://hooks.test");
    }
}
