//! A small HTTP server with faults.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// First byte of `Range: bytes=N-`.
    pub range: Option<usize>,
    pub if_range: Option<String>,
    /// ETag or date of `If-None-Match` or `If-Modified-Since`.
    pub unless: Option<String>,
    /// How many requests came before.
    pub nth: usize,
}

/// What the server does.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    announced: Option<usize>,
    endless: bool,
    stall: Duration,
    hold: Duration,
}

impl Reply {
    /// The whole file, whatever range was asked for.
    pub fn whole(body: &[u8]) -> Self {
        Self { announced: Some(body.len()), ..Self::unframed(body) }
    }

    /// The body ends where the connection does.
    pub fn unframed(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: String::new(),
            body: body.to_owned(),
            announced: None,
            endless: false,
            stall: Duration::ZERO,
            hold: Duration::ZERO,
        }
    }

    /// The file from the byte asked for.
    pub fn ranged(body: &[u8], request: &Request) -> Self {
        let Some(first) = request.range else {
            return Self::whole(body);
        };
        let range = format!("bytes {first}-{}/{}", body.len() - 1, body.len());
        Self { status: 206, ..Self::whole(&body[first..]) }.header("Content-Range", &range)
    }

    pub fn status(status: u16) -> Self {
        Self { status, ..Self::whole(b"") }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// Announces all, sends `length` bytes and hangs up.
    pub fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }

    pub fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    /// Keeps the connection for so long after the body, silently.
    pub fn hold(mut self, pause: Duration) -> Self {
        self.hold = pause;
        self
    }

    /// Waits before the body.
    pub fn stall(mut self, pause: Duration) -> Self {
        self.stall = pause;
        self
    }
}

/// Runs until the test's process ends.
#[derive(Debug)]
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<HashMap<String, usize>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, requests: Arc::default(), sent: Arc::default(), connections: Arc::default() };
        let (requests, sent, connections) = (server.requests.clone(), server.sent.clone(), server.connections.clone());
        let handler = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (handler, requests, sent) = (handler.clone(), requests.clone(), sent.clone());
                thread::spawn(move || while answer(&stream, &*handler, &requests, &sent) == Some(()) {});
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bytes of this file that went out, over all requests.
    pub fn sent(&self, path: &str) -> usize {
        self.sent.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One request on a connection; `None` when the connection is over.
fn answer(
    stream: &TcpStream,
    handler: &dyn Fn(&Request) -> Reply,
    requests: &Mutex<Vec<Request>>,
    sent: &Mutex<HashMap<String, usize>>,
) -> Option<()> {
    let mut request = read_request(stream)?;
    let reply = {
        let mut requests = requests.lock().unwrap();
        request.nth = requests.len();
        requests.push(request.clone());
        drop(requests);
        handler(&request)
    };
    let mut out = stream;
    let length = reply.announced.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    write!(out, "HTTP/1.1 {} Test\r\n{}{length}\r\n", reply.status, reply.headers).ok()?;
    thread::sleep(reply.stall);
    out.write_all(&reply.body).ok()?;
    *sent.lock().unwrap().entry(request.path).or_default() += reply.body.len();
    thread::sleep(reply.hold);
    if reply.endless {
        while out.write_all(&[b'x'; 4096]).is_ok() {}
    }
    (reply.announced == Some(reply.body.len())).then_some(())
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    // Clients here do not pipeline: nothing is lost with the reader.
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let mut request = Request { path, range: None, if_range: None, unless: None, nth: 0 };
    for line in lines {
        let line = line.ok()?;
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "range" => {
                request.range = Some(value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?);
            }
            Some((name, value)) if name == "if-range" => request.if_range = Some(value.to_owned()),
            Some((name, value)) if name == "if-none-match" || name == "if-modified-since" => {
                request.unless = Some(value.to_owned());
            }
            Some(_) => {}
            None => return Some(request),
        }
    }
    None
}
