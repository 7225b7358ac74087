//! What OTLP/HTTP answers: the message of success, with what was rejected, in the encoding of the request.

use crate::series::{write, write_varint};
use kymo_plugin_api::{Answer, Tally};
use kymo_plugin_reading::json::quoted;

/// The answer. A request of which nothing could be read is the sender's mistake.
pub fn answer(tally: &Tally<'_>, is_json: bool, is_broken: bool) -> Answer {
    let error = tally.error.unwrap_or_default();
    let refused = is_broken && tally.rows == 0;
    let body = match (is_json, refused) {
        // google.rpc.Status; 3 is INVALID_ARGUMENT.
        (true, true) => format!("{{\"code\":3,\"message\":{}}}", quoted(error)).into_bytes(),
        (false, true) => {
            let mut out = vec![1 << 3, 3];
            write(2, error.as_bytes(), &mut out);
            out
        }
        (true, false) if tally.rejected == 0 => b"{}".to_vec(),
        (true, false) => format!(
            "{{\"partialSuccess\":{{\"rejectedDataPoints\":\"{}\",\"errorMessage\":{}}}}}",
            tally.rejected,
            quoted(error)
        )
        .into_bytes(),
        (false, false) if tally.rejected == 0 => Vec::new(),
        (false, false) => {
            let mut partial = vec![1 << 3];
            write_varint(tally.rejected, &mut partial);
            write(2, error.as_bytes(), &mut partial);
            let mut out = Vec::new();
            write(1, &partial, &mut out);
            out
        }
    };
    Answer {
        status: if refused { 400 } else { 200 },
        content_type: if is_json {
            "application/json"
        } else {
            "application/x-protobuf"
        },
        headers: Vec::new(),
        body,
    }
}
