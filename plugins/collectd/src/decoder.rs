//! Makes rows of packets: values, and notifications.

use crate::packet::{self, part};
use crate::types::Types;
use kymo_plugin_api::series::{PlainSpelling, column_of};
use kymo_plugin_api::{
    Decoder, Field, Origin, Rejection, Row, RowSink, SeriesParts, SeriesRef, SeriesSpelling, Value,
};

/// The measurement of notifications.
const NOTIFICATIONS: &str = "collectd_notifications";

/// The decoder of a socket.
pub struct CollectdDecoder {
    types: Types,
    join: bool,
    /// Reused from row to row.
    measurement: String,
    spelling: Vec<u8>,
}

/// What parts have said so far; each holds until it is said again, or to the end of the packet.
#[derive(Default)]
struct State<'a> {
    packet: &'a [u8],
    host: &'a str,
    plugin: &'a str,
    plugin_instance: &'a str,
    kind: &'a str,
    kind_instance: &'a str,
    time: Option<i64>,
    severity: u64,
}

impl Decoder for CollectdDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        let mut state = State::default();
        let mut rest = piece;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let at = piece.len() - rest.len();
            let read = match packet::split(rest) {
                Some((kind, content, after)) => {
                    let origin = Origin {
                        line: number,
                        text: &rest[..rest.len() - after.len()],
                    };
                    rest = after;
                    state.packet = piece;
                    self.part(kind, content, origin, &mut state, sink)
                }
                None => Err("part is cut off"),
            };
            // What follows a broken part cannot be trusted: its state may be another's.
            if let Err(reason) = read {
                return sink.reject(&Rejection {
                    origin: Origin {
                        line: number,
                        text: piece,
                    },
                    column: at as u64 + 1,
                    reason,
                    context: &[],
                });
            }
        }
    }
}

impl CollectdDecoder {
    pub fn new(types: Types, join: bool) -> Self {
        Self {
            types,
            join,
            measurement: String::new(),
            spelling: Vec::new(),
        }
    }

    fn part<'a>(
        &mut self,
        kind: u16,
        content: &'a [u8],
        origin: Origin<'_>,
        state: &mut State<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), &'static str> {
        let text = || packet::text(content).ok_or("invalid text");
        let number = || packet::number(content).ok_or("invalid number");
        match kind {
            part::HOST => state.host = text()?,
            part::PLUGIN => state.plugin = text()?,
            part::PLUGIN_INSTANCE => state.plugin_instance = text()?,
            part::TYPE => state.kind = text()?,
            part::TYPE_INSTANCE => state.kind_instance = text()?,
            part::TIME => {
                let seconds = i64::try_from(number()?).ok();
                let time = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
                state.time = Some(time.ok_or("time outside range")?);
            }
            part::TIME_FINE => {
                // Units of 2^-30 seconds.
                let time = (u128::from(number()?) * 1_000_000_000) >> 30;
                state.time = Some(i64::try_from(time).map_err(|_| "time outside range")?);
            }
            part::SEVERITY => state.severity = number()?,
            part::VALUES => self.values(content, origin, state, sink)?,
            part::MESSAGE => self.notification(text()?, origin, state, sink),
            part::ENCRYPTED => return Err("encrypted (set SecurityLevel to None or Sign)"),
            // A signature says who sent it, which nobody here asks. Intervals and later parts say nothing that is stored.
            part::SIGNATURE => {}
            _ => {}
        }
        Ok(())
    }

    fn values(
        &mut self,
        content: &[u8],
        origin: Origin<'_>,
        state: &State<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), &'static str> {
        let values = packet::values(content).ok_or("invalid values")?;
        if state.plugin.is_empty() {
            return Err("values without a plugin");
        }
        let count = values.len();
        let mut fields = Vec::new();
        for (index, value) in values.enumerate() {
            if !value.is_finite() {
                sink.skip(1);
                continue;
            }
            let name = self.types.name(state.kind, index, count);
            if self.join {
                fields.push(Field::new(name, Value::Float(value)));
                continue;
            }
            self.measurement.clear();
            self.measurement.push_str(state.plugin);
            self.measurement.push('_');
            self.measurement.push_str(name);
            let fields = [Field::new("value", Value::Float(value))];
            row(
                &self.measurement,
                &fields,
                &mut self.spelling,
                origin,
                state,
                sink,
            );
        }
        if !fields.is_empty() {
            row(state.plugin, &fields, &mut self.spelling, origin, state, sink);
        }
        Ok(())
    }

    fn notification(&mut self, message: &str, origin: Origin<'_>, state: &State<'_>, sink: &mut dyn RowSink) {
        let severity = match state.severity {
            1 => "failure",
            2 => "warning",
            4 => "okay",
            _ => "unknown",
        };
        let fields = [
            Field::new("severity", Value::String(severity)),
            Field::new("message", Value::String(message)),
        ];
        row(NOTIFICATIONS, &fields, &mut self.spelling, origin, state, sink);
    }
}

/// Reads the series of a row, whose parts stand in the packet before it.
struct Parts<'a> {
    state: &'a State<'a>,
    /// The number of the part that says the values.
    before: u64,
}

impl Parts<'_> {
    /// The column in the packet of the part of one of these kinds that holds here, or of the one with the values.
    fn column(&self, kinds: &[u16]) -> Option<u64> {
        let (mut rest, mut found) = (self.state.packet, None);
        for _ in 0..self.before {
            let (kind, _, after) = packet::split(rest)?;
            if kinds.contains(&kind) {
                found = column_of(self.state.packet, rest);
            }
            rest = after;
        }
        found
    }
}

impl SeriesSpelling for Parts<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let mut parts = SeriesParts::default();
        PlainSpelling.read(spelling, &mut parts).ok()?;
        self.column(&[match parts.tags.get(tag)?.0.as_str() {
            "host" => part::HOST,
            "plugin" => part::PLUGIN,
            "instance" => part::PLUGIN_INSTANCE,
            "type" => part::TYPE,
            _ => part::TYPE_INSTANCE,
        }])
    }

    fn field_column(&self, _: &[u8], _: usize, _: &str) -> Option<u64> {
        self.column(&[part::VALUES, part::MESSAGE])
    }

    fn time_column(&self, _: &[u8]) -> Option<u64> {
        self.column(&[part::TIME, part::TIME_FINE])
    }
}

fn row(
    measurement: &str,
    fields: &[Field<'_>],
    spelling: &mut Vec<u8>,
    origin: Origin<'_>,
    state: &State<'_>,
    sink: &mut dyn RowSink,
) {
    let is_notification = measurement == NOTIFICATIONS;
    let tags = [
        ("host", state.host),
        // Of values, the measurement says it.
        ("plugin", if is_notification { state.plugin } else { "" }),
        ("instance", state.plugin_instance),
        ("type", state.kind),
        ("type_instance", state.kind_instance),
    ];
    let mut given = [("", ""); 5];
    let mut count = 0;
    for tag in tags.iter().filter(|(_, value)| !value.is_empty()) {
        given[count] = *tag;
        count += 1;
    }
    SeriesParts::spell(measurement, &given[..count], spelling);
    sink.row(&Row {
        series: SeriesRef {
            spelling,
            reader: &Parts {
                state,
                before: origin.line,
            },
        },
        time: state.time,
        fields,
        origin,
    });
}
