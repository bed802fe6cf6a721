//! A client of mail servers (RFC 5321, with STARTTLS of RFC 3207 and AUTH PLAIN of RFC 4954): one message, then good-bye.
//!
//! Invariants
//! - Without encryption that was asked for nothing is sent, and a password never without encryption.
//! - What a server has said before encryption began counts for nothing: it is asked again.
//! - Lines, replies and time are bounded, whatever a server says.

use super::{CONNECT_MAX, PATIENCE, base64};
use identity::rustls::pki_types::ServerName;
use identity::rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest line of a reply; the standard has 512.
const LINE_BYTES_MAX: usize = 2048;
/// Lines of one reply.
const LINES_MAX: usize = 64;
/// So much of what a server says is repeated to people.
const SAID_CHARS_MAX: usize = 200;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where a message goes.
pub struct Server<'a> {
    /// `host:port`.
    pub address: &'a str,
    /// How to encrypt; nothing: not at all.
    pub encryption: Option<Arc<ClientConfig>>,
    /// Whether from the first byte on, or after `STARTTLS`.
    pub at_once: bool,
    /// Who logs in, and with what.
    pub login: Option<(&'a str, &'a str)>,
}

/// A message, and who gets it.
pub struct Envelope<'a> {
    pub from: &'a str,
    pub to: &'a [String],
    pub message: String,
}

/// A socket that is given up when the time is over, however slowly it answers.
struct Socket {
    stream: TcpStream,
    until: Instant,
}

impl Socket {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            false => Ok(left),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a server said to one command.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// For people.
    fn said(&self) -> String {
        let text = self.lines.join(" ");
        let plain = text.chars().filter(|letter| !letter.is_control());
        format!(
            "{} {}",
            self.code,
            plain.take(SAID_CHARS_MAX).collect::<String>()
        )
    }
}

/// One line of a reply: its code, whether others follow, and the text. Pure.
fn parse_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let digits = line.get(..3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let more = match line.get(3) {
        None | Some(b' ') => false,
        Some(b'-') => true,
        Some(_) => return None,
    };
    let text = line.get(4..).unwrap_or_default();
    Some((code, more, String::from_utf8_lossy(text).into_owned()))
}

/// A conversation.
struct Talk<S> {
    stream: S,
    /// What was read and is not yet part of a reply.
    ahead: Vec<u8>,
}

impl<S: Read + Write> Talk<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    fn read_line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if self.ahead.len() > LINE_BYTES_MAX {
                return Err("it says a line that is too long for a mail server".to_owned());
            }
            let mut buffer = [0; 512];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("it ended the connection".to_owned()),
                Ok(count) => self.ahead.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(format!("it does not answer: {error}")),
            }
        }
    }

    fn reply(&mut self) -> Result<Reply, String> {
        let mut lines = Vec::new();
        let mut first = None;
        for _ in 0..LINES_MAX {
            let line = self.read_line()?;
            let odd = || "what answers there is no mail server".to_owned();
            let (code, more, text) = parse_line(&line).ok_or_else(odd)?;
            if *first.get_or_insert(code) != code {
                return Err(odd());
            }
            lines.push(text);
            if !more {
                return Ok(Reply { code, lines });
            }
        }
        Err("it says more than a mail server does".to_owned())
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        let written = self.stream.write_all(text.as_bytes());
        let written = written.and_then(|()| self.stream.flush());
        written.map_err(|error| format!("it does not take what is sent: {error}"))
    }

    /// Waits for a reply that begins with one of these digits; `what`: for people, without secrets.
    fn expect(&mut self, what: &str, first: u16) -> Result<Reply, String> {
        let reply = self.reply()?;
        match reply.code / 100 == first {
            true => Ok(reply),
            false => Err(format!("it refuses {what}: {}", reply.said())),
        }
    }

    fn command(&mut self, what: &str, line: &str, first: u16) -> Result<Reply, String> {
        self.write(&format!("{line}\r\n"))?;
        self.expect(what, first)
    }

    /// What the server can do.
    fn hello(&mut self, own: &str) -> Result<Vec<String>, String> {
        let reply = self.command("EHLO", &format!("EHLO {own}"), 2)?;
        let lines = reply.lines.iter().skip(1);
        Ok(lines.map(|line| line.to_ascii_uppercase()).collect())
    }

    fn log_in(&mut self, can: &[String], (user, password): (&str, &str)) -> Result<(), String> {
        let mechanisms = can.iter().find_map(|line| line.strip_prefix("AUTH "));
        let mut mechanisms = mechanisms.unwrap_or_default().split(' ');
        let has = |wanted: &'static str| move |name: &str| name == wanted;
        if mechanisms.clone().any(has("PLAIN")) {
            let both = base64(format!("\0{user}\0{password}").as_bytes());
            self.command("the user and password", &format!("AUTH PLAIN {both}"), 2)?;
        } else if mechanisms.any(has("LOGIN")) {
            self.command("to log in", "AUTH LOGIN", 3)?;
            self.command("the user", &base64(user.as_bytes()), 3)?;
            self.command("the password", &base64(password.as_bytes()), 2)?;
        } else {
            return Err("it lets nobody log in by PLAIN or LOGIN".to_owned());
        }
        Ok(())
    }

    fn hand_over(&mut self, envelope: &Envelope<'_>) -> Result<(), String> {
        let from = envelope.from;
        self.command("the sender", &format!("MAIL FROM:<{from}>"), 2)?;
        for to in envelope.to {
            self.command(
                &format!("to deliver to {to}"),
                &format!("RCPT TO:<{to}>"),
                2,
            )?;
        }
        self.command("a message", "DATA", 3)?;
        // No line of the message begins with a dot: heads have names, and the body is base64.
        self.write(&format!("{}.\r\n", envelope.message))?;
        self.expect("the message", 2)?;
        // It has the message, whatever it says to this.
        let _ = self.write("QUIT\r\n");
        Ok(())
    }
}

