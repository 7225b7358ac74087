//! What is answered when something is wrong. Every error is `{"error":".."}` with the same text in `X-InfluxDB-Error`.

use super::committing::tell;
use crate::engine::{SubmitError, WriteError};
use crate::query::encode::json_text;
use crate::shard::CommitError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use kymo_plugin_api::Told;
use std::fmt::{self, Write};

/// A status and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// The status.
    pub status: StatusCode,
    /// The text.
    pub text: String,
    /// InfluxDB 2.x clients read `code` and `message`.
    pub code: Option<&'static str>,
    /// What would be right: beside the text, which has InfluxDB's form.
    pub hint: Option<String>,
    /// What of a request was not stored, and where it stands: beside the text, which has InfluxDB's form.
    pub rejections: Vec<Told>,
    /// The sequence of what of the request is stored all the same.
    pub sequence: Option<u64>,
}

/// Seconds after which a client should try again.
const RETRY_SECONDS: &str = "1";
/// Longer texts are cut off in the header.
const HEADER_BYTES_MAX: usize = 1024;

impl HttpError {
    /// An error.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            code: None,
            hint: None,
            rejections: Vec::new(),
            sequence: None,
        }
    }

    /// 400.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// The same with what was not stored.
    pub fn with_rejections(mut self, rejections: Vec<Told>) -> Self {
        self.rejections = rejections;
        self
    }

    /// The same in the form of InfluxDB 2.x.
    pub fn v2(mut self) -> Self {
        self.code = Some(match self.status {
            StatusCode::NOT_FOUND => "not found",
            StatusCode::PAYLOAD_TOO_LARGE => "request too large",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            StatusCode::BAD_REQUEST => "invalid",
            _ => "internal error",
        });
        self
    }
}

impl std::error::Error for HttpError {}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ResponseError for HttpError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = String::from("{");
        if let Some(code) = self.code {
            body.push_str("\"code\":");
            json_text(code, &mut body);
            body.push_str(",\"message\":");
            json_text(&self.text, &mut body);
            body.push(',');
        }
        body.push_str("\"error\":");
        json_text(&self.text, &mut body);
        if let Some(hint) = &self.hint {
            body.push_str(",\"hint\":");
            json_text(hint, &mut body);
        }
        for (i, told) in self.rejections.iter().enumerate() {
            body.push_str(if i == 0 { ",\"rejected\":[" } else { "," });
            let _ = write!(body, "{{\"line\":{},\"column\":{}", told.line, told.column);
            body.push_str(",\"reason\":");
            json_text(&told.reason, &mut body);
            body.push_str(",\"text\":");
            json_text(&told.text, &mut body);
            body.push('}');
        }
        if !self.rejections.is_empty() {
            body.push(']');
        }
        body.push_str("}\n");
        let shown: String = self
            .text
            .chars()
            .filter(|c| (' '..='~').contains(c))
            .take(HEADER_BYTES_MAX)
            .collect();
        let mut response = HttpResponse::build(self.status);
        response
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header(("X-InfluxDB-Error", shown));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, RETRY_SECONDS));
        }
        let mut response = response.body(body);
        tell(&mut response, self.sequence);
        response
    }
}

impl From<WriteError> for HttpError {
    fn from(error: WriteError) -> Self {
        let status = match &error {
            WriteError::Submit(SubmitError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            WriteError::Submit(_)
            | WriteError::Commit(CommitError::DiskFull | CommitError::Unsealed(_) | CommitError::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            WriteError::Commit(CommitError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}
