//! What OpenTSDB answers to `/api/put`: nothing when all is well, and counts and errors to those that ask.

use kymo_plugin_api::{Answer, Tally, Told};
use kymo_plugin_reading::json::quoted;

/// What the sender asked for.
pub struct Reply {
    /// How many were stored, and how many not.
    pub summary: bool,
    /// What was wrong, too.
    pub details: bool,
}

impl Reply {
    /// The answer.
    pub fn answer(&self, tally: &Tally<'_>) -> Answer {
        let status = match (tally.rejected, self.summary || self.details) {
            (0, false) => 204,
            (0, true) => 200,
            _ => 400,
        };
        let body = if self.details || self.summary {
            let mut body = String::from("{");
            if self.details {
                body.push_str("\"errors\":[");
                for (at, told) in tally.rejections.iter().enumerate() {
                    body.push_str(if at == 0 { "" } else { "," });
                    body.push_str(&error(told));
                }
                body.push_str("],");
            }
            let (failed, stored) = (tally.rejected, tally.rows);
            body + &format!("\"failed\":{failed},\"success\":{stored}}}")
        } else {
            match tally.error {
                None => String::new(),
                Some(error) => format!(
                    "{{\"error\":{{\"code\":400,\"message\":\"One or more data points had errors\",\"details\":{}}}}}",
                    quoted(error)
                ),
            }
        };
        Answer {
            status,
            content_type: if body.is_empty() {
                ""
            } else {
                "application/json; charset=UTF-8"
            },
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }
}

fn error(told: &Told) -> String {
    // The datapoint is JSON when it came as JSON and was not cut off.
    let is_json = told.text.starts_with('{') && told.text.ends_with('}');
    let datapoint = if is_json {
        told.text.clone()
    } else {
        quoted(&told.text)
    };
    format!("{{\"datapoint\":{datapoint},\"error\":{}}}", quoted(&told.reason))
}
