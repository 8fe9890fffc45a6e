//! The report as a page that needs nothing but itself: no script, no font, no network.

mod loss;
mod svg;
#[cfg(test)]
mod xml;

use super::{
    report::{Measured, Rounds, number, percentile_name},
    stats::{Interval, Summary},
    systems::FRAMEWIRE,
};
use std::fmt::Write;
use svg::{Axes, Bar, Point, Scale, Series, bars, escape, lines};

const STYLE: &str = include_str!("page.css");
/// As many as the style sheet has.
const COLOURS: usize = 8;

/// All that was measured, and on what.
pub(super) fn page(facts: &[(&str, String)], all: &[Rounds]) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width\"/><title>Framewire beside others</title>\
         <style>{STYLE}</style></head><body><h1>Framewire beside others</h1>"
    );
    let _ = write!(page, "<table>{}</table>", facts.iter().map(fact).collect::<String>());
    page.push_str(
        "<p class=\"soft\">Figures are medians over the rounds, whiskers reach from the smallest to the largest. A ratio is the median of the \
         rounds' own ratios (above 1: ahead), its interval the order statistics around it that hold the true median with at least 95 %, \
         or, of fewer than six rounds, the smallest and the largest.</p>",
    );
    let mut suites: Vec<&str> = Vec::new();
    for rounds in all {
        if !suites.contains(&rounds.suite.as_str()) {
            suites.push(&rounds.suite);
        }
    }
    let link = |suite: &&str| format!("<a href=\"#{0}\">{0}</a>", escape(suite));
    let _ = write!(page, "<nav>{}<a href=\"#loss\">loss</a></nav>", suites.iter().map(link).collect::<String>());
    for suite in suites {
        let of_suite: Vec<&Rounds> = all.iter().filter(|rounds| rounds.suite == suite).collect();
        let _ = write!(page, "<h2 id=\"{0}\">{0}</h2>{1}", escape(suite), modes(&of_suite));
        for plot in plots(&of_suite) {
            page.push_str(&plot);
        }
        of_suite.iter().for_each(|rounds| page.push_str(&scenario(rounds)));
    }
    if let Some(plot) = loss::plot() {
        let _ = write!(page, "<h2 id=\"loss\">loss</h2><h3>One upload, 100 Mbit/s, in the simulator</h3>{plot}");
    }
    page + "</body></html>\n"
}