fn connect(address: &str) -> Result<(Socket, String), String> {
    let until = Instant::now() + PATIENCE;
    let found = address.to_socket_addrs();
    let found = found.map_err(|error| format!("its name is not known: {error}"))?;
    let mut last = "its name has no address".to_owned();
    for address in found.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                let own = match stream.local_addr().map(|address| address.ip()) {
                    Ok(IpAddr::V4(ip)) => format!("[{ip}]"),
                    Ok(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
                    Err(_) => "localhost".to_owned(),
                };
                return Ok((Socket { stream, until }, own));
            }
            Err(error) => last = format!("it does not answer: {error}"),
        }
    }
    Err(last)
}

fn encrypt<S: Read + Write>(
    stream: S,
    config: Arc<ClientConfig>,
    address: &str,
) -> Result<StreamOwned<ClientConnection, S>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| format!("{host} cannot be the name in a certificate"))?;
    let mut connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
    let mut stream = stream;
    let shaken = connection.complete_io(&mut stream);
    shaken.map_err(|error| format!("its connection cannot be encrypted: {error}"))?;
    Ok(StreamOwned::new(connection, stream))
}

/// Sends one message.
///
/// # Errors
/// Why it was not taken; no password is part of it.
pub fn send(server: &Server<'_>, envelope: &Envelope<'_>) -> Result<(), String> {
    let (socket, own) = connect(server.address)?;
    let stream: Box<dyn Stream> = match &server.encryption {
        Some(config) if server.at_once => {
            Box::new(encrypt(socket, config.clone(), server.address)?)
        }
        _ => Box::new(socket),
    };
    let mut talk = Talk::new(stream);
    talk.expect("a conversation", 2)?;
    let mut can = talk.hello(&own)?;
    if let Some(config) = server.encryption.as_ref().filter(|_| !server.at_once) {
        if !can.iter().any(|line| line == "STARTTLS") {
            return Err("it does not offer STARTTLS: nothing is sent in the clear".to_owned());
        }
        talk.command("STARTTLS", "STARTTLS", 2)?;
        if !talk.ahead.is_empty() {
            return Err("something was said before encryption began".to_owned());
        }
        let stream = encrypt(talk.stream, config.clone(), server.address)?;
        talk = Talk::new(Box::new(stream));
        can = talk.hello(&own)?;
    }
    if let Some(login) = server.login {
        if server.encryption.is_none() {
            return Err("a password is not sent in the clear".to_owned());
        }
        talk.log_in(&can, login)?;
    }
    talk.hand_over(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuzz::target;
    use proptest::prelude::*;

    /// What a server says, and what it was told.
    struct Script {
        says: io::Cursor<Vec<u8>>,
        told: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.says.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(says: impl AsRef<[u8]>) -> Talk<Script> {
        Talk::new(Script {
            says: io::Cursor::new(says.as_ref().to_vec()),
            told: Vec::new(),
        })
    }

    fn to_one() -> Vec<String> {
        vec!["ops@mail.test".to_owned()]
    }

    #[test]
    fn a_message_is_handed_over_step_by_step() {
        let mut talk = talk(
            "250-mail.test\r\n250-AUTH LOGIN PLAIN\r\n250 8BITMIME\r\n235 yes\r\n250 ok\r\n251 forwarded\r\n354 go\r\n250 taken\r\n",
        );
        let can = talk.hello("[127.0.0.1]").unwrap();
        talk.log_in(&can, ("me", "hush")).unwrap();
        let to = to_one();
        let envelope = Envelope {
            from: "azekura@mail.test",
            to: &to,
            message: "Subject: x\r\n\r\nYQ==\r\n".to_owned(),
        };
        talk.hand_over(&envelope).unwrap();
        let told = String::from_utf8(talk.stream.told).unwrap();
        assert_eq!(
            told,
            "EHLO [127.0.0.1]\r\nAUTH PLAIN AG1lAGh1c2g=\r\nMAIL FROM:<azekura@mail.test>\r\nRCPT TO:<ops@mail.test>\r\nDATA\r\n\
             Subject: x\r\n\r\nYQ==\r\n.\r\nQUIT\r\n"
        );
    }

    #[test]
    fn a_refusal_says_what_and_why_without_the_password() {
        let login = ["AUTH PLAIN".to_owned()];
        let mut refused = talk("535 5.7.8 no\x07 such user\r\n");
        let error = refused.log_in(&login, ("me", "hush")).unwrap_err();
        assert_eq!(
            error,
            "it refuses the user and password: 535 5.7.8 no such user"
        );
        let error = talk("").log_in(&["AUTH GSSAPI".to_owned()], ("me", "hush"));
        assert!(error.unwrap_err().contains("PLAIN or LOGIN"));
        let mut full = talk("250 ok\r\n552 full\r\n");
        let to = to_one();
        let envelope = Envelope {
            from: "a@b",
            to: &to,
            message: String::new(),
        };
        let error = full.hand_over(&envelope).unwrap_err();
        assert_eq!(error, "it refuses to deliver to ops@mail.test: 552 full");
    }

    #[test]
    fn replies_are_bounded() {
        assert!(talk("220 hello").reply().is_err(), "no end of line");
        assert!(talk("250-a\r\n251 b\r\n").reply().is_err(), "two codes");
        assert!(talk("SSH-2.0-x\r\n").reply().is_err());
        assert!(talk("2".repeat(1 << 20)).reply().is_err());
        assert!(talk("250-a\r\n".repeat(1000)).reply().is_err());
        let reply = talk("250-a\n250\n").reply().unwrap();
        assert_eq!((reply.code, reply.lines.len()), (250, 2));
    }

    #[test]
    fn fuzz_corpus_of_replies() {
        let target = target!("mail-reply");
        let samples = [
            (
                "hello",
                "250-mail.test\r\n250-AUTH LOGIN PLAIN\r\n250 8BITMIME\r\n",
                Some((250, 3)),
            ),
            ("bare", "354\r\n", Some((354, 1))),
            ("lf", "250-a\n250\n", Some((250, 2))),
            ("two-codes", "250-a\r\n251 b\r\n", None),
            ("ssh", "SSH-2.0-x\r\n", None),
            ("cut", "220 hello", None),
        ];
        for (name, says, expected) in samples {
            let reply = talk(target.sample(name, says.as_bytes())).reply();
            let reply = reply.ok().map(|reply| (reply.code, reply.lines.len()));
            assert_eq!(reply, expected, "{name}");
        }
        target.play(|bytes| {
            if let Ok(reply) = talk(bytes).reply() {
                assert!(reply.code < 1000 && reply.lines.len() <= LINES_MAX);
                assert!(!reply.said().contains(char::is_control));
            }
        });
    }

    proptest! {
        #[test]
        fn fuzz_replies_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            if let Ok(reply) = talk(&bytes).reply() {
                prop_assert!(reply.code < 1000 && reply.lines.len() <= LINES_MAX);
                prop_assert!(!reply.said().contains(char::is_control));
            }
        }

        #[test]
        fn fuzz_replies_of_codes_are_read_or_refused(
            lines in prop::collection::vec(("[0-9]{2,4}", "[- x]?", "[ -~]{0,40}"), 0..80)
        ) {
            let text: String = lines.iter().map(|(code, sign, text)| format!("{code}{sign}{text}\r\n")).collect();
            if let Ok(reply) = talk(&text).reply() {
                prop_assert!(reply.code < 1000 && reply.lines.len() <= LINES_MAX);
            }
        }
    }
}
