//! Serving the router on a socket.

use crate::{Auth, Backend, router};
use axum::serve::ListenerExt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest wait for requests that are being answered when the server is told to stop.
pub const STOP_SECONDS_MAX: u64 = 3;

/// Serves the API on `listener` until `stop` resolves; requests in progress then get
/// [`STOP_SECONDS_MAX`] to finish.
///
/// # Errors
/// When the listening socket fails.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    auth: Auth,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let signal = async move {
        stop.await;
        // Nobody listening any more means that the server has ended by itself.
        let _ = stopping.send(true);
    };
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "an API connection keeps Nagle's algorithm");
        }
    });
    let server = axum::serve(listener, router(backend, auth)).with_graceful_shutdown(signal);
    let deadline = async move {
        if stopped.wait_for(|stopping| *stopping).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(STOP_SECONDS_MAX)).await;
    };
    let server = std::pin::pin!(server.into_future());
    match futures_util::future::select(server, std::pin::pin!(deadline)).await {
        futures_util::future::Either::Left((result, _)) => result,
        futures_util::future::Either::Right(((), _)) => Ok(()),
    }
}
