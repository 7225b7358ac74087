//! Requests to a running server.

use super::ServerArgs;
use anyhow::{Context, anyhow, bail};
use std::io::ErrorKind;
use std::time::Duration;
use ureq::Timeout;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(600);

/// An answer: status and body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// When to ask again, if it says so.
    pub retry_after: Option<Duration>,
}

/// A client with its connections.
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    /// Of a server.
    pub fn new(server: &ServerArgs) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            .build();
        Self {
            agent: config.into(),
            url: server.url.trim_end_matches('/').to_string(),
        }
    }

    fn answer(&self, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Answer> {
        let mut response = sent.map_err(|error| anyhow!("{}", unanswered(&self.url, &error)))?;
        let status = response.status().as_u16();
        let header = response.headers().get("Retry-After");
        let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
        Ok(Answer {
            status,
            body: body.context("cannot read the answer")?,
            retry_after,
        })
    }

    /// Runs a query text.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn query(&self, parameters: &[(&str, &str)], accept: &str) -> anyhow::Result<Answer> {
        let request = self
            .agent
            .post(format!("{}/query", self.url))
            .header("Accept", accept);
        self.answer(request.send_form(parameters.iter().copied()))
    }

    /// GET, POST or DELETE of a path, without a body.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn call(&self, method: &str, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        let with = |key: &str, value: &String| (key.to_string(), value.clone());
        let parameters: Vec<(String, String)> = parameters.iter().map(|(k, v)| with(k, v)).collect();
        let sent = match method {
            "POST" => self.agent.post(url).query_pairs(parameters).send_empty(),
            "DELETE" => self.agent.delete(url).query_pairs(parameters).call(),
            _ => self.agent.get(url).query_pairs(parameters).call(),
        };
        self.answer(sent)
    }

    /// Posts a gzip-compressed body, and waits so long for the answer.
    ///
    /// # Errors
    /// The server cannot be reached, or does not answer in time.
    pub fn write(
        &self,
        parameters: &[(String, String)],
        body: &[u8],
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .agent
            .post(format!("{}/write", self.url))
            .header("Content-Encoding", "gzip")
            .config()
            .timeout_global(Some(patience))
            .build();
        for (key, value) in parameters {
            request = request.query(key, value);
        }
        self.answer(request.send(body))
    }
}

/// Why there is no answer. One that was reached is running: a server that has more to do than it can ends connections whose body it
/// will not read, and the end may come before what it said.
fn unanswered(url: &str, error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(broken)
            if matches!(
                broken.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
            ) =>
        {
            format!("the server at {url} ended the connection: {error}; it may be overloaded, or stopping")
        }
        ureq::Error::Timeout(Timeout::Global | Timeout::RecvResponse | Timeout::RecvBody) => {
            format!("the server at {url} does not answer in time: {error}")
        }
        _ => format!("cannot reach the server at {url}: {error}; is it running? start one with `kymo serve`"),
    }
}

/// The text of an error answer, with its hint.
pub fn error_of(answer: &Answer) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    let named = |name: &str| parsed.as_ref().and_then(|v| v[name].as_str());
    let text = named("error").unwrap_or(answer.body.trim());
    match named("hint") {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text.to_string(),
    }
}

/// Fails with an answer's error unless it is good.
///
/// # Errors
/// The answer's.
pub fn check(answer: Answer) -> anyhow::Result<String> {
    if (200..300).contains(&answer.status) {
        return Ok(answer.body);
    }
    bail!("{}", error_of(&answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn only_who_was_not_reached_is_asked_whether_it_runs() {
        let said = |kind: ErrorKind| unanswered("u", &ureq::Error::Io(io::Error::from(kind)));
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
            let said = said(kind);
            assert!(
                said.starts_with("the server at u ended the connection: "),
                "{said}"
            );
        }
        let said = said(ErrorKind::ConnectionRefused);
        assert!(
            said.starts_with("cannot reach the server at u: ") && said.contains("is it running?"),
            "{said}"
        );
        let said = unanswered("u", &ureq::Error::Timeout(Timeout::Global));
        assert!(
            said.starts_with("the server at u does not answer in time: "),
            "{said}"
        );
        let said = unanswered("u", &ureq::Error::Timeout(Timeout::Connect));
        assert!(said.starts_with("cannot reach the server at u: "), "{said}");
    }
}
