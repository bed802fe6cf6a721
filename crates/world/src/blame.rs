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
    use std::rc::Rc;

    #[test]
    fn tasks_inherit_their_subject_and_others_keep_theirs() {
        let executor = Rc::new(Executor::new(Box::new(|| {})));
        let seen: Rc<std::cell::RefCell<Vec<(&str, Option<u64>)>>> = Rc::default();
        let note = |name| {
            let seen = seen.clone();
            move || seen.borrow_mut().push((name, subject()))
        };
        let (outer, inner, nobody) = (note("outer"), note("inner"), note("nobody"));
        let spawner = executor.clone();
        executor.spawn(Box::pin(blamed(7, async move {
            outer();
            spawner.spawn(Box::pin(async move { inner() }));
        })));
        executor.spawn(Box::pin(async move { nobody() }));
        executor.run_ready(10);
        assert_eq!(
            *seen.borrow(),
            [("outer", Some(7)), ("nobody", None), ("inner", Some(7))]
        );
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
