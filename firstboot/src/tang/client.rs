//! Asking a Tang server. Whatever it does, it is not waited for without an end, and no more is read than it may say.

use std::io;
use std::time::{Duration, Instant};

use ureq::http::{StatusCode, header};
use ureq::{Agent, Body, Error};

use super::{Advertisement, Bound, Refused, Server, Why};
use crate::settings::TangUrl;

/// For an answer, from the look-up of the name to its last byte.
const TIME: Duration = Duration::from_secs(5);
/// The most that an answer may have; a set of keys has some hundred bytes for each.
const SIZE: u64 = 64 << 10;
/// How long a network may take to come up.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two attempts meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks servers.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    patience: Duration,
}

impl Client {
    /// One that asks once.
    pub fn new() -> Self {
        Self::with(TIME, Duration::ZERO)
    }

    /// One that gives the network time to come up.
    pub fn patient() -> Self {
        Self::with(TIME, PATIENCE)
    }

    pub(super) fn with(time: Duration, patience: Duration) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(time));
        Self { agent: config.build().new_agent(), patience }
    }

    /// What a server advertises, if it is the one that is meant.
    ///
    /// # Errors
    /// It is not, or does not answer.
    pub fn advertisement(&self, server: &Server) -> Result<Advertisement, Refused> {
        let url = address(&server.url, &server.pin.path());
        let answer = self.ask(|agent| agent.get(&url).call()).map_err(|why| match why {
            // It does not know, or has forgotten, the key that it is asked to sign with.
            Why::Status(404) => Why::Stranger(server.pin.describe()),
            why => why,
        });
        let read = answer.and_then(|answer| Advertisement::read(&answer, &server.pin));
        read.map_err(|why| Refused { url: server.url.clone(), why })
    }

    /// Has a server do its part for a point, which is JSON, and so is the answer.
    pub(super) fn recover(&self, url: &TangUrl, bound: &Bound, point: &str) -> Result<Vec<u8>, Why> {
        let url = address(url, &format!("rec/{}", bound.server.thumbprint()));
        let ask = |agent: &Agent| agent.post(&url).header(header::CONTENT_TYPE, "application/jwk+json").send(point);
        self.ask(ask).map_err(|why| if why == Why::Status(404) { Why::Rotated } else { why })
    }

    fn ask(&self, ask: impl Fn(&Agent) -> Result<ureq::http::Response<Body>, Error>) -> Result<Vec<u8>, Why> {
        let end = Instant::now() + self.patience;
        loop {
            let result = ask(&self.agent).and_then(|response| {
                let status = response.status();
                Ok((status, response.into_body().into_with_config().limit(SIZE).read_to_vec()?))
            });
            match result {
                Ok((StatusCode::OK, body)) => return Ok(body),
                Ok((status, _)) => return Err(Why::Status(status.as_u16())),
                Err(error) => match explain(&error) {
                    Why::Unreachable(_) if Instant::now() < end => std::thread::sleep(PAUSE),
                    why => return Err(why),
                },
            }
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

fn address(url: &TangUrl, path: &str) -> String {
    format!("{}/{path}", url.as_str().trim_end_matches('/'))
}

fn explain(error: &Error) -> Why {
    match error {
        Error::BodyExceedsLimit(limit) => Why::Nonsense(format!("more than the {limit} bytes that it may say")),
        Error::Protocol(error) => Why::Nonsense(error.to_string()),
        Error::Timeout(_) => Why::Unreachable(format!("no answer within {} s", TIME.as_secs())),
        Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            Why::Unreachable("nobody listens there".to_owned())
        }
        error => Why::Unreachable(error.to_string()),
    }
}
