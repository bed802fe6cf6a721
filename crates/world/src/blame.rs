//! On whose behalf the code of a thread runs: what a panic is blamed on.
//!
//! A task inherits the subject of whoever started it, and takes it along to the thread pool. So all that a volume's
//! log and drain do is done on the volume's behalf, and a process that ends by it can say which volume that was.

use std::cell::Cell;
use std::pin::pin;

thread_local! {
    static SUBJECT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The subject of the code that runs on this thread now; none: nobody's, or that of the whole process.
#[must_use]
pub fn subject() -> Option<u64> {
    SUBJECT.get()
}

/// Gives the thread back its subject, also when the work panics.
struct Before(Option<u64>);

impl Drop for Before {
    fn drop(&mut self) {
        SUBJECT.set(self.0);
    }
}

/// Does something on a subject's behalf; tasks that it starts are the subject's, too.
pub fn on_behalf<T>(subject: Option<u64>, work: impl FnOnce() -> T) -> T {
    let _before = Before(SUBJECT.replace(subject));
    work()
}

/// As [`on_behalf`], of a future: whenever it is polled.
pub async fn blamed<F: Future>(subject: u64, future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| on_behalf(Some(subject), || future.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Executor;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// What somebody saw as its subject.
    #[derive(Clone, Default)]
    struct Seen(Rc<RefCell<Vec<Option<u64>>>>);

    impl Seen {
        fn note(&self) {
            self.0.borrow_mut().push(subject());
        }
    }

    #[test]
    fn tasks_inherit_their_subject_and_others_keep_theirs() {
        let executor = Rc::new(Executor::new(Box::new(|| {})));
        let seen = Seen::default();
        let (outer, inner, nobody) = (seen.clone(), seen.clone(), seen.clone());
        let spawner = executor.clone();
        executor.spawn(Box::pin(blamed(7, async move {
            outer.note();
            spawner.spawn(Box::pin(async move { inner.note() }));
        })));
        executor.spawn(Box::pin(async move { nobody.note() }));
        executor.run_ready(10);
        assert_eq!(*seen.0.borrow(), [Some(7), None, Some(7)]);
        assert_eq!(subject(), None);
    }

    #[test]
    fn a_panic_leaves_no_subject_behind() {
        let panics = || on_behalf(Some(3), || panic!("on purpose"));
        let caught = std::panic::catch_unwind(panics);
        assert!(caught.is_err());
        assert_eq!(subject(), None);
    }
}
