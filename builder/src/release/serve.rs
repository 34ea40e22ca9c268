//! `larder serve`: a web server for the folder of `larder publish`, to try it at home.
//!
//! It does what every static server does, and an appliance needs: GET, HEAD, and one range of bytes.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use tiny_http::{Header, Method, Request, Response, Server, StatusCode};

use crate::report::Mistake;

/// Requests that are answered at once; a slow reader keeps one of them busy.
const WORKERS: usize = 8;

/// A server that listens.
pub struct Serving {
    server: Arc<Server>,
    folder: PathBuf,
    address: SocketAddr,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Serving({} at {})", self.folder.display(), self.address)
    }
}

impl Serving {
    /// Listens. Port 0 takes any that is free.
    ///
    /// # Errors
    /// A [`Mistake`]: no such folder, or the port is taken.
    pub fn listen(folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            return Err(Mistake::new(format!("{}: no such folder", folder.display()))
                .hint("make one: `larder publish BUILD --to DIR`")
                .into());
        }
        let listener = TcpListener::bind(address).map_err(|error| {
            Mistake::new(format!("{address} cannot be listened at")).because(error).hint("name another one: --port N")
        })?;
        let address = listener.local_addr()?;
        let server =
            Server::from_listener(listener, None).map_err(|error| anyhow::anyhow!("starting the server: {error}"))?;
        Ok(Self { server: Arc::new(server), folder: fs_err::canonicalize(folder)?, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until [`Serving::stop`]; `say` is told each request and its answer.
    pub fn run(&self, say: impl Fn(&str) + Sync) {
        thread::scope(|threads| {
            for _ in 0..WORKERS {
                threads.spawn(|| {
                    while let Ok(request) = self.server.recv() {
                        answer(request, &self.folder, &say);
                    }
                });
            }
        });
    }

    /// Makes [`Serving::run`] return.
    pub fn stop(&self) {
        (0..WORKERS).for_each(|_| self.server.unblock());
    }
}

fn answer(request: Request, folder: &Path, say: &impl Fn(&str)) {
    let line = format!("{} {}", request.method(), request.url());
    let range = request.headers().iter().find(|header| header.field.equiv("Range"));
    let range = range.map(|header| header.value.to_string());
    let response = match respond(request.method(), request.url(), range.as_deref(), folder) {
        Ok(response) => response,
        Err(status) => Answer::empty(status),
    };
    say(&format!("{line}{}: {}", range.map(|range| format!(" ({range})")).unwrap_or_default(), response.status.0));
    // Whoever asked may be gone.
    let _ = request.respond(response.into_response());
}

/// What is sent.
struct Answer {
    status: StatusCode,
    body: Option<std::io::Take<File>>,
    length: u64,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn empty(status: u16) -> Self {
        Self { status: StatusCode(status), body: None, length: 0, headers: Vec::new() }
    }

    fn into_response(self) -> Response<Box<dyn std::io::Read + Send>> {
        let body: Box<dyn std::io::Read + Send> = match self.body {
            Some(body) => Box::new(body),
            None => Box::new(std::io::empty()),
        };
        let headers = self.headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, value.as_bytes()).ok());
        Response::new(self.status, headers.collect(), body, Some(self.length as usize), None)
            .with_chunked_threshold(usize::MAX)
    }
}

fn respond(method: &Method, url: &str, range: Option<&str>, folder: &Path) -> Result<Answer, u16> {
    if !matches!(method, Method::Get | Method::Head) {
        return Err(405);
    }
    let path = locate(url, folder).ok_or(404_u16)?;
    let mut file = File::open(path).map_err(|_| 404_u16)?;
    let metadata = file.metadata().map_err(|_| 500_u16)?;
    if !metadata.is_file() {
        return Err(404);
    }
    let size = metadata.len();
    let mut headers =
        vec![("Accept-Ranges", "bytes".to_owned()), ("Content-Type", "application/octet-stream".to_owned())];
    let (status, part) = match range.map(|range| byte_range(range, size)) {
        None | Some(Asked::Everything) => (200, 0..size),
        Some(Asked::Part(part)) => {
            headers.push(("Content-Range", format!("bytes {}-{}/{size}", part.start, part.end - 1)));
            (206, part)
        }
        Some(Asked::Nothing) => {
            let headers = vec![("Content-Range", format!("bytes */{size}"))];
            return Ok(Answer { headers, ..Answer::empty(416) });
        }
    };
    file.seek(SeekFrom::Start(part.start)).map_err(|_| 500_u16)?;
    let length = part.end - part.start;
    Ok(Answer { status: StatusCode(status), body: Some(file.take(length)), length, headers })
}

/// The file that an address names; nothing outside of the folder, and nothing hidden.
fn locate(url: &str, folder: &Path) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let plain =
        |part: Component<'_>| matches!(part, Component::Normal(name) if !name.to_string_lossy().starts_with('.'));
    let path = Path::new(path);
    if path.as_os_str().is_empty() || !path.components().all(plain) {
        return None;
    }
    // A link may lead elsewhere.
    let path = folder.join(path).canonicalize().ok()?;
    path.starts_with(folder).then_some(path)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Everything,
    Part(Range<u64>),
    Nothing,
}

/// One range (RFC 9110, 14.1.2); what is not understood is ignored, as are several at once.
fn byte_range(header: &str, size: u64) -> Asked {
    let parse = || {
        let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => Some(size.saturating_sub(last.parse::<u64>().ok()?)..size),
            (false, true) => Some(first.parse().ok()?..size),
            (false, false) => {
                let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
                (first <= last).then(|| first..last.saturating_add(1).min(size))
            }
        }
    };
    match parse() {
        None => Asked::Everything,
        Some(part) if part.start >= size || part.is_empty() => Asked::Nothing,
        Some(part) => Asked::Part(part),
    }
}

/// Says where it is served, for an address that listens.
///
/// # Errors
/// Nothing but what printing gives.
pub fn announce(serving: &Serving) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "http://{}/", serving.address()).and_then(|()| out.flush()).context("printing the address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        assert_eq!(byte_range("bytes=0-9", 100), Asked::Part(0..10));
        assert_eq!(byte_range("bytes=90-", 100), Asked::Part(90..100));
        assert_eq!(byte_range("bytes=-5", 100), Asked::Part(95..100));
        assert_eq!(byte_range("bytes=90-500", 100), Asked::Part(90..100));
        assert_eq!(byte_range("bytes=100-", 100), Asked::Nothing);
        assert_eq!(byte_range("bytes=0-18446744073709551615", 100), Asked::Part(0..100));
        for other in ["bytes=5-1", "bytes=-", "bytes=0-1,4-5", "lines=1-2", "bytes", ""] {
            assert_eq!(byte_range(other, 100), Asked::Everything, "{other}");
        }
    }

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().canonicalize().unwrap().join("site");
        fs_err::create_dir_all(site.join("objects")).unwrap();
        fs_err::write(folder.path().join("secret"), "").unwrap();
        fs_err::write(site.join("objects/1"), "").unwrap();
        fs_err::write(site.join("objects/.new"), "").unwrap();
        std::os::unix::fs::symlink("../secret", site.join("link")).unwrap();
        assert!(locate("/objects/1?x", &site).is_some());
        for other in
            ["/../secret", "/objects/../../secret", "//secret", "/link", "/objects/.new", "/", "", "/%2e%2e/secret"]
        {
            assert_eq!(locate(other, &site), None, "{other}");
        }
    }
}
