//! Durations as they stand in specs: `30s`, `1h30m`, `500ms`. Whole numbers only, and never a panic: kube's own type
//! overflows on a long one, which would take the whole watch with it.

use std::time::Duration;

/// Reads a duration; nothing if it is not one.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_lets_in_and_nothing_else() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("1h30m", 5400), ("2h", 7200), ("90m10s", 5410)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        for text in
            ["", "30", "s", "-1s", "1.5h", "1d", "1 h", "99999999999999999999h", "9999999999999999999s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
