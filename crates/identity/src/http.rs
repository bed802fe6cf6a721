//! HTTP clients of the API over TLS.

use crate::credentials::{Credentials, node_name};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};

/// Whom to believe, and what to show.
enum Sides {
    /// As the files say at each connection.
    Credentials(Arc<Credentials>),
    /// As configured.
    Fixed(Arc<ClientConfig>),
}

/// Encrypts connections to `https` URLs.
struct Encrypt(Sides);

/// Connections over TCP that show and believe what the credentials say when each is made.
pub fn with(credentials: Arc<Credentials>) -> impl Connector {
    over_tcp(Encrypt(Sides::Credentials(credentials)))
}

/// Connections over TCP that show and believe what `config` says.
pub fn fixed(config: Arc<ClientConfig>) -> impl Connector {
    over_tcp(Encrypt(Sides::Fixed(config)))
}

fn over_tcp(layer: Encrypt) -> impl Connector {
    ().chain(TcpConnector::default()).chain(layer)
}

impl fmt::Debug for Encrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypt(..)")
    }
}

/// An encrypted connection.
struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted(..)")
    }
}

impl<In: Transport> Connector<In> for Encrypt {
    type Out = Either<In, Encrypted>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let config = match &self.0 {
            Sides::Credentials(credentials) => credentials.current().client.clone(),
            Sides::Fixed(config) => config.clone(),
        };
        let failed = |error| Error::Io(std::io::Error::other(error));
        let mut connection = ClientConnection::new(config, node_name()).map_err(failed)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(Either::B(Encrypted { buffers, stream })))
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
