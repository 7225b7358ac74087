//! The formats this server knows. A new format is one crate, one cargo feature, and one line in [`Registry::standard`].

use kymo_plugin_api::{Format, Framing, OptionError, Options};

/// Formats by name, content type and path.
pub struct Registry {
    formats: Vec<Box<dyn Format>>,
}

impl Registry {
    /// All formats this binary was built with.
    pub fn standard() -> Self {
        Self::of(vec![
            #[cfg(feature = "line-protocol")]
            Box::new(kymo_line_protocol::LineProtocol),
            #[cfg(feature = "statsd")]
            Box::new(kymo_statsd::Statsd),
            #[cfg(feature = "json")]
            Box::new(kymo_json::Json),
            #[cfg(feature = "csv")]
            Box::new(kymo_csv::Csv),
            #[cfg(feature = "protobuf")]
            Box::new(kymo_protobuf::Protobuf),
            #[cfg(feature = "flatbuffers")]
            Box::new(kymo_flatbuffers::FlatBuffers),
            #[cfg(feature = "remote-write")]
            Box::new(kymo_remote_write::RemoteWrite),
            #[cfg(feature = "otlp")]
            Box::new(kymo_otlp::Otlp),
            #[cfg(feature = "prometheus")]
            Box::new(kymo_prometheus::Prometheus),
            #[cfg(feature = "graphite")]
            Box::new(kymo_graphite::Graphite),
            #[cfg(feature = "opentsdb")]
            Box::new(kymo_opentsdb::OpenTsdb),
            #[cfg(feature = "collectd")]
            Box::new(kymo_collectd::Collectd),
            #[cfg(feature = "tutorial")]
            Box::new(kymo_tutorial::Thermometer),
        ])
    }

    /// These formats. Of two with one name, content type or path the first counts.
    pub fn of(formats: Vec<Box<dyn Format>>) -> Self {
        Self { formats }
    }

