//! Plots as SVG, by hand: a frame, two scales, and marks.

use std::fmt::Write;

const WIDTH: f64 = 660.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 20.0;
const BAR: f64 = 16.0;
const ROW: f64 = 26.0;
const PLOT_HEIGHT: f64 = 300.0;
/// Room for the title of the y axis above, for ticks and title of the x axis below.
const ABOVE: f64 = 26.0;
const BELOW: f64 = 42.0;
/// About so many ticks on an axis.
const TICKS: f64 = 5.0;

/// Text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// From values to places between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// From 0.
    Linear { high: f64 },
    /// All values above 0.
    Log { low: f64, high: f64 },
}

impl Scale {
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self::Linear { high: if high > 0.0 { high * 1.05 } else { 1.0 } }
    }

    /// Values that have no logarithm are left out.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self::Log { low: 1.0, high: 10.0 };
        }
        Self::Log { low: low / 1.15, high: high * 1.15 }
    }

    fn at(self, value: f64) -> f64 {
        match self {
            Self::Linear { high } => value / high,
            Self::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
        }
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { high } => {
                let step = round_step(high / TICKS);
                (0..).map(|i| f64::from(i) * step).take_while(|tick| *tick <= high).collect()
            }
            Self::Log { low, high } => {
                let steps: &[f64] = if high / low > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
                all.filter(|tick| (low..=high).contains(tick)).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * decade).into_iter().find(|round| *round >= step).unwrap_or(10.0 * decade)
}

/// A number as short as an axis wants it.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, " G"),
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// One bar: how long, and how far its values were spread.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    /// Number of its colour.
    pub(super) colour: usize,
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Horizontal bars from 0, with their spread as whiskers.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let scale = Scale::linear(bars.iter().map(|bar| bar.high));
    let room = WIDTH - LEFT - RIGHT - 60.0;
    let height = ROW * bars.len() as f64 + 4.0;
    let mut svg = open(title, height);
    for (i, Bar { name, colour, value, low, high }) in bars.iter().enumerate() {
        let (top, middle) = (ROW * i as f64 + 5.0, ROW * i as f64 + 5.0 + BAR / 2.0);
        let x = |value: f64| LEFT + scale.at(value) * room;
        let tooltip = format!("{name}: {} [{} – {}]", short(*value), short(*low), short(*high));
        let _ = write!(
            svg,
            "<g><title>{}</title><text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect class=\"c{colour}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" />\
             <path class=\"whisker\" d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v6M{:.1} {:.1}v6\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            escape(&tooltip),
            LEFT - 8.0,
            middle + 4.0,
            escape(name),
            (x(*value) - LEFT).max(0.5),
            x(*low),
            x(*high),
            x(*low),
            middle - 3.0,
            x(*high),
            middle - 3.0,
            x(*high) + 8.0,
            middle + 4.0,
            short(*value),
        );
    }
    svg + "</svg>"
}

/// A point, and how far its values were spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) points: Vec<Point>,
}

/// What lines are drawn on.
#[derive(Clone, Debug)]
pub(super) struct Axes<'a> {
    pub(super) title: &'a str,
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    /// Where the x axis is marked, and how; by the scale's own choice if there are none.
    pub(super) x_ticks: Vec<(f64, String)>,
}

/// Lines through points, with their spread as whiskers, and what is which below.
pub(super) fn lines(axes: &Axes<'_>, series: &[Series]) -> String {
    let Axes { title, x_name, y_name, x, y, x_ticks } = axes;
    let (left, right) = (64.0, WIDTH - RIGHT);
    let (top, bottom) = (ABOVE, ABOVE + PLOT_HEIGHT);
    let across = |value: f64| left + x.at(value) * (right - left);
    let down = |value: f64| bottom - y.at(value) * (bottom - top);
    let mut svg = open(title, bottom + BELOW);
    let _ = write!(svg, "<text class=\"axis\" x=\"{left}\" y=\"14\">{}</text>", escape(y_name));
    for tick in y.ticks() {
        let (y, label) = (down(tick), short(tick));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/><text class=\"name\" x=\"{}\" y=\"{:.1}\">{label}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    let own = || x.ticks().into_iter().map(|tick| (tick, short(tick))).collect();
    for (tick, label) in if x_ticks.is_empty() { own() } else { x_ticks.clone() } {
        let x = across(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 16.0,
            escape(&label)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        (left + right) / 2.0,
        bottom + 34.0,
        escape(x_name)
    );
    for Series { name, colour, points } in series.iter().filter(|series| !series.points.is_empty()) {
        let path: Vec<String> = points.iter().map(|p| format!("{:.1} {:.1}", across(p.x), down(p.y))).collect();
        let _ = write!(svg, "<path class=\"line s{colour}\" d=\"M{}\"/>", path.join("L"));
        for Point { x, y, low, high } in points {
            let (cx, cy) = (across(*x), down(*y));
            let tooltip = format!("{name}: {} [{} – {}] at {}", short(*y), short(*low), short(*high), short(*x));
            let _ = write!(
                svg,
                "<g><title>{}</title><path class=\"whisker s{colour}\" d=\"M{cx:.1} {:.1}V{:.1}\"/>\
                 <circle class=\"c{colour}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" /></g>",
                escape(&tooltip),
                down(*low),
                down(*high)
            );
        }
    }
    svg + "</svg>" + &legend(series)
}

fn legend(series: &[Series]) -> String {
    let entry = |Series { name, colour, .. }: &Series| {
        format!(
            "<li><svg width=\"12\" height=\"12\"><circle class=\"c{colour}\" cx=\"6\" cy=\"6\" r=\"5\" /></svg> {}</li>",
            escape(name)
        )
    };
    format!("<ul class=\"legend\">{}</ul>", series.iter().map(entry).collect::<String>())
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!("<svg class=\"plot\" role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {WIDTH} {height:.0}\">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(Scale::Linear { high: 10.5 }.ticks(), [0.0, 5.0, 10.0]);
        assert_eq!(Scale::Linear { high: 1.0 }.ticks(), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(Scale::Log { low: 0.9, high: 60.0 }.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(Scale::Log { low: 0.9, high: 5000.0 }.ticks(), [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn scales_hold_all_values_whatever_they_are() {
        for values in [vec![], vec![0.0], vec![3.0], vec![1.0, 1e6], vec![f64::NAN, 2.0]] {
            for scale in [Scale::linear(values.iter().copied()), Scale::log(values.iter().copied())] {
                for &value in values.iter().filter(|value| value.is_finite()) {
                    let at = scale.at(value);
                    assert!((0.0..=1.0).contains(&at), "{scale:?} has {value} at {at}");
                }
                assert!(scale.ticks().len() < 20, "{scale:?}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.001, 0.25, 12.34, 1500.0, 16_384.0, 2.5e6, 1e9];
        assert_eq!(numbers.map(short), ["0", "0.001", "0.25", "12.3", "1500", "16.4 k", "2.5 M", "1 G"]);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let bar = Bar { name: "<b>&\"".into(), colour: 0, value: 1.0, low: 1.0, high: 1.0 };
        let svg = bars("<t>", &[bar]);
        assert!(!svg.contains("<b>") && !svg.contains("<t>") && svg.contains("&lt;b&gt;&amp;&quot;"), "{svg}");
    }
}
