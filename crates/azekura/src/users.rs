//! `azekura user`, and the first user of a cluster.

use crate::cli::{PasswordArgs, Role, UserVerb};
use crate::output::{Table, columns, render, time};
use crate::verbs::Console;
use anyhow::Context;
use api::http::path;
use api::{OperationError, UserAnswer, UserChange, UserRole, UserSpec};
use control::{Backend, FirstUser};
use serde::Serialize;
use std::io::{Read, Write};
use std::path::Path;

/// Passwords are read no further than this.
const PASSWORD_READ_MAX: u64 = 4096;

fn role_of(role: Role) -> UserRole {
    match role {
        Role::Viewer => UserRole::Viewer,
        Role::Operator => UserRole::Operator,
        Role::Admin => UserRole::Admin,
    }
}

/// The first line of a file.
pub fn read_password(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin()
            .take(PASSWORD_READ_MAX)
            .read_to_string(&mut text),
        false => std::fs::File::open(path)
            .and_then(|file| file.take(PASSWORD_READ_MAX).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read the password in {}", path.display()))?;
    let line = text.lines().next().unwrap_or("");
    anyhow::ensure!(
        !line.is_empty(),
        "{} does not begin with a password",
        path.display()
    );
    Ok(line.to_owned())
}

/// A user, with the password when that was made here.
#[derive(Serialize)]
pub struct Made {
    #[serde(flatten)]
    pub user: UserAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl Table for Made {
    /// The password alone, for a file or a person.
    fn table(&self) -> String {
        match &self.password {
            Some(password) => format!("{password}\n"),
            None => vec![self.user.clone()].table(),
        }
    }
}

impl Table for UserAnswer {
    fn table(&self) -> String {
        vec![self.clone()].table()
    }
}

impl Table for Vec<UserAnswer> {
    fn table(&self) -> String {
        let row = |user: &UserAnswer| {
            vec![
                user.name.clone(),
                user.role.to_string(),
                user.sessions.to_string(),
                time(user.created_ms),
            ]
        };
        let rows: Vec<Vec<String>> = self.iter().map(row).collect();
        columns(&["NAME", "ROLE", "SESSIONS", "CREATED"], &rows)
    }
}

impl Console<'_> {
    /// `user ...`.
    ///
    /// # Errors
    /// What the node says, and when a password cannot be read.
    pub fn user(&self, verb: UserVerb) -> anyhow::Result<String> {
        match verb {
            UserVerb::Create {
                name,
                role,
                password,
            } => {
                let (password, made) = password_from(&password)?;
                let role = role_of(role);
                let spec = UserSpec {
                    name,
                    role,
                    password,
                };
                let user = self.remote.post(&path(&["users"]), &spec)?;
                let password = made.then_some(spec.password);
                Ok(render(&Made { user, password }, self.form))
            }
            UserVerb::List { page } => {
                let path = page.path(path(&["users"]));
                let users: Vec<UserAnswer> = self.remote.get(&path)?;
                Ok(render(&users, self.form))
            }
            UserVerb::Show { name } => {
                let user: UserAnswer = self.remote.get(&path(&["users", &name]))?;
                Ok(render(&user, self.form))
            }
            UserVerb::Passwd { name, password, on } => {
                let (password, made) = password_from(&password)?;
                let change = UserChange {
                    role: None,
                    password: Some(password),
                };
                let path = path(&["users", &name]);
                let user = self.remote.patch_if(&path, &change, on.version)?;
                let password = change.password.filter(|_| made);
                Ok(render(&Made { user, password }, self.form))
            }
            UserVerb::SetRole { name, role, on } => {
                let change = UserChange {
                    role: Some(role_of(role)),
                    password: None,
                };
                let path = path(&["users", &name]);
                let user: UserAnswer = self.remote.patch_if(&path, &change, on.version)?;
                Ok(render(&user, self.form))
            }
            UserVerb::Delete { name, on } => {
                let path = path(&["users", &name]);
                Ok(self.deleted_on(&path, format!("user {name}"), on)?)
            }
        }
    }
}

/// The password, and whether it was made here.
pub fn password_from(arguments: &PasswordArgs) -> anyhow::Result<(String, bool)> {
    match &arguments.password_file {
        Some(path) => Ok((read_password(path)?, false)),
        None => Ok((control::make_password().context("no randomness")?, true)),
    }
}

/// Writes a password that was made to a file that is not there.
fn write_password(path: &Path, password: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{password}\n").as_bytes())?;
    file.sync_all()
}

/// Makes the user `admin` when the cluster has no users. The password is that in `file`, which is made when it is missing;
/// without a file it is made and printed to standard error, this once, and not through the log.
pub async fn first(backend: &dyn Backend, file: Option<&Path>) {
    let (mut printed, mut written) = (None, None);
    let failed = |error: anyhow::Error| OperationError::failed(format!("{error:#}"));
    let password = || match file {
        Some(path) if path.exists() => read_password(path).map_err(failed),
        _ => {
            let made = control::make_password();
            let made = made.map_err(|error| failed(error.into()))?;
            match file {
                Some(path) => {
                    let write = write_password(path, &made);
                    let write = write.with_context(|| format!("cannot write {}", path.display()));
                    write.map_err(failed)?;
                    written = Some(path);
                }
                None => printed = Some(made.clone()),
            }
            Ok(made)
        }
    };
    match control::make_first_user(backend, password).await {
        Ok(FirstUser::Made) => match (printed, file) {
            (Some(password), _) => eprintln!(
                "azekura: the user admin was made, with the password {password}\nazekura: it is shown this once; change it \
                 after the first log-in"
            ),
            (None, Some(path)) => {
                tracing::info!(file = %path.display(), "the user admin was made, with the password in the file");
            }
            (None, None) => {}
        },
        Ok(FirstUser::Present) => {
            // Another node was faster: the password here would be nobody's.
            if let Some(path) = written
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::warn!(%error, file = %path.display(), "a password that is nobody's stays in the file");
            }
        }
        Err(error) => tracing::warn!(
            %error,
            "the first user was not made: nobody can log in until `azekura user create` has made one"
        ),
    }
}
