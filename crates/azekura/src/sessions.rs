//! `azekura session`: log in, see who has, end one, change one's own password.
//!
//! A session that was begun here is kept in a file, as a token is, and shown with `--token-file`.

use crate::cli::{OwnPasswordArgs, PasswordArgs, SessionCreateArgs, SessionVerb};
use crate::output::{Done, Table, columns, fields, render, time};
use crate::remote::RemoteError;
use crate::users::{Made, password_from, read_password};
use crate::verbs::Console;
use anyhow::Context;
use api::http::path;
use api::{Login, OpenSessionAnswer, PasswordChange, SessionAnswer, UserAnswer};
use std::io::Write;
use std::path::Path;

impl Table for SessionAnswer {
    fn table(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let who = self.who.clone().unwrap_or_else(|| "nobody".to_owned());
        let scope = self.scope.map(|scope| scope.to_string());
        fields(&[
            ("who", who),
            ("user", text(&self.user)),
            ("scope", scope.unwrap_or_else(|| "nothing".to_owned())),
            (
                "session until",
                self.expires_ms.map(time).unwrap_or_default(),
            ),
        ])
    }
}

impl Table for Vec<OpenSessionAnswer> {
    fn table(&self) -> String {
        let row = |session: &OpenSessionAnswer| {
            vec![
                session.id.clone(),
                session.user.clone(),
                time(session.created_ms),
                time(session.expires_ms),
                if session.own { "this one" } else { "" }.to_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = self.iter().map(row).collect();
        columns(&["ID", "USER", "BEGUN", "UNTIL", ""], &rows)
    }
}

/// Keeps a secret in a file that only its owner can read.
fn keep(path: &Path, secret: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.with_context(|| {
        format!(
            "cannot keep the session in {}: name a file that is not there",
            path.display()
        )
    })?;
    let written = file.write_all(format!("{secret}\n").as_bytes());
    written.with_context(|| format!("cannot write {}", path.display()))
}

impl Console<'_> {
    /// `session ...`.
    ///
    /// # Errors
    /// What the node says, and when a file cannot be read or written.
    pub fn session(&self, verb: SessionVerb) -> anyhow::Result<String> {
        match verb {
            SessionVerb::Show => {
                Ok(self.show::<SessionAnswer>(self.remote.get(&path(&["session"])))?)
            }
            SessionVerb::Create(arguments) => self.log_in(arguments),
            SessionVerb::Delete => {
                self.remote.delete(&path(&["session"]), None)?;
                let done = match self.remote.has_session() {
                    true => "logged out: the session is refused from now on",
                    false => "nothing to end: name the file of a session with --token-file",
                };
                let done = done.to_owned();
                Ok(render(&Done { done }, self.form))
            }
            SessionVerb::List { page } => {
                let path = page.path(path(&["sessions"]));
                Ok(self.show::<Vec<OpenSessionAnswer>>(self.remote.get(&path))?)
            }
            SessionVerb::End { id } => {
                self.remote.delete(&path(&["sessions", &id]), None)?;
                let done = format!("ended session {id}");
                Ok(render(&Done { done }, self.form))
            }
            SessionVerb::Password(arguments) => self.own_password(&arguments),
        }
    }

    fn log_in(&self, arguments: SessionCreateArgs) -> anyhow::Result<String> {
        let out = &arguments.out;
        anyhow::ensure!(
            !out.exists(),
            "{} is there already: name a file that is not",
            out.display()
        );
        let login = Login {
            user: arguments.user,
            password: read_password(&arguments.password_file)?,
        };
        let (session, token) = self.remote.log_in(&login)?;
        keep(out, token.text())?;
        Ok(render(&session, self.form))
    }

    fn own_password(&self, arguments: &OwnPasswordArgs) -> anyhow::Result<String> {
        let input = Path::new("-");
        anyhow::ensure!(
            arguments.current_file != input || arguments.password_file.as_deref() != Some(input),
            "both passwords cannot come from standard input: write one of them to a file"
        );
        let current = read_password(&arguments.current_file)?;
        let (password, made) = password_from(&PasswordArgs {
            password_file: arguments.password_file.clone(),
        })?;
        let change = PasswordChange { current, password };
        let user = self.change_own(arguments.user.as_deref(), &change)?;
        let password = made.then_some(change.password);
        Ok(render(&Made { user, password }, self.form))
    }

    fn change_own(
        &self,
        user: Option<&str>,
        change: &PasswordChange,
    ) -> Result<UserAnswer, RemoteError> {
        let to = path(&["session", "password"]);
        let Some(user) = user else {
            return self.remote.post(&to, change);
        };
        let login = Login {
            user: user.to_owned(),
            password: change.current.clone(),
        };
        let (_, session) = self.remote.log_in(&login)?;
        self.remote.with_session(session).post(&to, change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_that_nobody_asks() {
        let text = SessionAnswer::default().table();
        assert_eq!(text, "who            nobody\nscope          nothing\n");
    }

    #[test]
    fn a_session_is_kept_for_its_owner_alone_and_replaces_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let name = format!("azekura-session-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        keep(&path, "azekura-session=0a").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = keep(&path, "azekura-session=0b").unwrap_err().to_string();
        assert!(error.contains("name a file that is not there"), "{error}");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "azekura-session=0a\n"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
