//! How fast passwords can be tried.
//!
//! Each attempt counts against the user from that address, the address, and the user, before its password is looked at; one that
//! was right forgets what it counted. Beyond a number of attempts the next one waits, twice as long each time, up to a minute.
//! Each node counts for itself and forgets with its end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Attempts before there is a wait: of a user from one address, of an address, of a user from anywhere. The last is high, for
/// others must not be able to lock a user out.
const FREE: [u32; 3] = [5, 20, 50];
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What was counted is forgotten after so long without an attempt.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// Counters at most, about 100 bytes each; the oldest goes.
const COUNTERS_MAX: usize = 4096;

#[derive(Clone, Copy)]
struct Counter {
    attempts: u32,
    last: Instant,
    /// Whether it was told that the next one waits, since the last that did not.
    told: bool,
}

impl Counter {
    /// How long the next attempt waits.
    fn wait(&self, free: u32, now: Instant) -> Option<Duration> {
        let beyond = self.attempts.checked_sub(free)?;
        let wait = Duration::from_secs(1 << beyond.min(6)).min(WAIT_MAX);
        let left = wait.saturating_sub(now.duration_since(self.last));
        (!left.is_zero()).then_some(left)
    }
}

/// Counts attempts.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<BTreeMap<String, Counter>>);

fn keys(user: &str, address: &str) -> [String; 3] {
    [
        format!("both {address} {user}"),
        format!("address {address}"),
        format!("user {user}"),
    ]
}

impl Throttle {
    /// Counts an attempt, unless it has to wait: then how long.
    pub(crate) fn attempt(&self, user: &str, address: &str, now: Instant) -> Result<(), Duration> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.retain(|_, counter| now.duration_since(counter.last) < FORGET_AFTER);
        let keys = keys(user, address);
        let waits = keys.iter().zip(FREE).filter_map(|(key, free)| {
            let counter = counters.get(key)?;
            counter.wait(free, now)
        });
        if let Some(wait) = waits.max() {
            return Err(wait);
        }
        for key in keys {
            let counter = counters.entry(key).or_insert(Counter {
                attempts: 0,
                last: now,
                told: false,
            });
            counter.told = false;
            counter.attempts = counter.attempts.saturating_add(1);
            counter.last = now;
        }
        while counters.len() > COUNTERS_MAX {
            let oldest = counters.iter().min_by_key(|(_, counter)| counter.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            counters.remove(&oldest.expect("there are more than none"));
        }
        Ok(())
    }

    /// Whether a refusal is news: none was told of since the last attempt that was let through. So there are no more of them than of
    /// attempts, however many are made.
    pub(crate) fn is_news(&self, user: &str, address: &str) -> bool {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for key in keys(user, address) {
            if let Some(counter) = counters.get_mut(&key) {
                news |= !std::mem::replace(&mut counter.told, true);
            }
        }
        news
    }

    /// An attempt was right.
    pub(crate) fn succeeded(&self, user: &str, address: &str) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(user, address) {
            counters.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_wait_longer_and_longer_and_are_forgotten() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(throttle.attempt("a", "1", now), Ok(()));
        }
        assert_eq!(throttle.attempt("a", "1", now), Err(Duration::from_secs(1)));
        assert_eq!(throttle.attempt("b", "1", now), Ok(()), "another user");
        assert_eq!(throttle.attempt("a", "2", now), Ok(()), "another address");
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let early = now + Duration::from_secs(seconds) - Duration::from_millis(1);
            assert!(throttle.attempt("a", "1", early).is_err(), "{seconds}");
            now += Duration::from_secs(seconds);
            assert_eq!(throttle.attempt("a", "1", now), Ok(()), "{seconds}");
        }
        assert_eq!(throttle.attempt("a", "1", now + FORGET_AFTER), Ok(()));
        assert_eq!(throttle.attempt("a", "1", now + FORGET_AFTER), Ok(()));
    }

    #[test]
    fn one_address_and_one_user_have_bounds_over_all() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for user in 0..20 {
            assert_eq!(throttle.attempt(&user.to_string(), "1", now), Ok(()));
        }
        assert!(throttle.attempt("new", "1", now).is_err());
        for address in 2..52 {
            assert_eq!(throttle.attempt("a", &address.to_string(), now), Ok(()));
        }
        assert!(throttle.attempt("a", "99", now).is_err());
        throttle.succeeded("a", "99");
        assert_eq!(throttle.attempt("a", "99", now), Ok(()));
    }

    #[test]
    fn a_refusal_is_news_once_between_two_attempts() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(throttle.attempt("a", "1", now), Ok(()));
        }
        assert!(throttle.attempt("a", "1", now).is_err());
        assert!(throttle.is_news("a", "1"));
        assert!(throttle.attempt("a", "1", now).is_err());
        assert!(!throttle.is_news("a", "1"));
        let later = now + Duration::from_secs(1);
        assert_eq!(throttle.attempt("a", "1", later), Ok(()));
        assert!(throttle.attempt("a", "1", later).is_err());
        assert!(throttle.is_news("a", "1"));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for address in 0..3000 {
            let _ = throttle.attempt(
                "a",
                &address.to_string(),
                now + Duration::from_secs(address),
            );
        }
        assert!(throttle.0.lock().unwrap().len() <= COUNTERS_MAX);
    }
}
