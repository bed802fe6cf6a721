//! Passwords: argon2id, off the threads that serve requests.
//!
//! Parameters are those that OWASP names as the least: 19 MiB, two passes, one lane; about 20 ms of a core. One is computed at a
//! time, so that logging in never takes more memory than that, and at most [`WAITING_MAX`] wait for their turn.

use api::{ErrorKind, OperationError, users::password_problem};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::io::Read;
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// Log-ins that wait for the one before them at most.
const WAITING_MAX: usize = 8;
/// Bytes of a salt, as RFC 9106 recommends.
const SALT_BYTES: usize = 16;
/// Characters of a password that is made: 24 hexadecimal digits are 96 bits.
const MADE_CHARACTERS: usize = 24;

/// Computes hashes, one at a time.
#[derive(Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(WAITING_MAX + 1)),
        }
    }

    /// Computes something that takes long.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OperationError> {
        let busy = || {
            let reason = "many log in at this moment: try again in a few seconds";
            OperationError::new(ErrorKind::Throttled, reason)
        };
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| busy())?;
        // The turn goes with the work, which a request that is given up does not end.
        let computed = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        computed
            .await
            .map_err(|error| OperationError::failed(format!("a password's hash: {error}")))
    }

    /// The hash of a new password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, OperationError> {
        if let Some(problem) = password_problem(&password) {
            return Err(OperationError::bad_request(problem));
        }
        self.compute(move || hash(&password)).await?
    }

    /// Whether a password is right. Without a hash, of a user who does not exist, it takes as long.
    pub(crate) async fn is_right(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, OperationError> {
        self.compute(move || match hash {
            Some(hash) => is_right(&password, &hash),
            None => {
                is_right(&password, &NOBODY);
                false
            }
        })
        .await
    }
}

/// What the passwords of users are compared with who do not exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody has this one").unwrap_or_default());

pub(crate) fn hash(password: &str) -> Result<String, OperationError> {
    let mut salt = [0_u8; SALT_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut salt))
        .map_err(|cause| {
            OperationError::failed(format!("no salt can be made without randomness: {cause}"))
        })?;
    let hashed = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    let hashed =
        hashed.map_err(|cause| OperationError::failed(format!("a password's hash: {cause}")))?;
    Ok(hashed.to_string())
}

fn is_right(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|parsed| {
        let verified = Argon2::default().verify_password(password.as_bytes(), &parsed);
        verified.is_ok()
    })
}

/// A password of 96 bits that can be read out.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn make_password() -> std::io::Result<String> {
    let digits = crate::make_secret()?;
    let parts: Vec<&str> = (0..MADE_CHARACTERS)
        .step_by(6)
        .map(|at| &digits[at..at + 6])
        .collect();
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_its_own_only() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let right = |word: &str, hash: Option<String>| passwords.is_right(word.to_owned(), hash);
        assert!(right("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!right("correct hors", Some(hash.clone())).await.unwrap());
        assert!(!right("correct horse", None).await.unwrap());
        assert!(
            !right("correct horse", Some("damaged".to_owned()))
                .await
                .unwrap()
        );
        let again = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
    }

    #[tokio::test]
    async fn short_passwords_are_refused() {
        let refused = Passwords::new().hash("short".to_owned()).await.unwrap_err();
        assert!(refused.message.contains("at least 10"), "{refused}");
    }

    #[test]
    fn made_passwords_are_long_enough_and_differ() {
        let (one, other) = (make_password().unwrap(), make_password().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 27);
        assert_eq!(password_problem(&one), None);
    }
}
