//! The report as one HTML page that needs nothing beside it.

use super::plot::{Line, Plot, number, push};
use super::report::Report;
use super::sampler::{Sample, Second};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2329;--dim:#5c6873;--grid:#dde2e7;--a:#0b62c4;--b:#c2410c;--c:#15803d;\
--bad:#b91c1c;--card:#f5f7f9}\
@media(prefers-color-scheme:dark){:root{--bg:#14181c;--fg:#e6eaee;--dim:#9aa6b2;--grid:#2c343c;--a:#6cb2ff;--b:#ff9d5c;\
--c:#5fd38d;--bad:#ff8a80;--card:#1b2127}}\
body{margin:0 auto;max-width:780px;padding:24px 16px;background:var(--bg);color:var(--fg);\
font:15px/1.5 system-ui,sans-serif}\
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:28px 0 8px}p{margin:4px 0}small{color:var(--dim);font-weight:400}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px;margin:16px 0}\
.cards div{background:var(--card);border-radius:6px;padding:8px 12px}.cards b{display:block;font-size:19px}\
.bad{color:var(--bad);font-weight:600}.good{color:var(--c);font-weight:600}\
figure{margin:20px 0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--dim)}\
.grid{stroke:var(--grid)}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}\
path.c0{stroke:var(--a)}path.c1{stroke:var(--b)}path.c2{stroke:var(--c)}\
svg text.c0{fill:var(--a)}svg text.c1{fill:var(--b)}svg text.c2{fill:var(--c)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:3px 8px;border-bottom:1px solid var(--grid)}th:first-child,td:first-child{text-align:left}\
th{color:var(--dim);font-weight:500}pre{background:var(--card);padding:12px;border-radius:6px;overflow-x:auto;font-size:12px}";

impl Report {
    /// The report as one HTML page that needs nothing beside it.
    pub fn html(&self) -> String {
        page(self)
    }
}

fn page(report: &Report) -> String {
    let asked = &report.asked;
    let name = format!("{:?}", asked.scenario).to_lowercase();
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Load test: {name}</title><style>{STYLE}</style>\n<h1>Load test: {name}</h1>\n"
    );
    push(
        &mut out,
        format_args!(
            "<p>{} connections in {} rooms, {} to {}, payload {} bytes</p>\n",
            asked.connections,
            asked.rooms,
            format!("{:?}", asked.dialect).to_lowercase(),
            escape(&asked.url.join(", ")),
            asked.payload
        ),
    );
    if report.failures.is_empty() {
        out.push_str("<p class=\"good\">passed</p>\n");
    } else {
        push(
            &mut out,
            format_args!("<p class=\"bad\">failed: {}</p>\n", escape(&report.failures.join("; "))),
        );
    }
    cards(&mut out, report);
    for plot in plots(report) {
        out.push_str(&plot.svg());
    }
    steps(&mut out, report);
    samples(&mut out, report);
    push(&mut out, format_args!("<h2>All figures</h2><pre>{}</pre>\n</html>\n", escape(&report.to_string())));
    out
}

fn cards(out: &mut String, report: &Report) {
    let server = report.server.as_ref();
    let cards = [
        ("joined", Some(grouped(report.counters.joined))),
        ("deliveries", Some(grouped(report.counters.received))),
        ("lost", Some(grouped(report.counters.lost))),
        ("p99", (report.latency.count > 0).then(|| format!("{:.2} ms", report.latency.p99_ms))),
        ("highest rate", report.max.as_ref().map(|max| format!("{}/s", number(max.deliveries_per_second)))),
        ("last of all, median", report.bursts.as_ref().map(|b| format!("{:.1} ms", b.last_median_ms))),
        ("all back after", report.storms.first().map(|storm| format!("{:.2} s", storm.back_seconds))),
        ("CPU per delivery", report.cpu_us_per_delivery.map(|us| format!("{us:.2} µs"))),
        (
            "per connection",
            server
                .and_then(|server| server.pss_bytes_per_connection)
                .map(|bytes| format!("{bytes:.0} bytes")),
        ),
    ];
    out.push_str("<div class=\"cards\">");
    for (name, value) in cards {
        if let Some(value) = value {
            push(out, format_args!("<div><small>{name}</small><b>{value}</b></div>"));
        }
    }
    out.push_str("</div>\n");
}

fn plot(title: &'static str, x: &'static str, y: &'static str, lines: Vec<Line>) -> Plot {
    Plot { title, x, y, lines, x_labels: Vec::new(), logarithmic: false }
}

fn line(name: &'static str, points: Vec<(f64, f64)>) -> Line {
    Line { name, points }
}

fn plots(report: &Report) -> Vec<Plot> {
    let seconds = |of: fn(&Second) -> f64| -> Vec<(f64, f64)> {
        report.timeline.iter().map(|second| (second.at, of(second))).collect()
    };
    let busy = |of: fn(&Second) -> f64| -> Vec<(f64, f64)> {
        report.timeline.iter().filter(|s| s.p99_ms > 0.0).map(|second| (second.at, of(second))).collect()
    };
    let latency = vec![line("p50", busy(|s| s.p50_ms)), line("p99", busy(|s| s.p99_ms))];
    let about = "milliseconds, from the intended send time";
    vec![
        by_rate(report),
        plot(
            "Deliveries per second",
            "seconds",
            "",
            vec![line("deliveries/s", seconds(|s| s.deliveries_per_second))],
        ),
        Plot { logarithmic: true, ..plot("Latency", "seconds", about, latency) },
        distribution(report),
        plot("Connections in their room", "seconds", "", vec![line("joined", seconds(|s| s.joined as f64))]),
        memory(report),
        processors(report),
    ]
}

