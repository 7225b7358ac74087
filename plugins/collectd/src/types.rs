//! What the values of a type are called. Most types have one, called `value`; the packet does not say.

use kymo_plugin_api::OptionError;

/// collectd's types with several values.
const KNOWN: &[(&str, &[&str])] = &[
    ("compression", &["uncompressed", "compressed"]),
    ("df", &["used", "free"]),
    ("disk_io_time", &["io_time", "weighted_io_time"]),
    ("disk_latency", &["read", "write"]),
    ("disk_merged", &["read", "write"]),
    ("disk_octets", &["read", "write"]),
    ("disk_ops", &["read", "write"]),
    ("disk_time", &["read", "write"]),
    ("dns_octets", &["queries", "responses"]),
    ("if_dropped", &["rx", "tx"]),
    ("if_errors", &["rx", "tx"]),
    ("if_octets", &["rx", "tx"]),
    ("if_packets", &["rx", "tx"]),
    ("io_octets", &["rx", "tx"]),
    ("io_packets", &["rx", "tx"]),
    ("load", &["shortterm", "midterm", "longterm"]),
    ("memcached_octets", &["rx", "tx"]),
    ("mysql_octets", &["rx", "tx"]),
    ("node_octets", &["rx", "tx"]),
    ("ps_count", &["processes", "threads"]),
    ("ps_cputime", &["user", "syst"]),
    ("ps_disk_octets", &["read", "write"]),
    ("ps_disk_ops", &["read", "write"]),
    ("ps_pagefaults", &["minflt", "majflt"]),
    ("serial_octets", &["rx", "tx"]),
    ("smart_attribute", &["current", "worst", "threshold", "pretty"]),
    ("vmpage_faults", &["minflt", "majflt"]),
    ("vmpage_io", &["in", "out"]),
    ("voltage_threshold", &["value", "threshold"]),
];

/// Names for values without one.
const NUMBERS: [&str; 16] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
];

/// The known types, and those of the user.
pub struct Types {
    own: Vec<(String, Vec<String>)>,
}

impl Types {
    /// Reads `mytype:first,second;other:a,b`.
    pub fn read(text: &str) -> Result<Self, OptionError> {
        let fail = || {
            let reason = format!("invalid types \"{text}\" (use type:name,name;type:name,name)");
            OptionError::new("types", reason)
        };
        let one = |item: &str| {
            let (name, values) = item.split_once(':').ok_or_else(fail)?;
            let values: Vec<String> = values.split(',').map(|v| v.trim().to_string()).collect();
            if name.trim().is_empty() || values.iter().any(String::is_empty) {
                return Err(fail());
            }
            Ok((name.trim().to_string(), values))
        };
        let items = text.split(';').filter(|item| !item.trim().is_empty());
        Ok(Self {
            own: items.map(one).collect::<Result<_, _>>()?,
        })
    }

    /// What value `index` of `count` of a type is called.
    pub fn name(&self, of: &str, index: usize, count: usize) -> &str {
        if let Some((_, names)) = self.own.iter().find(|(name, _)| name == of)
            && let Some(name) = names.get(index)
        {
            return name;
        }
        if let Some((_, names)) = KNOWN.iter().find(|(name, _)| *name == of)
            && names.len() == count
        {
            return names[index];
        }
        match count {
            1 => "value",
            _ => NUMBERS.get(index).copied().unwrap_or("more"),
        }
    }
}