fn fact((name, value): &(&str, String)) -> String {
    format!("<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value))
}

/// What the systems say of themselves.
fn modes(suite: &[&Rounds]) -> String {
    let mut said: Vec<(&str, String)> = Vec::new();
    for Measured { system, about, .. } in suite.iter().flat_map(|rounds| &rounds.systems) {
        if let Some(about) = about
            && !said.iter().any(|(other, text)| other == system && text == about)
        {
            said.push((system, about.clone()));
        }
    }
    format!("<table class=\"soft\">{}</table>", said.iter().map(fact).collect::<String>())
}

/// The same system has the same colour within a suite, and framewire everywhere.
fn colour(systems: &[Measured], name: &str) -> usize {
    if name == FRAMEWIRE {
        return 0;
    }
    let others = systems.iter().filter(|measured| measured.system != FRAMEWIRE);
    1 + others.map(|measured| &measured.system).position(|other| other == name).unwrap_or(0) % (COLOURS - 1)
}

/// Scenarios that differ in one number, in plots over it.
fn plots(suite: &[&Rounds]) -> Vec<String> {
    let mut plotted: Vec<&str> = Vec::new();
    let mut plots = Vec::new();
    for rounds in suite {
        let Some(axis) = &rounds.axis else { continue };
        if plotted.contains(&axis.plot.as_str()) {
            continue;
        }
        plotted.push(&axis.plot);
        let on = |other: &&&Rounds| other.axis.as_ref().is_some_and(|other| other.plot == axis.plot);
        let members: Vec<&Rounds> = suite.iter().filter(on).copied().collect();
        if members.len() < 2 {
            continue;
        }
        let series = |measured: &Measured| Series {
            name: measured.system.clone(),
            colour: colour(&rounds.systems, &measured.system),
            points: members.iter().filter_map(|rounds| point(rounds, &measured.system)).collect(),
        };
        let series: Vec<Series> = rounds.systems.iter().map(series).collect();
        let x = |rounds: &&Rounds| rounds.axis.as_ref().map(|axis| axis.value);
        let axes = Axes {
            title: &axis.plot,
            x_name: axis.name,
            y_name: rounds.unit,
            x: x_scale(members.iter().filter_map(x)),
            y: Scale::linear(series.iter().flat_map(|series| series.points.iter().map(|point| point.high))),
            x_ticks: members.iter().filter_map(x).map(|x| (x, x.to_string())).collect(),
        };
        plots.push(format!("<h3>{}</h3>{}", escape(&axis.plot), lines(&axes, &series)));
    }
    plots
}

/// In decades, unless nothing is among the values.
fn x_scale(values: impl Iterator<Item = f64> + Clone) -> Scale {
    if values.clone().any(|value| value <= 0.0) { Scale::linear(values) } else { Scale::log(values) }
}

fn point(rounds: &Rounds, system: &str) -> Option<Point> {
    let measured = rounds.systems.iter().find(|measured| measured.system == system)?;
    let Summary { median, min, max, .. } = Summary::of(&measured.values)?;
    Some(Point { x: rounds.axis.as_ref()?.value, y: median, low: min, high: max })
}

fn scenario(rounds: &Rounds) -> String {
    let mut text = format!(
        "<h3>{} <span class=\"soft\">{}, {}</span></h3><div class=\"scenario\"><div>",
        escape(&rounds.scenario),
        escape(rounds.unit),
        rounds.better.sentence()
    );
    let bar = |measured: &Measured| {
        let Summary { median, min, max, .. } = Summary::of(&measured.values)?;
        let (name, colour) = (measured.system.clone(), colour(&rounds.systems, &measured.system));
        Some(Bar { name, colour, value: median, low: min, high: max })
    };
    text += &bars(&rounds.scenario, &rounds.systems.iter().filter_map(bar).collect::<Vec<_>>());
    text += &percentile_plot(rounds);
    text += "</div><div>";
    text += &table(rounds);
    for note in &rounds.notes {
        let _ = write!(text, "<div class=\"soft\">{}</div>", escape(note));
    }
    text + "</div></div>"
}

fn table(rounds: &Rounds) -> String {
    let ours = rounds.subject();
    let mut text = format!(
        "<table><tr><th>system</th><th class=\"n\">median</th><th class=\"n\">min</th><th class=\"n\">max</th>\
         <th class=\"n\">n</th><th>{} ahead by [interval]</th></tr>",
        escape(ours)
    );
    for Measured { system, values, .. } in &rounds.systems {
        let Some(Summary { median, min, max, n }) = Summary::of(values) else { continue };
        let [median, min, max] = [median, min, max].map(number);
        let ratio = rounds.ratio(ours, system).filter(|_| system != ours);
        let ratio = ratio.map(|(ratio, Interval { low, high, .. })| format!("{ratio:.3} [{low:.3}–{high:.3}]"));
        let _ = write!(
            text,
            "<tr><td>{}</td><td class=\"n\">{median}</td><td class=\"n\">{min}</td><td class=\"n\">{max}</td>\
             <td class=\"n\">{n}</td><td>{}</td></tr>",
            escape(system),
            ratio.unwrap_or_default()
        );
    }
    text + "</table>"
}

/// Latency over the share of requests that took longer, both in decades; nothing where no latency was measured.
fn percentile_plot(rounds: &Rounds) -> String {
    let series = |measured: &Measured| Series {
        name: measured.system.clone(),
        colour: colour(&rounds.systems, &measured.system),
        points: measured
            .percentiles()
            .0
            .into_iter()
            .map(|(quantile, us)| Point { x: 1.0 / (1.0 - quantile), y: us, low: us, high: us })
            .collect(),
    };
    let with_latency = rounds.systems.iter().filter(|measured| !measured.percentiles.is_empty());
    let series: Vec<Series> = with_latency.map(series).filter(|series| !series.points.is_empty()).collect();
    if series.is_empty() {
        return String::new();
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let tick = |quantile: f64| (1.0 / (1.0 - quantile), percentile_name(quantile));
    let reached = points().map(|point| point.x).fold(0.0, f64::max) * 1.01;
    let axes = Axes {
        title: "latency by percentile",
        x_name: "percentile",
        y_name: "µs",
        x: Scale::log(points().map(|point| point.x)),
        y: Scale::log(points().map(|point| point.y)),
        x_ticks: [0.5, 0.9, 0.99, 0.999, 0.9999].map(tick).into_iter().filter(|(x, _)| *x <= reached).collect(),
    };
    lines(&axes, &series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::{Axis, Better};
    use framewire::load::Percentiles;

    fn rounds(bytes: f64) -> Rounds {
        let latency = |us: f64| Percentiles(vec![(0.5, us), (0.99, 3.0 * us), (0.9999, 20.0 * us)]);
        let measured = |system: &str, value: f64| Measured {
            percentiles: vec![latency(value)],
            about: Some("native XDP, copy".into()),
            ..Measured::new(system, vec![value, value * 1.1, value * 0.9])
        };
        Rounds {
            suite: "udp-echo".into(),
            scenario: format!("{bytes} B"),
            unit: "packets/s",
            better: Better::Higher,
            axis: Some(Axis { plot: "over size".into(), name: "bytes", value: bytes }),
            systems: vec![measured("kernel", 10.0), measured(FRAMEWIRE, 20.0)],
            notes: vec!["a < b".into()],
        }
    }

    #[test]
    fn the_page_has_everything_and_needs_nothing() {
        let facts = [("cpu", "a & b".to_owned())];
        let page = page(&facts, &[rounds(64.0), rounds(1472.0)]);
        for part in ["a &amp; b", "a &lt; b", "over size", "p99.99", "2.000 [2.000–2.000]", "native XDP, copy", "loss"]
        {
            assert!(page.contains(part), "no {part:?}");
        }
        for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(outside), "{outside:?} in it");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "a number that is none");
    }

    /// The marks of a plot: bars and points.
    fn marks(plot: &xml::Element) -> Vec<&xml::Element> {
        plot.all().into_iter().filter(|element| ["rect", "circle"].contains(&element.name.as_str())).collect()
    }

    #[test]
    fn the_page_is_well_formed_and_each_plot_has_its_data_in_view() {
        let lossless = Rounds { axis: Some(Axis { plot: "over loss".into(), name: "%", value: 0.0 }), ..rounds(1.0) };
        let lossy = Rounds { axis: Some(Axis { plot: "over loss".into(), name: "%", value: 5.0 }), ..rounds(5.0) };
        let text = page(&[("cpu", "a & \"b\" <c>".to_owned())], &[rounds(64.0), rounds(1472.0), lossless, lossy]);
        let page = xml::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}"));
        let is_plot = |element: &&xml::Element| element.name == "svg" && element.attribute("class") == Some("plot");
        let plots: Vec<&xml::Element> = page.all().into_iter().filter(is_plot).collect();
        // Bars and latencies of four scenarios, two plots over a number, the simulator's.
        assert_eq!(plots.len(), 4 * 2 + 2 + 1);
        for plot in plots {
            let title = plot.attribute("aria-label").unwrap();
            let view: Vec<f64> =
                plot.attribute("viewBox").unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
            assert!(marks(plot).len() >= 2, "{title}");
            for mark in marks(plot) {
                let number = |name: &str| mark.attribute(name).map(|text| text.parse::<f64>().unwrap());
                let (x, y) = (number("x").or(number("cx")).unwrap(), number("y").or(number("cy")).unwrap());
                let (width, height) = (number("width").unwrap_or(0.0), number("height").unwrap_or(0.0));
                let within = x >= 0.0 && y >= 0.0 && x + width <= view[2] && y + height <= view[3];
                assert!(within, "{title}: {x} {y} of {view:?}");
            }
            // Paths are drawn from numbers only.
            let paths = plot.all().into_iter().filter_map(|element| element.attribute("d"));
            for path in paths {
                let numbers = path.split(|c: char| c.is_ascii_alphabetic() || c == ' ').filter(|word| !word.is_empty());
                assert!(numbers.clone().count() > 0 && numbers.into_iter().all(|n| n.parse::<f64>().is_ok()), "{path}");
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let mut none = rounds(64.0);
        none.systems[0] = Measured::new("kernel", Vec::new());
        none.systems[1].percentiles.clear();
        let page = page(&[], &[none]);
        assert!(
            !page.contains("NaN") && !page.contains("latency by percentile") && !page.contains("over size"),
            "{page}"
        );
    }

    #[test]
    fn colours_do_not_change_with_the_order() {
        let systems = ["a", FRAMEWIRE, "b"].map(|name| Measured::new(name, vec![1.0]));
        assert_eq!(["a", FRAMEWIRE, "b"].map(|name| colour(&systems, name)), [1, 0, 2]);
    }
}
