//! One HTTP request: what is asked, how answers and errors are read.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::error::FetchError;
use super::retry::Patience;

/// Connections to one server at a time.
pub(super) const CONNECTIONS: usize = 8;

/// The pool of connections. Proxies come from the environment (`http_proxy`, `no_proxy`, …), trusted
/// certificates from the system, so that networks with their own authority work.
pub(super) fn agent(patience: &Patience) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.stall))
        .timeout_per_read(Some(patience.stall))
        .max_idle_connections(2 * CONNECTIONS)
        .max_idle_connections_per_host(CONNECTIONS);
    config.build().new_agent()
}

/// The part of a file that is already here, and how to recognise the version it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume<'a> {
    /// Bytes already here.
    pub offset: u64,
    /// ETag or Last-Modified, when this run has seen one.
    pub validator: Option<&'a str>,
}

/// An answer with a body worth reading.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where in the file the body starts: 0 when the server ignored the range.
    pub offset: u64,
    /// Recognises this version of the file in a later request.
    pub validator: Option<String>,
    /// Length of the whole file, when the server says.
    pub length: Option<u64>,
    body: Body,
}

impl Answer {
    /// The body.
    pub fn reader(&mut self) -> impl Read + '_ {
        self.body.as_reader()
    }
}

/// Asks for a file, or for the rest of it.
pub(super) fn ask(agent: &Agent, url: &str, resume: Option<Resume<'_>>) -> Result<Answer, FetchError> {
    let mut request = agent.get(url);
    if let Some(Resume { offset, validator }) = resume {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
        if let Some(validator) = validator {
            request = request.header(header::IF_RANGE, validator);
        }
    }
    judge(url, request.call().map_err(|error| classify(url, error))?)
}

/// Asks for a file; `None` when it still is the version with this validator.
pub(super) fn ask_again(agent: &Agent, url: &str, validator: &str) -> Result<Option<Answer>, FetchError> {
    let condition = if validator.starts_with('"') { header::IF_NONE_MATCH } else { header::IF_MODIFIED_SINCE };
    let response = agent.get(url).header(condition, validator).call().map_err(|error| classify(url, error))?;
    if response.status() == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    judge(url, response).map(Some)
}

fn judge(url: &str, response: Response<Body>) -> Result<Answer, FetchError> {
    let url = url.to_owned();
    match response.status() {
        StatusCode::OK => Ok(answer(response, 0)),
        StatusCode::PARTIAL_CONTENT => {
            let (first, length) = content_range(&response).unwrap_or_default();
            Ok(Answer { length, ..answer(response, first) })
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound { url }),
        status => {
            let (status, retry_after) = (status.as_u16(), retry_after(&response));
            Err(FetchError::Status { url, status, retry_after })
        }
    }
}

fn answer(response: Response<Body>, offset: u64) -> Answer {
    let validator = validator(&response);
    let (_, body) = response.into_parts();
    Answer { offset, validator, length: body.content_length(), body }
}

/// RFC 9110, 13.1.5: only a strong ETag or a date may go into `If-Range`.
fn validator(response: &Response<Body>) -> Option<String> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let etag = header(header::ETAG).filter(|etag| etag.starts_with('"'));
    etag.or_else(|| header(header::LAST_MODIFIED)).map(str::to_owned)
}

/// First byte and total length of `Content-Range: bytes 100-199/200`.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    parse_content_range(response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, length.parse().ok()))
}

/// `Retry-After`, in its form of seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Tells "nobody there" from "the transfer broke" from "no address at all".
pub(super) fn classify(url: &str, error: ureq::Error) -> FetchError {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    use ureq::{Error, Timeout};
    let url = url.to_owned();
    match &error {
        Error::BadUri(_) | Error::Http(_) => FetchError::BadUrl { url, source: Box::new(error) },
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            FetchError::Unreachable { url, reason: error.to_string() }
        }
        Error::Io(io)
            if matches!(
                io.kind(),
                ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable
            ) =>
        {
            FetchError::Unreachable { url, reason: io.to_string() }
        }
        // The standard library gives a failed look-up no kind of its own, only this text.
        Error::Io(io) if io.to_string().starts_with("failed to lookup address") => {
            FetchError::Unreachable { url, reason: "the server's name cannot be resolved".to_owned() }
        }
        _ => FetchError::Interrupted { url, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(parse_content_range("bytes 100-199/*"), Some((100, None)));
        for bad in ["", "bytes", "bytes */200", "items 1-2/3", "bytes x-2/3"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
