//! A web server with the faults of servers and networks, and of whoever runs them. A guest reaches it at 10.0.2.2, which QEMU's
//! network hands on to this machine's 127.0.0.1.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Bytes that are sent at once.
const PIECE: usize = 32 << 10;

/// What goes wrong with parts of objects. Metadata and what is fetched whole is always as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Whoever asks is hung up on, whatever it is.
    Down,
    /// A bit of each piece is another one.
    Corrupts,
    /// The link is slow, and of each hundred pieces one is lost with its connection.
    SlowAndLossy,
    /// Nothing more comes after so many bytes: the link is dead.
    StopsAfter(u64),
}

/// Serves a folder until the test's process ends.
#[derive(Debug)]
pub struct WebServer {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    /// Bytes of objects that were sent.
    sent: u64,
    pieces: u64,
    requests: Vec<String>,
}

impl WebServer {
    /// Serves `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("opening a port")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { folder: folder.to_owned(), state: Mutex::default(), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                // Whoever breaks off has had enough.
                std::thread::spawn(move || while shared.serve(&stream).unwrap_or(false) {});
            }
        });
        Ok(Self { port, shared })
    }

    /// Its address as guests know it.
    pub fn address(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// What goes wrong from now on; counts anew.
    pub fn fail(&self, fault: Fault) {
        *self.shared.state() = State { fault, ..State::default() };
    }

    /// Bytes of objects that were sent since the last call of [`WebServer::fail`].
    pub fn sent(&self) -> u64 {
        self.shared.state().sent
    }

    /// Paths that were asked for since then.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Waits until so many bytes of objects were sent.
    pub fn wait_sent(&self, bytes: u64, timeout: Duration) -> Result<()> {
        let state = self.shared.state();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |state| state.sent < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            bail!("only {} of {bytes} bytes were asked for", state.sent);
        }
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request; whether there may be another one.
    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<bool> {
        let mut lines = BufReader::new(stream).lines();
        let Some(first) = lines.next() else { return Ok(false) };
        let path = first?.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let mut range = None;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if let Some((start, last)) = line.strip_prefix("range: bytes=").and_then(|text| text.split_once('-')) {
                range = Some((start.parse().unwrap_or(0), last.parse::<u64>().map_or(u64::MAX, |last| last + 1)));
            }
            if line.is_empty() {
                break;
            }
        }
        self.state().requests.push(path.clone());
        if self.state().fault == Fault::Down {
            return Ok(false);
        }
        let file = self.folder.join(&path);
        let Ok(mut content) = std::fs::File::open(&file) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        };
        let size = content.metadata()?.len();
        let (start, end) = range.map_or((0, size), |(start, end): (u64, u64)| (start, end.min(size)));
        let mut head = match range {
            Some(_) => format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}\r\n", end - 1),
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        head += &format!("Content-Length: {}\r\n\r\n", end - start);
        stream.write_all(head.as_bytes())?;
        content.seek(SeekFrom::Start(start))?;
        let is_object = path.starts_with("objects/");
        let mut left = (end - start) as usize;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let count = left.min(PIECE);
            content.read_exact(&mut piece[..count])?;
            if is_object && range.is_some() && !self.spoil(&mut piece[..count]) {
                stream.shutdown(std::net::Shutdown::Both)?;
                return Ok(false);
            }
            stream.write_all(&piece[..count])?;
            left -= count;
        }
        Ok(true)
    }

    /// Does to a piece what is to be done; false when the connection breaks.
    fn spoil(&self, piece: &mut [u8]) -> bool {
        let mut state = self.state();
        state.pieces += 1;
        match state.fault {
            Fault::None | Fault::Down => {}
            Fault::Corrupts => piece[piece.len() / 2] ^= 1,
            Fault::SlowAndLossy if state.pieces.is_multiple_of(100) => return false,
            Fault::SlowAndLossy => {
                drop(state);
                std::thread::sleep(Duration::from_millis(10));
                state = self.state();
            }
            Fault::StopsAfter(_) => {
                // The connection stays, and nothing comes.
                let waiting = self
                    .changed
                    .wait_while(state, |state| matches!(state.fault, Fault::StopsAfter(limit) if state.sent >= limit));
                state = waiting.unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.sent += piece.len() as u64;
        self.changed.notify_all();
        true
    }
}
