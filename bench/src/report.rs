//! What was measured, as Markdown with a plot: bars of ratios, their targets as lines.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::find::{Programs, version};

/// One part's results. Rows are printed as they come, for whoever watches.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    bars: Vec<Bar>,
}

/// A ratio to redis-server; below 1 is better.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) ratio: f64,
    pub(crate) target: Option<f64>,
}

impl Report {
    pub(crate) fn note(&mut self, text: &str) {
        println!("{text}");
        self.text.push_str(&format!("\n{text}\n"));
    }

    pub(crate) fn heads(&mut self, heads: &[&str]) {
        self.text.push('\n');
        self.line(heads.iter().map(|head| (*head).to_owned()));
        self.text
            .push_str(&format!("|{}\n", "---|".repeat(heads.len())));
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.line(cells.into_iter());
    }

    fn line(&mut self, cells: impl Iterator<Item = String>) {
        let mut line = String::from("|");
        cells.for_each(|cell| line.push_str(&format!(" {cell} |")));
        println!("{line}");
        self.text.push_str(&line);
        self.text.push('\n');
    }

    /// A bar of the plot, and its line in words: what was reached against what is aimed at.
    pub(crate) fn bar(&mut self, label: String, ratio: f64, target: Option<f64>) {
        if ratio.is_finite() {
            self.bars.push(Bar {
                label,
                ratio,
                target,
            });
        }
    }

    pub(crate) fn write(&self, folder: &Path, part: &str, machine: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut page = format!("# {part}\n\n{machine}\n");
        if !self.bars.is_empty() {
            page.push_str(&format!(
                "\n![Ratios to redis-server; below 1 is better; lines are targets]({part}.svg)\n"
            ));
            fs::write(folder.join(format!("{part}.svg")), plot(part, &self.bars))?;
        }
        page.push_str(&self.text);
        fs::write(folder.join(format!("{part}.md")), page)
    }
}

/// `0.47 <= 0.50 pass`, or the ratio alone.
pub(crate) fn judged(ratio: f64, target: Option<f64>) -> String {
    match target {
        None => format!("{ratio:.2}"),
        Some(target) if ratio <= target => format!("{ratio:.2} <= {target:.2} pass"),
        Some(target) => format!("{ratio:.2} > {target:.2} **FAIL**"),
    }
}

/// Where and with what it was measured.
pub(crate) fn machine(programs: &Programs) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(
            || "unknown".to_owned(),
            |(_, value)| value.trim().to_owned(),
        )
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let day = Command::new("date").args(["-u", "+%F"]).output();
    let day = day.map(|output| output.stdout).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let mut text = format!(
        "{}: {cpus} CPUs ({}), {} of memory, Linux {}; load average at the start {load}.\n\n",
        String::from_utf8_lossy(&day).trim(),
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
    );
    let found = [
        Some(&programs.meridian),
        Some(&programs.redis),
        Some(&programs.redis_benchmark),
        programs.valkey.as_ref(),
        programs.memcached.as_ref(),
    ];
    for program in found.into_iter().flatten() {
        text.push_str(&format!("- {}\n", version(program)));
    }
    text
}

const LABEL_PX: f64 = 190.0;
const ROW_PX: f64 = 22.0;
const PX_PER_ONE: f64 = 380.0;
/// Longer bars are cut; their figure stands beside them.
const RATIO_MAX: f64 = 1.5;

/// Bars from the left, redis-server's 1 as a dashed line through all, each target as a mark on its bar.
fn plot(title: &str, bars: &[Bar]) -> String {
    let top = 34.0;
    let height = top + ROW_PX * bars.len() as f64 + 10.0;
    let width = LABEL_PX + PX_PER_ONE * RATIO_MAX + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-weight=\"bold\">{title}: ratio to redis-server, below 1 is better; \
         black marks are targets</text>\n"
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = top + ROW_PX * index as f64;
        let (middle, length) = (y + 14.0, PX_PER_ONE * bar.ratio.min(RATIO_MAX));
        let colour = match bar.target {
            None => "#8899aa",
            Some(target) if bar.ratio <= target => "#2a9d5c",
            Some(_) => "#d1495b",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{middle}\">{}</text>\
             <rect x=\"{LABEL_PX}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{middle}\">{:.2}</text>",
            escaped(&bar.label),
            y + 3.0,
            ROW_PX - 6.0,
            LABEL_PX + length + 6.0,
            bar.ratio,
        );
        if let Some(target) = bar.target {
            let x = LABEL_PX + PX_PER_ONE * target.min(RATIO_MAX);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\" stroke=\"black\" stroke-width=\"2\"/>",
                y + ROW_PX
            );
        }
    }
    let one = LABEL_PX + PX_PER_ONE;
    let _ = writeln!(
        svg,
        "<line x1=\"{one}\" x2=\"{one}\" y1=\"{top}\" y2=\"{height}\" stroke=\"#444\" stroke-dasharray=\"4 3\"/>\n</svg>"
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_by_its_target() {
        assert_eq!(judged(0.5, Some(0.5)), "0.50 <= 0.50 pass");
        assert_eq!(judged(0.6, Some(0.5)), "0.60 > 0.50 **FAIL**");
        assert_eq!(judged(0.6, None), "0.60");
        assert!(judged(f64::NAN, Some(0.5)).contains("FAIL"));
    }

    #[test]
    fn a_plot_has_a_bar_for_each_ratio_and_a_line_for_each_target() {
        let bar = |label: &str, ratio, target| Bar {
            label: label.to_owned(),
            ratio,
            target,
        };
        let svg = plot("t", &[bar("a<b", 0.5, Some(0.6)), bar("c", 9.0, None)]);
        assert_eq!(svg.matches("<rect x").count(), 2);
        assert_eq!(svg.matches("<line").count(), 2);
        assert!(svg.contains("a&lt;b"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
