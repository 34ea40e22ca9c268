//! A server on this computer, with the faults of servers and networks.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has never heard of ranges.
    NoRanges,
    /// The connection breaks after so many bytes of a body.
    BreaksAfter(usize),
    /// It says so at first, as often as this.
    Busy(usize),
    /// A byte is another one.
    Corrupts(u64),
    /// Bodies are cut off, and the length says so.
    Truncates,
    /// Bodies have no end.
    Endless,
    /// It sends the start of a body, and then nothing.
    Stalls,
}

/// The server; it ends with the process.
pub(crate) struct TestServer {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    fault: Mutex<Option<Fault>>,
    requests: Mutex<Vec<(String, Option<Range<u64>>)>>,
}

impl TestServer {
    pub(crate) fn new(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            files: Mutex::new(files.into_iter().collect()),
            fault: Mutex::default(),
            requests: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                // Whoever breaks off has had enough.
                std::thread::spawn(move || while serve(&shared, &stream).unwrap_or(false) {});
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn put(&self, path: &str, content: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), content);
    }

    pub(crate) fn fail(&self, fault: Option<Fault>) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// What was asked for since the last call.
    pub(crate) fn requests(&self) -> Vec<(String, Option<Range<u64>>)> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }
}

/// One request; whether there may be another one.
fn serve(shared: &Shared, mut stream: &TcpStream) -> std::io::Result<bool> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next() else { return Ok(false) };
    let path = first?.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("range: bytes=") {
            let (start, last) = text.split_once('-').unwrap();
            range = Some(start.parse::<u64>().unwrap()..last.parse::<u64>().map_or(u64::MAX, |last| last + 1));
        }
        if line.is_empty() {
            break;
        }
    }
    shared.requests.lock().unwrap().push((path.clone(), range.clone()));
    let fault = {
        let mut fault = shared.fault.lock().unwrap();
        let now = *fault;
        match now {
            Some(Fault::Busy(0)) => *fault = None,
            Some(Fault::Busy(times)) => *fault = Some(Fault::Busy(times - 1)),
            _ => {}
        }
        if now == Some(Fault::Busy(0)) { None } else { now }
    };
    if let Some(Fault::Busy(_)) = fault {
        stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let Some(mut file) = shared.files.lock().unwrap().get(&path).cloned() else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    if let Some(Fault::Corrupts(at)) = fault {
        file[at as usize] ^= 1;
    }
    let range = range.filter(|_| fault != Some(Fault::NoRanges));
    let (status, part) = match &range {
        Some(range) => ("206 Partial Content", range.start as usize..file.len().min(range.end as usize)),
        None => ("200 OK", 0..file.len()),
    };
    let mut body = &file[part.clone()];
    if fault == Some(Fault::Truncates) {
        body = &body[..body.len() / 2];
    }
    let length = if fault == Some(Fault::Endless) { u64::MAX >> 1 } else { body.len() as u64 };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
    if range.is_some() {
        head += &format!("Content-Range: bytes {}-{}/{}\r\n", part.start, part.end - 1, file.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    match fault {
        Some(Fault::BreaksAfter(count)) if body.len() > count => {
            stream.write_all(&body[..count])?;
            stream.shutdown(std::net::Shutdown::Both)?;
            Ok(false)
        }
        Some(Fault::Stalls) => {
            stream.write_all(&body[..body.len() / 2])?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(false)
        }
        Some(Fault::Endless) => loop {
            stream.write_all(&[0x55; 4096])?;
        },
        _ => stream.write_all(body).map(|()| true),
    }
}
