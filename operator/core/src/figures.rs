//! Numbers as people read them.

/// A number for people: grouped by thousands, with two digits behind the point where it is small and not whole.
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let whole = value.fract().abs() < 1e-9 || value.abs() >= 100.0;
    let text = if whole { format!("{value:.0}") } else { format!("{value:.2}") };
    let (integer, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = integer.trim_start_matches('-');
    let mut grouped = String::with_capacity(text.len() + digits.len() / 3);
    if integer.len() > digits.len() {
        grouped.push('-');
    }
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped.push_str(rest);
    grouped
}
