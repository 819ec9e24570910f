//! The picture of LATENCY GRAPH: delays as columns of characters, under each when it was.

use std::collections::VecDeque;

use crate::latency::Series;

/// Delays beside one another.
const COLUMNS: usize = 80;
/// Lines of a picture.
const LINES: usize = 4;
/// The marks of a column's top, the lowest first.
const TOPS: [char; 3] = ['_', 'o', '#'];
/// What is below the top.
const BODY: char = '|';

/// The delays of an event.
pub(super) fn draw(event: &str, series: &Series, now_s: u64) -> String {
    let delays = || series.samples.iter().map(|(_, ms)| *ms);
    let (high, low) = (delays().max().unwrap_or(0), delays().min().unwrap_or(0));
    let mut text = format!(
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.longest_ms,
        "-".repeat(COLUMNS)
    );
    let samples: Vec<(u64, u64)> = series.samples.iter().copied().collect();
    for (number, part) in samples.chunks(COLUMNS).enumerate() {
        if number > 0 {
            text.push('\n');
        }
        draw_part(part, (low, high), now_s, &mut text);
    }
    text
}

fn draw_part(part: &[(u64, u64)], (low, high): (u64, u64), now_s: u64, text: &mut String) {
    let steps = TOPS.len() * LINES;
    let span = (high - low).max(1);
    for line in (0..LINES).rev() {
        for (_, ms) in part {
            let step = ((ms - low) as usize * steps / span as usize).min(steps - 1);
            text.push(match step.checked_sub(line * TOPS.len()) {
                None => ' ',
                Some(top) => *TOPS.get(top).unwrap_or(&BODY),
            });
        }
        text.push('\n');
    }
    // An empty line, then the labels from top to bottom.
    text.push_str(&" ".repeat(part.len()));
    text.push('\n');
    let mut labels: Vec<VecDeque<char>> = part
        .iter()
        .map(|(at_s, _)| ago(now_s.saturating_sub(*at_s)).chars().collect())
        .collect();
    while labels.iter().any(|label| !label.is_empty()) {
        text.extend(
            labels
                .iter_mut()
                .map(|label| label.pop_front().unwrap_or(' ')),
        );
        text.push('\n');
    }
}

/// So long ago, in the largest unit.
fn ago(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::latency::Series;

    #[test]
    fn columns_are_as_high_as_their_delays() {
        let samples = [(0, 10), (999_000, 100), (999_990, 55)].into();
        let series = Series {
            samples,
            longest_ms: 200,
        };
        let expected = [
            "command - high 100 ms, low 10 ms (all time high 200 ms)",
            &"-".repeat(80),
            " # ",
            " |_",
            " ||",
            "_||",
            "   ",
            "111",
            "160",
            "dms",
            "",
        ];
        assert_eq!(draw("command", &series, 1_000_000), expected.join("\n"));
    }
}
