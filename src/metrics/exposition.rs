//! Prometheus's text format (version 0.0.4).

use std::time::{SystemTime, UNIX_EPOCH};

/// One value of a metric.
pub(super) struct Sample {
    labels: Vec<(&'static str, String)>,
    value: String,
}

impl Sample {
    /// Without labels.
    pub(super) fn of(value: impl ToString) -> Self {
        Self { labels: vec![], value: value.to_string() }
    }

    pub(super) fn label(mut self, name: &'static str, value: impl ToString) -> Self {
        self.labels.push((name, value.to_string()));
        self
    }
}

/// The text so far.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    /// One metric with all its samples; nothing if there are none. A name that ends with `_total` is a counter's, as
    /// Prometheus has it; the others are gauges.
    pub(super) fn family(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.write_family(name, help, samples.into_iter().collect());
    }

    /// The same for all: as a generic one, it was 12 KiB of the program.
    fn write_family(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        self.0 += &format!("# HELP pod_svid_helper_{name} {help}\n");
        self.0 += &format!("# TYPE pod_svid_helper_{name} {kind}\n");
        for Sample { labels, value } in samples {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            self.0 += &format!("pod_svid_helper_{name}{labels} {value}\n");
        }
    }
}

/// A label's value: any text, in the format's three escapes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds since 1970, to the millisecond.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    match since.subsec_millis() {
        0 => since.as_secs().to_string(),
        milliseconds => format!("{}.{milliseconds:03}", since.as_secs()),
    }
}
