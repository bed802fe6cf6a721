//! Those who are told: a web server, with TLS or without, and a mail server. Each keeps what it got.

use identity::rustls::pki_types::pem::PemObject;
use identity::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use identity::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};
use identity::{AUTHORITIES_FILE, Authority, IDENTITY_FILE, KeyRequest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use world::{Caller, Role};

/// A certificate for 127.0.0.1, and the file of the authority that has signed it.
pub struct Certificates {
    pub ca: PathBuf,
    pub server: Arc<ServerConfig>,
}

impl Certificates {
    pub fn make(folder: &Path) -> Self {
        let authority = Authority::make("receivers").unwrap();
        let key = KeyRequest::make_for(&["127.0.0.1".to_owned()]).unwrap();
        let name = "receiver".to_owned();
        let caller = Caller::new(Role::Node, name);
        let certificate = authority.sign(&key.request, &caller, 7).unwrap();
        key.store(folder, &certificate, authority.certificate())
            .unwrap();
        let identity = std::fs::read(folder.join(IDENTITY_FILE)).unwrap();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity).collect();
        let key = PrivateKeyDer::from_pem_slice(&identity).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        Self {
            ca: folder.join(AUTHORITIES_FILE),
            server: Arc::new(server),
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Post {
    pub head: String,
    pub body: String,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn encrypted(stream: TcpStream, config: &Arc<ServerConfig>) -> Box<dyn Stream> {
    let connection = ServerConnection::new(config.clone()).unwrap();
    Box::new(StreamOwned::new(connection, stream))
}

/// One request, answered with 200; nothing when the client does not go through with it.
fn take(stream: Box<dyn Stream>) -> Option<Post> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is = name.eq_ignore_ascii_case("content-length");
        is.then(|| value.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let stream = reader.get_mut();
    stream.write_all(answer).ok()?;
    stream.flush().ok()?;
    Some(Post {
        head,
        body: String::from_utf8(body).unwrap(),
    })
}

/// Serves for as long as the test runs; the port, and what came.
pub fn web_server(config: Option<Arc<ServerConfig>>) -> (u16, Arc<Mutex<Vec<Post>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let posts = Arc::<Mutex<Vec<Post>>>::default();
    let kept = posts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let stream = match &config {
                Some(config) => encrypted(stream, config),
                None => Box::new(stream),
            };
            if let Some(post) = take(stream) {
                kept.lock().unwrap().push(post);
            }
        }
    });
    (port, posts)
}

fn line(reader: &mut BufReader<Box<dyn Stream>>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().to_owned()),
    }
}

fn say(reader: &mut BufReader<Box<dyn Stream>>, text: &str) {
    let stream = reader.get_mut();
    stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
    stream.flush().unwrap();
}

/// A conversation behind STARTTLS; the message, if it came to one.
fn after_tls(mut reader: BufReader<Box<dyn Stream>>, login: &str) -> Option<String> {
    assert!(line(&mut reader)?.starts_with("EHLO "));
    say(&mut reader, "250-mail.test\r\n250 AUTH PLAIN");
    let mut known = false;
    loop {
        let command = line(&mut reader)?;
        let word = command.split(' ').next().unwrap_or_default();
        match word {
            "AUTH" => {
                known = command == format!("AUTH PLAIN {login}");
                say(&mut reader, if known { "235 yes" } else { "535 no" });
            }
            "MAIL" | "RCPT" if known => say(&mut reader, "250 ok"),
            "DATA" if known => {
                say(&mut reader, "354 go");
                let mut message = String::new();
                loop {
                    let text = line(&mut reader)?;
                    if text == "." {
                        break;
                    }
                    message += &format!("{text}\n");
                }
                say(&mut reader, "250 taken");
                return Some(message);
            }
            _ => say(&mut reader, "503 not now"),
        }
    }
}

/// A mail server that takes messages of one user behind STARTTLS alone; the port, and the messages.
pub fn mail_server(
    config: Arc<ServerConfig>,
    user: &str,
    password: &str,
) -> (u16, Arc<Mutex<Vec<String>>>) {
    // As in RFC 4616; the test knows the words, so it knows the letters.
    assert_eq!((user, password), ("azekura", "open-sesame-42"));
    let login = "AGF6ZWt1cmEAb3Blbi1zZXNhbWUtNDI=";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mails = Arc::<Mutex<Vec<String>>>::default();
    let kept = mails.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let plain: Box<dyn Stream> = Box::new(stream.try_clone().unwrap());
            let mut reader = BufReader::new(plain);
            say(&mut reader, "220 mail.test");
            let hello = line(&mut reader).unwrap();
            assert!(hello.starts_with("EHLO ["), "{hello}");
            say(&mut reader, "250-mail.test\r\n250 STARTTLS");
            assert_eq!(line(&mut reader).as_deref(), Some("STARTTLS"));
            say(&mut reader, "220 go");
            let reader = BufReader::new(encrypted(stream, &config));
            if let Some(message) = after_tls(reader, login) {
                kept.lock().unwrap().push(message);
            }
        }
    });
    (port, mails)
}
