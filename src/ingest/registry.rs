//! The formats this server knows. A new format is one crate, one cargo feature, and one line in [`Registry::standard`].

use kymo_plugin_api::Format;

/// Formats by name and content type.
pub struct Registry {
    formats: Vec<Box<dyn Format>>,
}

impl Registry {
    /// All formats this binary was built with.
    pub fn standard() -> Self {
        let formats: Vec<Box<dyn Format>> = vec![
            #[cfg(feature = "line-protocol")]
            Box::new(kymo_line_protocol::LineProtocol),
            #[cfg(feature = "statsd")]
            Box::new(kymo_statsd::Statsd),
        ];
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

    /// The format a `Content-Type` means, if it means one.
    pub fn by_content_type(&self, content_type: &str) -> Option<&dyn Format> {
        let media = content_type
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        self.iter()
            .find(|format| format.content_types().contains(&media.as_str()))
    }

    /// The names, for messages.
    pub fn names(&self) -> String {
        self.iter()
            .map(|format| format.name())
            .collect::<Vec<_>>()
            .join(", ")
    }
}
