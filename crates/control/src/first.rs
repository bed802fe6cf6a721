//! The first user: made when a cluster has none, so that somebody can log in.

use crate::Backend;
use crate::password::Passwords;
use api::{Answer, ErrorKind, Operation, OperationError, UserRole};

/// Name of the first user.
const NAME: &str = "admin";

/// What became of the first user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUser {
    /// It was made with the password.
    Made,
    /// There are users already, or another node was faster.
    Present,
}

/// Whether a cluster has users.
async fn has_users(backend: &dyn Backend) -> Result<bool, OperationError> {
    match backend.call(Operation::UserList).await? {
        Answer::Users(users) => Ok(!users.is_empty()),
        _ => Err(OperationError::failed(
            "a list of users was answered by something else",
        )),
    }
}

/// Makes the user `admin` of role `admin` when the cluster has no users. `password` is called when it has none. Safe to repeat,
/// and on several nodes at once: one of them makes it.
///
/// # Errors
/// What the catalog says, and what `password` does.
pub async fn make_first_user(
    backend: &dyn Backend,
    password: impl FnOnce() -> Result<String, OperationError>,
) -> Result<FirstUser, OperationError> {
    if has_users(backend).await? {
        return Ok(FirstUser::Present);
    }
    let create = Operation::UserCreate {
        name: NAME.to_owned(),
        role: UserRole::Admin,
        hash: Passwords::new().hash(password()?).await?,
    };
    match backend.call(create).await {
        Ok(_) => Ok(FirstUser::Made),
        Err(error) if error.kind == ErrorKind::Exists => Ok(FirstUser::Present),
        Err(error) => Err(error),
    }
}
