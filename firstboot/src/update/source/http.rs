//! A server that speaks HTTP.

use std::io;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::{Answer, Patience, Server, SourceError};

/// A server that speaks HTTP/1.1.
#[derive(Debug)]
pub struct Http {
    agent: Agent,
    /// Without a slash at its end.
    base: String,
}

impl Http {
    /// The one at this address, such as `http://updates.lan/larder`.
    pub fn new(base: &str, patience: &Patience) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.stall))
            .timeout_connect(Some(patience.stall))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall));
        Self { agent: config.build().new_agent(), base: base.trim_end_matches('/').to_owned() }
    }
}

impl Server for Http {
    fn get(&self, path: &str, from: u64, to: Option<u64>) -> Result<Answer, SourceError> {
        let mut request = self.agent.get(format!("{}/{path}", self.base));
        if from > 0 || to.is_some() {
            let last = to.map(|to| (to - 1).to_string()).unwrap_or_default();
            request = request.header(header::RANGE, format!("bytes={from}-{last}"));
        }
        let response = request.call().map_err(|error| classify(&error))?;
        let offset = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => first_byte(&response).unwrap_or(from),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(SourceError::NotFound(path.to_owned())),
            status => return Err(SourceError::Status { status: status.as_u16(), retry_after: retry_after(&response) }),
        };
        // Counted by whoever reads: the limit of ureq itself would be an error in the middle.
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Answer { offset, body: Box::new(body) })
    }
}

/// The first number of `Content-Range: bytes 100-199/200`.
fn first_byte(response: &Response<Body>) -> Option<u64> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// `Retry-After`, in its form of seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn classify(error: &ureq::Error) -> SourceError {
    use ureq::{Error, Timeout};
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            SourceError::Unreachable(error.to_string())
        }
        Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            SourceError::Unreachable("nobody listens there".to_owned())
        }
        _ => SourceError::Interrupted(error.to_string()),
    }
}
