//! The simulator's table of what gets through a lossy link, which its test keeps (`engine/tests/tcp_sim/goodput.rs`).

use super::svg::{Axes, Point, Scale, Series, lines};

const TABLE: &str = include_str!("../../../../engine/tests/tcp_sim/snapshots/tcp_sim__goodput__goodput.snap");

/// A row that has nothing but loss.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    round_trip_ms: f64,
    loss: f64,
    mbit_per_s: f64,
}

/// Columns: round trip, "ms", loss, duplicates, corruption, reordering, Mbit/s up, and more.
fn parse(table: &str) -> Vec<Row> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[round_trip, "ms", loss, duplicates, corrupt, reorder, up, ..] = words.as_slice() else { return None };
        let number = |word: &str| word.parse::<f64>().ok();
        let others = [duplicates, corrupt, reorder].map(number);
        let row = Row { round_trip_ms: number(round_trip)?, loss: number(loss)?, mbit_per_s: number(up)? };
        (others == [Some(0.0); 3]).then_some(row)
    };
    table.lines().filter_map(row).collect()
}

/// Goodput over loss, a line for each round trip; nothing without a table.
pub(super) fn plot() -> Option<String> {
    let rows = parse(TABLE);
    let mut series: Vec<Series> = Vec::new();
    for Row { round_trip_ms, loss, mbit_per_s } in &rows {
        let name = format!("round trip {round_trip_ms} ms");
        let index = series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            series.push(Series { name, colour: series.len(), points: Vec::new() });
            series.len() - 1
        });
        let (x, y) = (loss * 100.0, *mbit_per_s);
        series[index].points.push(Point { x, y, low: y, high: y });
    }
    let axes = Axes {
        title: "goodput over loss, simulated",
        x_name: "packets lost, %",
        y_name: "Mbit/s",
        x: Scale::linear(rows.iter().map(|row| row.loss * 100.0)),
        y: Scale::log(rows.iter().map(|row| row.mbit_per_s)),
        x_ticks: Vec::new(),
    };
    (!rows.is_empty()).then(|| lines(&axes, &series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_other_faults_are_left_out() {
        let table = "round trip  loss  dup   corrupt  reorder  up Mbit/s\n\
                     2 ms  0.001     0        0        0      77.84        91.94    209\n\
                     2 ms  0.001     0        0        0.1    50.00        91.94    209\n";
        assert_eq!(parse(table), [Row { round_trip_ms: 2.0, loss: 0.001, mbit_per_s: 77.84 }]);
    }

    #[test]
    fn the_kept_table_has_loss_at_several_round_trips() {
        let rows = parse(TABLE);
        assert!(rows.len() >= 8, "{rows:?}");
        assert!(rows.iter().any(|row| row.round_trip_ms != rows[0].round_trip_ms), "{rows:?}");
        assert!(plot().unwrap().contains("round trip 20 ms"));
    }
}
