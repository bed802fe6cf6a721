//! On whose behalf the node does something now.
//!
//! Futures take turns on the shard, so that whoever asked is set around every turn of an operation ([`AskedBy`]), not once at its
//! beginning. Lines that are logged meanwhile carry the request by the span around it. What an operation leaves to a task of its
//! own is nobody's, unless that is wrapped, too.

use crate::host::Host;
use api::{Asker, Operation};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tracing::Instrument;
use tracing::instrument::Instrumented;
use world::LocalBoxFuture;

/// Whom the running turn is for.
#[derive(Default)]
pub(crate) struct Askers(RefCell<Option<Rc<Asker>>>);

impl Askers {
    /// Of the turn that runs now.
    pub(crate) fn now(&self) -> Asker {
        let asker = self.0.borrow();
        asker.as_deref().cloned().unwrap_or_default()
    }
}

/// A future whose turns are all for somebody.
pub(crate) struct AskedBy<T> {
    host: Rc<Host>,
    asker: Option<Rc<Asker>>,
    future: Instrumented<LocalBoxFuture<'static, T>>,
}

impl<T> Future for AskedBy<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let before = self.host.askers.0.replace(self.asker.clone());
        let polled = Pin::new(&mut self.future).poll(context);
        self.host.askers.0.replace(before);
        polled
    }
}

impl Host {
    /// Has an operation carried out on somebody's behalf.
    pub(crate) fn on_behalf<T: 'static>(
        self: &Rc<Self>,
        asker: Asker,
        operation: &Operation,
        future: impl Future<Output = T> + 'static,
    ) -> AskedBy<T> {
        let subject = operation.subject().unwrap_or_default();
        let span = tracing::info_span!(
            "operation",
            request = asker.request,
            operation = operation.name(),
            volume = subject
        );
        let boxed: LocalBoxFuture<'static, T> = Box::pin(future);
        AskedBy {
            host: self.clone(),
            asker: Some(Rc::new(asker)),
            future: boxed.instrument(span),
        }
    }

    /// The same for what an operation leaves to a task of its own.
    pub(crate) fn still_on_behalf<T: 'static>(
        self: &Rc<Self>,
        future: impl Future<Output = T> + 'static,
    ) -> AskedBy<T> {
        let boxed: LocalBoxFuture<'static, T> = Box::pin(future);
        AskedBy {
            host: self.clone(),
            asker: self.askers.0.borrow().clone(),
            future: boxed.in_current_span(),
        }
    }
}
