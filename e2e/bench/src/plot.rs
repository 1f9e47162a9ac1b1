//! Draws bars as SVG, which are readable on a light and on a dark page, and small enough to be read in a diff.

use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Name at its left.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
    /// Whether it is drawn in the colour of our own.
    pub ours: bool,
}

/// Width of the picture.
const WIDTH: f64 = 720.0;
/// Where bars begin.
const LEFT: f64 = 130.0;
/// Where the longest bar ends; its number stands behind it.
const RIGHT: f64 = 610.0;
/// Height of a row.
const ROW: f64 = 26.0;
/// Where the first row begins.
const TOP: f64 = 46.0;
/// When the longest bar is so many times the shortest, lengths are logarithms.
const LOGARITHMIC_FROM: f64 = 30.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:15px}\
.n{fill:#57606a}.b{fill:#8c959f}.o{fill:#0969da}.w{stroke:#24292f;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.b{fill:#656c76}.o{fill:#4493f8}\
.w{stroke:#e6edf3}}";

/// A picture of horizontal bars, in the order given.
#[must_use]
pub fn bars(title: &str, note: &str, bars: &[Bar]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 8.0;
    let scale = Scale::of(bars);
    let note = if scale.logarithmic { format!("{note}; logarithmic") } else { note.to_owned() };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let written = out.write_fmt(text).and_then(|()| out.write_char('\n'));
        debug_assert!(written.is_ok());
    };
    line(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">"#
    ));
    line(format_args!("<title>{}</title><style>{STYLE}</style>", escape(title)));
    line(format_args!(r#"<text class="t" x="8" y="18">{}</text>"#, escape(title)));
    line(format_args!(r#"<text class="n" x="8" y="36">{}</text>"#, escape(&note)));
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let middle = y + ROW / 2.0;
        let class = if bar.ours { "o" } else { "b" };
        let end = scale.x(bar.value);
        line(format_args!(
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            middle + 4.0,
            escape(&bar.label)
        ));
        line(format_args!(
            r#"<rect class="{class}" x="{LEFT}" y="{}" width="{:.1}" height="{}" rx="2"/>"#,
            y + 4.0,
            end - LEFT,
            ROW - 8.0
        ));
        let mut number = end;
        if let Some((low, high)) = bar.interval.filter(|(low, high)| low < high) {
            let (low, high) = (scale.x(low), scale.x(high));
            number = number.max(high);
            line(format_args!(
                r#"<path class="w" d="M{low:.1} {middle}H{high:.1}M{low:.1} {}v6M{high:.1} {}v6"/>"#,
                middle - 3.0,
                middle - 3.0
            ));
        }
        line(format_args!(
            r#"<text x="{:.1}" y="{}">{}</text>"#,
            number + 6.0,
            middle + 4.0,
            rounded(bar.value)
        ));
    }
    line(format_args!("</svg>"));
    out
}

struct Scale {
    logarithmic: bool,
    least: f64,
    most: f64,
}

impl Scale {
    fn of(bars: &[Bar]) -> Self {
        let top = |bar: &Bar| bar.interval.map_or(bar.value, |(_, high)| high.max(bar.value));
        let most = bars.iter().map(top).fold(0.0, f64::max);
        let least = bars.iter().map(|bar| bar.value).filter(|v| *v > 0.0).fold(most, f64::min);
        Self { logarithmic: least > 0.0 && most / least >= LOGARITHMIC_FROM, least, most }
    }

    fn x(&self, value: f64) -> f64 {
        let share = if self.most <= 0.0 {
            0.0
        } else if self.logarithmic {
            // The shortest bar keeps a tenth of the longest one's length; otherwise it could not be seen.
            let span = (self.most / self.least).ln();
            0.1 + 0.9 * ((value.max(self.least) / self.least).ln() / span)
        } else {
            value / self.most
        };
        LEFT + (RIGHT - LEFT) * share.clamp(0.0, 1.0)
    }
}

/// A number with three significant digits, and commas from 1,000 on.
#[must_use]
pub fn rounded(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    if digits > 0 {
        return format!("{value:.*}", digits.unsigned_abs() as usize);
    }
    let step = 10_f64.powi(-digits);
    let whole = format!("{:.0}", (value / step).round() * step);
    let (sign, number) = whole.strip_prefix('-').map_or(("", whole.as_str()), |rest| ("-", rest));
    let mut out = String::from(sign);
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && (number.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.into(), value, interval: None, ours: label == "a" }
    }

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (7.4321, "7.43"),
            (0.6349, "0.635"),
            (14.26, "14.3"),
            (462.4, "462"),
            (1_673_211.0, "1,670,000"),
            (31_044.0, "31,000"),
            (999.6, "1,000"),
            (0.0, "0"),
            (-1234.0, "-1,230"),
        ];
        for (value, text) in cases {
            assert_eq!(rounded(value), text, "{value}");
        }
    }

    #[test]
    fn the_longest_bar_ends_at_the_right_and_the_text_is_escaped() {
        let svg = bars("A & B", "µs", &[bar("a", 1.0), bar("b", 2.0)]);
        assert!(
            svg.contains("A &amp; B") && svg.contains("width=\"480.0\"") && svg.contains("width=\"240.0\"")
        );
        assert!(!svg.contains("logarithmic"));
        assert!(svg.matches("class=\"o\"").count() == 1);
    }

    #[test]
    fn very_different_bars_get_logarithmic_lengths() {
        let all = [bar("a", 300.0), bar("b", 30_000.0)];
        let svg = bars("t", "B", &all);
        assert!(svg.contains("logarithmic") && svg.contains("width=\"48.0\""), "{svg}");
    }

    #[test]
    fn an_interval_is_drawn_where_it_is_known() {
        let mut with = bar("a", 2.0);
        with.interval = Some((1.0, 4.0));
        let svg = bars("t", "u", &[with]);
        assert!(svg.contains("class=\"w\" d=\"M250.0 59H610.0"), "{svg}");
    }
}