/// The results of the steps of `max`.
fn by_rate(report: &Report) -> Plot {
    let mut steps: Vec<_> = report.steps.iter().collect();
    steps.sort_by(|a, b| a.publishes_per_second.total_cmp(&b.publishes_per_second));
    let points = |passed| {
        let steps = steps.iter().filter(move |step| step.passed == passed && step.latency.count > 0);
        steps.map(|step| (step.deliveries_per_second, step.latency.p99_ms)).collect()
    };
    let lines = vec![line("passed", points(true)), line("failed", points(false))];
    Plot { logarithmic: true, ..plot("Latency by rate", "deliveries/s", "milliseconds, p99", lines) }
}

fn memory(report: &Report) -> Plot {
    let samples = &report.samples;
    let server = samples.iter().filter_map(|s| Some((s.at, s.server?.pss_bytes as f64))).collect();
    let own = samples.iter().map(|s| (s.at, s.generator_rss_bytes as f64)).collect();
    plot("Memory", "seconds", "bytes", vec![line("server PSS", server), line("generator RSS", own)])
}

/// CPUs over time. A sample right after another one is left out: the time between them is too short to show anything.
fn processors(report: &Report) -> Plot {
    let pairs = report.samples.windows(2).filter(|pair| pair[1].at - pair[0].at >= 1.0);
    let samples: Vec<&Sample> = pairs.map(|pair| &pair[1]).collect();
    let points = |of: fn(&Sample) -> Option<f64>| {
        samples.iter().filter_map(|sample| Some((sample.at, of(sample)?))).collect()
    };
    let lines = vec![
        line("server", points(|s| s.server_cpus)),
        line("generator", points(|s| Some(s.generator_cpus))),
        line("busiest shard", points(|s| s.utilization)),
    ];
    plot("CPUs", "seconds", "", lines)
}

/// Latency by percentile; each further nine is as wide as the one before.
fn distribution(report: &Report) -> Plot {
    let place = |percentile: f64| -(1.0 - (percentile / 100.0).min(0.999_999)).log10();
    let points = report.distribution.iter().map(|(percentile, ms)| (place(*percentile), *ms)).collect();
    let labels = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    Plot {
        title: "Latency distribution",
        x: "percentile",
        y: "milliseconds",
        lines: vec![Line { name: "latency", points }],
        x_labels: labels.map(|percentile| (place(percentile), percentile.to_string())).to_vec(),
        logarithmic: true,
    }
}

fn steps(out: &mut String, report: &Report) {
    if report.steps.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Steps</h2><div class=\"wide\"><table><tr><th>publishes/s<th>deliveries/s<th>p50 ms<th>p99 ms<th>own lag ms\
         <th>server CPUs<th>generator CPUs<th>µs/delivery<th></tr>\n",
    );
    for step in &report.steps {
        let optional = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        push(
            out,
            format_args!(
                "<tr><td>{:.0}<td>{:.0}<td>{:.2}<td>{:.2}<td>{:.2}<td>{}<td>{:.2}<td>{}<td class=\"{}</tr>\n",
                step.publishes_per_second,
                step.deliveries_per_second,
                step.latency.p50_ms,
                step.latency.p99_ms,
                step.lag_p99_ms,
                optional(step.server_cpus),
                step.generator_cpus,
                optional(step.cpu_us_per_delivery),
                if step.passed { "good\">passed" } else { "bad\">failed" },
            ),
        );
    }
    out.push_str("</table></div>\n");
}

fn samples(out: &mut String, report: &Report) {
    out.push_str(
        "<h2>Samples</h2><div class=\"wide\"><table><tr><th>seconds<th>joined<th>PSS MB<th>RSS MB<th>descriptors\
         <th>server CPUs<th>busiest shard<th>generator CPUs<th>deliveries<th>p99 ms</tr>\n",
    );
    for sample in &report.samples {
        let megabytes = |bytes: fn(&super::process::Footprint) -> u64| {
            sample.server.map_or_else(String::new, |server| format!("{:.1}", bytes(&server) as f64 / 1e6))
        };
        push(
            out,
            format_args!(
                "<tr><td>{:.0}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.2}<td>{}<td>{:.2}</tr>\n",
                sample.at,
                sample.joined,
                megabytes(|server| server.pss_bytes),
                megabytes(|server| server.rss_bytes),
                sample.server.map_or_else(String::new, |server| server.descriptors.to_string()),
                sample.server_cpus.map_or_else(String::new, |cpus| format!("{cpus:.2}")),
                sample.utilization.map_or_else(String::new, |busy| format!("{busy:.2}")),
                sample.generator_cpus,
                sample.deliveries,
                sample.latency.p99_ms,
            ),
        );
    }
    out.push_str("</table></div>\n");
}

/// A count with its thousands set apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text with its markup escaped.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart_and_text_is_no_markup() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(escape("<a & b>"), "&lt;a &amp; b&gt;");
    }
}
