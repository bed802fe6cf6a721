//! Requests as the server sees them: how many at a time, what they are known by, and those in progress when it stops.

use super::Server;
use crate::REQUESTS_MAX;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn more_requests_than_the_bound_are_refused_until_some_are_done() {
    let server = Arc::new(Server::start().await);
    let mut waiting = Vec::new();
    for _ in 0..REQUESTS_MAX {
        let server = server.clone();
        waiting.push(tokio::spawn(async move {
            server.json("POST /api/v1/volumes/v/drain", "").await.0
        }));
    }
    while server.fake.asked.lock().unwrap().len() < REQUESTS_MAX {
        tokio::task::yield_now().await;
    }
    let (status, body) = server.json("GET /api/v1/status", "").await;
    assert_eq!(status, 503, "{body}");
    server.fake.gate.add_permits(REQUESTS_MAX);
    for task in waiting {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(server.json("GET /api/v1/status", "").await.0, 200);
}

#[tokio::test]
async fn request_id_is_taken_or_made_and_sent_back() {
    let server = Server::start().await;
    let heads = [
        "x-request-id: abc-123\r\n",
        "",
        "x-request-id: not plain\r\n",
    ];
    let mut ids = Vec::new();
    for head in heads {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        let request =
            format!("GET /api/v1/nothing HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{head}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        ids.push(line.unwrap().to_owned());
    }
    assert_eq!(ids[0], "abc-123");
    assert_eq!((ids[1].len(), ids[2].len()), (16, 16));
    assert_ne!(ids[1], ids[2]);
}

#[tokio::test]
async fn stop_lets_the_request_in_progress_finish() {
    let mut server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = "POST /api/v1/volumes/v/drain HTTP/1.1\r\nHost: t\r\n\
                Content-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    while server.fake.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let stop = server.stop.take().unwrap();
    stop.send(()).unwrap();
    server.fake.gate.add_permits(1);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    server.served.await.unwrap().unwrap();
}
