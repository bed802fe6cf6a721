//! The REST API of a node, called over HTTP/1.1, plain or encrypted: one request per connection.

use anyhow::{Context, Result, bail};
use identity::Credentials;
use identity::rustls::StreamOwned;
use serde_json::Value;
use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for an answer: above the server's own bound.
const PATIENCE: Duration = Duration::from_secs(130);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A node's API.
#[derive(Clone, Debug)]
pub struct Api {
    /// `host:port`.
    pub address: String,
    /// Holds the token, where one is asked for.
    pub token_file: Option<PathBuf>,
    /// Folder with certificates, where connections are encrypted.
    pub credentials: Option<PathBuf>,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// A connection.
trait Talk: Read + Write {}
impl<T: Read + Write> Talk for T {}

impl Api {
    /// Its URL.
    pub fn url(&self) -> String {
        match self.credentials {
            Some(_) => format!("https://{}", self.address),
            None => format!("http://{}", self.address),
        }
    }

    fn connect(&self) -> Result<Box<dyn Talk>> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(folder) = &self.credentials else {
            return Ok(Box::new(stream));
        };
        let connection = Credentials::read(folder)?.last().call()?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }

    fn authorization(&self) -> Result<String> {
        let Some(file) = &self.token_file else {
            return Ok(String::new());
        };
        let token = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token in {}", file.display()))?;
        Ok(format!("Authorization: Bearer {}\r\n", token.trim()))
    }
}

/// Sends one request below `/api/v1` and returns the JSON answer.
pub fn call(api: &Api, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, text) = exchange(api, method, &format!("/api/v1{path}"), body)
        .with_context(|| format!("{method} {path} at {api} has no answer"))?;
    let answer: Value = serde_json::from_str(&text)
        .with_context(|| format!("{method} {path} at {api} answered no JSON: {text}"))?;
    if !(200..300).contains(&status) {
        let message = answer["message"].as_str().unwrap_or(&text).to_owned();
        bail!("{method} {path}: {message} (HTTP {status})");
    }
    Ok(answer)
}

/// `GET`.
pub fn get(api: &Api, path: &str) -> Result<Value> {
    call(api, "GET", path, None)
}

/// `POST` of a JSON body.
pub fn post(api: &Api, path: &str, body: &Value) -> Result<Value> {
    call(api, "POST", path, Some(body))
}

/// `GET` of a path from the root; the text of the answer.
pub fn fetch(api: &Api, path: &str) -> Result<String> {
    let (status, text) = exchange(api, "GET", path, None)
        .with_context(|| format!("GET {path} at {api} has no answer"))?;
    if status != 200 {
        bail!("GET {path} at {api}: {text} (HTTP {status})");
    }
    Ok(text)
}

fn exchange(api: &Api, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String)> {
    let mut stream = api.connect()?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let authorization = api.authorization()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the answer is no UTF-8")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.context("the answer has no status")?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok((
        status,
        if chunked {
            joined_chunks(body)?
        } else {
            body.to_owned()
        },
    ))
}

fn joined_chunks(mut rest: &str) -> Result<String> {
    let mut joined = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is no number")?;
        if size == 0 {
            return Ok(joined);
        }
        joined.push_str(after.get(..size).context("a chunk is cut off")?);
        rest = after.get(size + 2..).context("a chunk is cut off")?;
    }
}
