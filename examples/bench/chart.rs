//! A chart of ratios as SVG, written by hand: one bar each, from 1 to the ratio on a logarithmic axis. Pure.

use std::fmt::Write as _;

use super::stats::Interval;

/// One ratio; above 1 is in our favour.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) interval: Interval,
    pub(crate) goal: Option<f64>,
}

/// Pixels.
const ROW: f64 = 22.0;
const TOP: f64 = 56.0;
const LEFT: f64 = 430.0;
const WIDTH: f64 = 430.0;
const RIGHT: f64 = 60.0;

/// The ends of the axis, as powers of two.
const FROM: f64 = -2.0;
const TO: f64 = 4.0;

pub(crate) fn draw(bars: &[Bar]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen bars")]
    let bottom = TOP + ROW * bars.len() as f64;
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 14.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\" font-weight=\"bold\">How many times as fast as the others</text>\n\
         <text x=\"12\" y=\"36\" fill=\"#555555\">line: 90 % interval of the median; diamond: goal</text>\n"
    );
    for (power, label) in [(-2, "1/4"), (-1, "1/2"), (0, "1"), (1, "2"), (2, "4"), (3, "8"), (4, "16")] {
        let x = at(f64::from(power).exp2());
        let colour = if power == 0 { "#333333" } else { "#dddddd" };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\"/>",
            TOP - 4.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{label}</text>",
            TOP - 8.0
        );
    }
    let mut y = TOP;
    for bar in bars {
        let Interval { median, low, high } = bar.interval;
        let (from, to) = (at(1.0).min(at(median)), at(1.0).max(at(median)));
        let colour = if median >= 1.0 { "#3b8f5a" } else { "#c0504d" };
        let middle = y + ROW / 2.0;
        let baseline = middle + 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            escaped(&bar.label)
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            y + 4.0,
            (to - from).max(1.0),
            ROW - 8.0
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#111111\" stroke-width=\"1.5\"/>",
            at(low),
            at(high)
        );
        if let Some(goal) = bar.goal {
            let x = at(goal);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {:.1} l4 4 l-4 4 l-4 -4 z\" fill=\"#ffffff\" stroke=\"#111111\"/>",
                middle - 4.0
            );
        }
        let goal = bar.goal.map_or(0.0, at);
        let end = [at(high), to, goal].into_iter().fold(0.0, f64::max) + 8.0;
        let _ = writeln!(svg, "<text x=\"{end:.1}\" y=\"{baseline:.1}\">{median:.2}</text>");
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a ratio is; what is beyond an end of the axis stands at it.
fn at(ratio: f64) -> f64 {
    let power = ratio.max(f64::MIN_POSITIVE).log2().clamp(FROM, TO);
    LEFT + WIDTH * (power - FROM) / (TO - FROM)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_on_the_axis_and_labels_are_escaped() {
        let interval = Interval { median: 99.0, low: 0.0001, high: 99.0 };
        let svg = draw(&[Bar { label: "a <b> & c".into(), interval, goal: None }]);
        assert!(svg.contains("a &lt;b&gt; &amp; c"));
        assert!(svg.contains("99.00"));
        assert!((at(0.0001) - LEFT).abs() < 1e-6 && (at(99.0) - LEFT - WIDTH).abs() < 1e-6);
        assert_eq!(svg.matches("<rect").count(), 2);
    }
}