    /// Every format.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Format> {
        self.formats.iter().map(Box::as_ref)
    }

    /// The format with this name.
    pub fn by_name(&self, name: &str) -> Option<&dyn Format> {
        self.iter().find(|format| format.name() == name)
    }

    /// The format whose own senders post to this path.
    pub fn by_path(&self, path: &str) -> Option<&dyn Format> {
        let path = path.trim_end_matches('/');
        self.iter().find(|format| format.paths().contains(&path))
    }

    /// The format a `Content-Type` means, if it means one: that of which the most parameters are given.
    pub fn by_content_type(&self, content_type: &str) -> Option<&dyn Format> {
        let given = Media::parse(content_type);
        let all = self
            .iter()
            .flat_map(|format| format.content_types().iter().map(move |media| (format, media)));
        let fitting = all.filter_map(|(format, media)| {
            let media = Media::parse(media);
            given.is(&media).then_some((media.parameters.len(), format))
        });
        // Of equal ones the first registered, so not `max_by_key`.
        let mut best: Option<(usize, &dyn Format)> = None;
        for (count, format) in fitting {
            if best.is_none_or(|(most, _)| count > most) {
                best = Some((count, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// The names, for messages.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.iter().map(|format| format.name()).collect();
        names.join(", ")
    }

    /// What to say of a name nobody has.
    pub fn unknown(&self, name: &str) -> String {
        format!("unknown format {name:?}; this server knows {}", self.names())
    }
}

/// How streams of a format are cut: as its option `framing` says, or as is usual for it. The option is taken out.
///
/// # Errors
/// The format cannot be cut like that.
pub fn stream_framing(format: &dyn Format, options: &mut Options) -> Result<Framing, OptionError> {
    let framings = format.framings();
    let given = options.get("framing").map(str::to_string);
    options.remove("framing");
    let fault = |reason: String| Err(OptionError::new("framing", reason));
    let Some(given) = given else {
        return match framings.iter().find(|framing| **framing != Framing::Whole) {
            Some(framing) => Ok(*framing),
            None => fault(format!(
                "{} cannot be read from a stream; send it over HTTP or as datagrams",
                format.name()
            )),
        };
    };
    let streams = || framings.iter().filter(|framing| **framing != Framing::Whole);
    match streams().find(|framing| framing.name() == given) {
        Some(framing) => Ok(*framing),
        None => {
            let names: Vec<&str> = streams().map(|framing| framing.name()).collect();
            fault(format!("invalid framing {given:?} (use {})", names.join(", ")))
        }
    }
}

/// A media type taken apart, lower case.
struct Media {
    kind: String,
    parameters: Vec<String>,
}

impl Media {
    fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let mut parts = text.split(';').map(|part| part.trim().replace([' ', '"'], ""));
        Self {
            kind: parts.next().unwrap_or_default(),
            parameters: parts.collect(),
        }
    }

    fn is(&self, wanted: &Self) -> bool {
        let has = |parameter: &String| self.parameters.contains(parameter);
        self.kind == wanted.kind && wanted.parameters.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::Decoder;

    struct Named(
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [Framing],
    );

    impl Format for Named {
        fn name(&self) -> &'static str {
            self.0
        }

        fn about(&self) -> &'static str {
            "a format"
        }

        fn content_types(&self) -> &'static [&'static str] {
            self.1
        }

        fn paths(&self) -> &'static [&'static str] {
            self.2
        }

        fn framings(&self) -> &'static [Framing] {
            self.3
        }

        fn decoder(&self, _: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
            Err(OptionError::new("", "not here"))
        }
    }

    fn registry() -> Registry {
        Registry::of(vec![
            Box::new(Named("a", &["text/x"], &["/a"], &[Framing::Lines])),
            Box::new(Named(
                "b",
                &["text/x;version=2", "application/b"],
                &["/b/c"],
                &[Framing::Whole, Framing::LengthPrefixed],
            )),
            Box::new(Named("c", &["application/b"], &[], &[Framing::Whole])),
        ])
    }

    #[test]
    fn formats_are_found_by_content_type_and_path() {
        let registry = registry();
        for (content_type, name) in [
            ("text/x", Some("a")),
            ("Text/X; charset=utf-8", Some("a")),
            ("text/x; charset=utf-8; Version=\"2\"", Some("b")),
            ("text/x;version=3", Some("a")),
            ("application/b", Some("b")),
            ("text/plain", None),
            ("", None),
        ] {
            let found = registry.by_content_type(content_type).map(Format::name);
            assert_eq!(found, name, "{content_type}");
        }
        for (path, name) in [("/a", Some("a")), ("/b/c/", Some("b")), ("/b", None), ("/", None)] {
            assert_eq!(registry.by_path(path).map(Format::name), name, "{path}");
        }
    }

    #[test]
    fn framings_are_what_the_format_can() {
        let registry = registry();
        for (name, option, framing) in [
            ("a", "", Ok(Framing::Lines)),
            ("a", "lines", Ok(Framing::Lines)),
            ("a", "whole", Err("invalid framing \"whole\" (use lines)")),
            ("b", "", Ok(Framing::LengthPrefixed)),
            (
                "b",
                "whole",
                Err("invalid framing \"whole\" (use length-prefixed)"),
            ),
            (
                "c",
                "",
                Err("c cannot be read from a stream; send it over HTTP or as datagrams"),
            ),
        ] {
            let mut options = Options::new();
            options.set("framing", option).set("other", "1");
            let format = registry.by_name(name).expect("registered");
            let got = stream_framing(format, &mut options).map_err(|error| error.reason);
            assert_eq!(got, framing.map_err(str::to_string), "{name} {option}");
            assert_eq!(options.iter().collect::<Vec<_>>(), [("other", "1")]);
        }
    }
    /// What the documentation says of formats: names, what chooses them, how they are cut, and that it tells of each option.
    #[test]
    fn formats_are_documented_as_they_are() {
        let text = include_str!("../../docs/formats/ingest.md");
        let own = [
            ("statsd", include_str!("../../docs/formats/statsd.md")),
            (
                "line-protocol",
                include_str!("../../docs/formats/line-protocol.md"),
            ),
        ];
        let formats = Registry::standard();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip_while(|line| !line.starts_with("| format |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let told: Vec<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
        let all: Vec<&str> = formats
            .iter()
            .map(Format::name)
            .filter(|name| *name != "thermometer")
            .collect();
        assert_eq!(told, all);
        let sections: Vec<&str> = text.split("\n## ").collect();
        for (name, row) in told.iter().zip(rows) {
            let format = formats.by_name(name).expect("it is in the list");
            let types = format.content_types();
            for media in types {
                let media = media.split(';').next().unwrap_or_default();
                assert!(row[2].contains(&format!("`{media}")), "{name}: {media}");
            }
            assert_eq!(
                row[2].contains(&format!("`format={name}`")),
                types.is_empty(),
                "{name}"
            );
            let paths: Vec<&str> = row[3].split(", ").map(|path| path.trim_matches('`')).collect();
            // InfluxDB's path of its version 2 is every format's.
            let paths = paths
                .into_iter()
                .filter(|path| !["", "/api/v2/write"].contains(path));
            assert_eq!(paths.collect::<Vec<_>>(), format.paths(), "{name}");
            for (framing, cut) in [
                (Framing::Lines, "lines"),
                (Framing::LengthPrefixed, "length-prefixed"),
            ] {
                assert_eq!(
                    row[4].contains(cut),
                    format.framings().contains(&framing),
                    "{name}: {cut}"
                );
            }
            let section = sections.iter().find(|section| {
                let title = section.lines().next().unwrap_or_default();
                title.split([' ', ',', ':']).any(|word| word == *name)
            });
            let section = section.unwrap_or_else(|| panic!("{name} has no section"));
            let own = own.iter().find(|(of, _)| of == name).map_or("", |(_, text)| text);
            for option in format.options() {
                let is_word = |text: &str| {
                    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    words.into_iter().any(|word| word == option.name)
                };
                assert!(
                    is_word(section) || is_word(own),
                    "{name}: nothing of option {}",
                    option.name
                );
            }
        }
    }
}
