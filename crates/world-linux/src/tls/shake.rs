//! Handshakes: bytes to and fro, computed beside the shard, until both sides know each other.

use super::HANDSHAKE_MAX;
use super::stream::TlsStream;
use bytes::Bytes;
use identity::rustls::{self, AlertDescription, Connection};
use identity::{Credentials, Shown, caller_of};
use std::rc::Rc;
use std::sync::Arc;
use world::{Stream, World};

/// Rounds of one handshake. TLS 1.3 takes two; every further piece of a message that arrives in pieces is one.
const ROUNDS_MAX: u32 = 64;

/// Shakes hands as the one who calls.
pub(super) async fn call(
    world: &World,
    credentials: Arc<Credentials>,
    stream: Rc<dyn Stream>,
) -> Result<Rc<dyn Stream>, String> {
    let begin = move || Ok(Connection::Client(credentials.current().call()?));
    bounded(world, stream, Box::new(begin), None).await
}

/// Shakes hands as the one who is called.
pub(super) async fn answer(
    world: &World,
    credentials: Arc<Credentials>,
    stream: Rc<dyn Stream>,
) -> Result<Rc<dyn Stream>, String> {
    let own = credentials.clone();
    let begin = move || Ok(Connection::Server(own.current().answer()?));
    bounded(world, stream, Box::new(begin), Some(credentials)).await
}

type Begin = Box<dyn FnOnce() -> Result<Connection, rustls::Error> + Send>;

async fn bounded(
    world: &World,
    stream: Rc<dyn Stream>,
    begin: Begin,
    judge: Option<Arc<Credentials>>,
) -> Result<Rc<dyn Stream>, String> {
    let shaking = shake(world, stream.clone(), begin, judge);
    let shaken = world.timeout(HANDSHAKE_MAX, shaking).await;
    let shaken = shaken.unwrap_or_else(|_| Err("the handshake takes more than 5 s".to_owned()));
    if shaken.is_err() {
        stream.close();
    }
    shaken
}

async fn shake(
    world: &World,
    stream: Rc<dyn Stream>,
    begin: Begin,
    judge: Option<Arc<Credentials>>,
) -> Result<Rc<dyn Stream>, String> {
    let begun = world.offload(move || begin().map(|begun| step(begun, Bytes::new())));
    let mut step_done = begun.await.map_err(|error| explain(&error))?;
    for _ in 0..ROUNDS_MAX {
        let Step {
            connection,
            output,
            verdict,
        } = step_done;
        if !output.is_empty() {
            // A broken connection is told by the read; what the other side said before that explains it better.
            let _ = stream.write(vec![output]).await;
        }
        verdict.map_err(|error| explain(&error))?;
        if !connection.is_handshaking() {
            let chain = connection.peer_certificates().unwrap_or_default();
            let caller = caller_of(chain).map_err(|error| error.to_string())?;
            let shown = judge.map(|judge| Shown::new(judge, chain));
            let world = world.clone();
            return Ok(TlsStream::start(world, stream, connection, caller, shown));
        }
        let input = stream.read().await;
        let input = input.map_err(|error| format!("{error} during the handshake{IS_PLAIN}"))?;
        if input.is_empty() {
            return Err(format!(
                "it ended the connection during the handshake{IS_PLAIN}"
            ));
        }
        step_done = world.offload(move || step(connection, input)).await;
    }
    Err(format!(
        "no end of the handshake after {ROUNDS_MAX} messages"
    ))
}

const IS_PLAIN: &str = ": does that side encrypt, too (`[tls]` in its configuration)?";

struct Step {
    connection: Connection,
    /// To send, also when it has failed: the reason for the other side.
    output: Bytes,
    verdict: Result<(), rustls::Error>,
}

fn step(mut connection: Connection, input: Bytes) -> Step {
    let mut rest = &input[..];
    let mut verdict = Ok(());
    while !rest.is_empty() && verdict.is_ok() {
        verdict = match connection.read_tls(&mut rest) {
            // After a closing alert nothing is read any more.
            Ok(0) => Err(rustls::Error::AlertReceived(AlertDescription::CloseNotify)),
            Ok(_) => connection.process_new_packets().map(drop),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        };
    }
    let mut output = Vec::new();
    while connection.wants_write() && connection.write_tls(&mut output).is_ok() {}
    Step {
        connection,
        output: output.into(),
        verdict,
    }
}

/// For people: what is wrong, and what to look at.
pub(super) fn explain(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error, InvalidMessage};
    match error {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => format!("the other side does not speak TLS{IS_PLAIN}"),
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "its certificate is of another cluster, or of an authority that was dropped: check the \
             address, or make new credentials"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired: look at that machine's log and clock, and make new \
             credentials for it"
            .to_owned(),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is not that of a node".to_owned(),
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "its certificate is for another role".to_owned(),
        Error::NoCertificatesPresented => "it has shown no certificate".to_owned(),
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => {
            "it does not believe our certificate: our credentials are of another cluster, or of an \
             authority that was dropped; make new ones"
                .to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "our certificate has expired: make new credentials".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants to see a certificate".to_owned()
        }
        other => other.to_string(),
    }
}
