//! Panels drawn much as Grafana draws them: plots as SVG, numbers and tables as HTML.

use std::collections::{BTreeMap, BTreeSet};

/// Grafana's classic palette, in its order.
const PALETTE: [&str; 12] = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0",
    "#37872d", "#fade2a", "#447ebc", "#c15c17",
];

/// Room for the numbers at the left of a plot, and for the times below.
const LEFT: f64 = 56.0;
const BELOW: f64 = 18.0;

/// An answer of Prometheus: seconds and values, in order.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, value)| *value)
    }

    fn at(&self, time: f64) -> f64 {
        self.points.iter().find(|(at, _)| *at == time).map_or(0.0, |(_, value)| *value)
    }
}

/// Where a plot is drawn: pixels, and what time they stand for.
pub struct Frame<'a> {
    pub width: f64,
    pub height: f64,
    pub from: f64,
    pub to: f64,
    pub step: f64,
    pub unit: &'a str,
}

impl Frame<'_> {
    fn x(&self, time: f64) -> f64 {
        LEFT + (time - self.from) / (self.to - self.from) * (self.width - LEFT)
    }

    fn floor(&self) -> f64 {
        self.height - BELOW
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        self.floor() - value / top * (self.floor() - 6.0)
    }

    /// With the times below.
    fn svg(&self, inside: &str) -> String {
        let every = step((self.to - self.from) / 6.0);
        let times: String = (0u32..)
            .map(|count| f64::from(count) * every)
            .take_while(|time| self.from + time < self.to - every / 2.0)
            .map(|time| {
                let (x, y) = (self.x(self.from + time), self.height - 3.0);
                format!("<text x='{x:.0}' y='{y:.0}' text-anchor='middle'>+{time} s</text>")
            })
            .collect();
        let Frame { width, height, .. } = self;
        format!("<svg width='{width:.0}' height='{height:.0}'>{inside}{times}</svg>")
    }

    /// With lines at round values up to `most`; `draw` is given where they end.
    fn with_values(&self, most: f64, draw: impl Fn(f64) -> String) -> String {
        let (scale, _) = scale(self.unit, most);
        let every = step(most.max(scale * 1e-3) / scale / 4.0) * scale;
        let count = (most / every - 1e-9).ceil().max(1.0);
        let top = count * every;
        let lines: String = (0u32..)
            .map(f64::from)
            .take_while(|line| *line <= count)
            .map(|line| {
                let (y, right) = (self.y(line * every, top), self.width);
                let text = number(line * every, top, self.unit);
                format!(
                    "<path d='M{LEFT} {y:.1}H{right:.0}' class='grid'/>\
                     <text x='{:.0}' y='{:.1}' text-anchor='end'>{text}</text>",
                    LEFT - 6.0,
                    y + 4.0
                )
            })
            .collect();
        self.svg(&(lines + &draw(top)))
    }
}

fn most(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

pub fn color(index: usize) -> &'static str {
    PALETTE.iter().cycle().nth(index).map_or("", |color| color)
}

pub fn lines(frame: &Frame<'_>, all: &[Series]) -> String {
    let most = most(all.iter().flat_map(|one| &one.points).map(|point| point.1));
    frame.with_values(most, |top| {
        let one = |(index, series): (usize, &Series)| {
            let color = color(index);
            // A hole in the data is one in the line.
            let parts = series.points.chunk_by(|a, b| b.0 - a.0 < frame.step * 1.5);
            let part = |points: &[(f64, f64)]| {
                let (Some(first), Some(last)) = (points.first(), points.last()) else {
                    return String::new();
                };
                let place = |(time, value): &(f64, f64)| {
                    format!("{:.1} {:.1}", frame.x(*time), frame.y(*value, top))
                };
                let line = points.iter().map(place).collect::<Vec<_>>().join("L");
                let (begin, end, floor) = (frame.x(first.0), frame.x(last.0), frame.floor());
                format!(
                    "<path d='M{begin:.1} {floor}L{line}L{end:.1} {floor}z' fill='{color}' fill-opacity='.1'/>\
                     <path d='M{line}' fill='none' stroke='{color}' stroke-width='1.5'/>"
                )
            };
            parts.map(part).collect::<String>()
        };
        all.iter().enumerate().map(one).collect()
    })
}

/// Stacked.
pub fn bars(frame: &Frame<'_>, all: &[Series]) -> String {
    let mut times: Vec<_> = all.iter().flat_map(|one| &one.points).map(|point| point.0).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let sum = |time: &f64| all.iter().map(|one| one.at(*time)).sum();
    let most = most(times.iter().map(sum));
    let width = (frame.x(frame.step) - frame.x(0.0)) * 0.7;
    frame.with_values(most, |top| {
        let one = |time: &f64| {
            let mut below = 0.0;
            let part = |(index, series): (usize, &Series)| {
                let value = series.at(*time);
                let (x, y) = (frame.x(*time) - width / 2.0, frame.y(below + value, top));
                let height = frame.y(below, top) - y;
                below += value;
                format!(
                    "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height:.1}' fill='{}' fill-opacity='.8'/>",
                    color(index)
                )
            };
            all.iter().enumerate().map(part).collect::<String>()
        };
        times.iter().map(one).collect()
    })
}

/// Series are cumulative buckets, as Prometheus has them, by their label `le`.
pub fn heatmap(frame: &Frame<'_>, all: &[Series]) -> String {
    let bound = |series: &Series| {
        let le = series.labels.get("le").map_or("+Inf", String::as_str);
        le.parse::<f64>().unwrap_or(f64::INFINITY)
    };
    let mut buckets: Vec<_> = all.iter().collect();
    buckets.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
    let none = Series::default();
    let below = std::iter::once(&none).chain(buckets.iter().copied());
    // Each bucket without those that are in it.
    let own: Vec<Vec<(f64, f64)>> = buckets
        .iter()
        .zip(below)
        .map(|(bucket, below)| {
            bucket.points.iter().map(|(time, value)| (*time, value - below.at(*time))).collect()
        })
        .collect();
    let most = most(own.iter().flatten().map(|point| point.1));
    let high = (frame.floor() - 6.0) / f64::from(u32::try_from(buckets.len().max(1)).unwrap_or(1));
    let wide = frame.x(frame.step) - frame.x(0.0);
    let mut y = frame.floor();
    let mut inside = String::new();
    for (index, (bucket, points)) in buckets.iter().zip(own).enumerate() {
        y -= high;
        if index % 2 == 0 {
            let text = number(bound(bucket), bound(bucket), "s");
            let (x, y) = (LEFT - 6.0, y + high / 2.0 + 4.0);
            inside += &format!("<text x='{x:.0}' y='{y:.1}' text-anchor='end'>{text}</text>");
        }
        for (time, value) in points.into_iter().filter(|(_, value)| *value > 1e-9) {
            // Oranges, from dark to light, by the square root.
            let share = (value / most).sqrt() * 100.0;
            inside += &format!(
                "<rect x='{:.1}' y='{y:.1}' width='{:.1}' height='{:.1}' fill='color-mix(in srgb, #fdae6b {share:.0}%, #4a2008)'/>",
                frame.x(time) - wide,
                wide - 1.0,
                high - 1.0
            );
        }
    }
    frame.svg(&inside)
}

/// Big numbers; `color` gives that of a value.
pub fn stat(all: &[Series], color: impl Fn(f64) -> String) -> String {
    let one = |series: &Series| {
        let value = series.last();
        let name = if all.len() > 1 { escaped(&series.name) } else { String::new() };
        format!("<div style='color:{}'><i>{name}</i><b>{value:.0}</b></div>", color(value))
    };
    format!("<div class='stat'>{}</div>", all.iter().map(one).collect::<String>())
}

/// The greatest first.
pub fn table(all: &[Series]) -> String {
    let names: BTreeSet<_> = all.iter().flat_map(|one| one.labels.keys()).collect();
    let head: String = names.iter().map(|name| format!("<th>{}</th>", escaped(name))).collect();
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|a, b| b.last().total_cmp(&a.last()));
    let row = |series: &&Series| {
        let text = |name: &&String| series.labels.get(*name).map_or("", String::as_str);
        let cells = names.iter().map(|name| format!("<td>{}</td>", escaped(text(name))));
        format!("<tr>{}<td>{:.0}</td></tr>", cells.collect::<String>(), series.last())
    };
    let rows: String = sorted.iter().map(row).collect();
    format!("<table><tr>{head}<th>Value</th></tr>{rows}</table>")
}

/// What the numbers of an axis that ends at `top` are divided by, and called.
fn scale(unit: &str, top: f64) -> (f64, &'static str) {
    match unit {
        "bytes" => (f64::from(1 << 20), " MiB"),
        "percentunit" => (0.01, "%"),
        "cps" => (1.0, " c/s"),
        "s" if top < 1e-3 => (1e-6, " µs"),
        "s" if top < 1.0 => (1e-3, " ms"),
        "s" => (1.0, " s"),
        _ => (1.0, ""),
    }
}

fn number(value: f64, top: f64, unit: &str) -> String {
    let (divisor, name) = scale(unit, top);
    if value.is_infinite() {
        return "+Inf".to_owned();
    }
    let rounded = (value / divisor * 1000.0).round() / 1000.0;
    format!("{rounded}{name}")
}

/// The next of 1, 2, 5, 10, … .
fn step(least: f64) -> f64 {
    let ten = 10f64.powf(least.log10().floor());
    let fits = [1.0, 2.0, 5.0].map(|one| one * ten).into_iter().find(|one| *one >= least * 0.999);
    fits.unwrap_or(10.0 * ten)
}

/// For HTML.
pub fn escaped(text: &str) -> String {
    let signs = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('\'', "&#39;"), ('"', "&quot;")];
    signs.iter().fold(text.to_owned(), |text, (sign, name)| text.replace(*sign, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame<'_> =
        Frame { width: 156.0, height: 124.0, from: 0.0, to: 10.0, step: 1.0, unit: "short" };

    fn series(labels: &[(&str, &str)], values: &[f64]) -> Series {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let points = (0u32..).map(f64::from).zip(values.iter().copied()).collect();
        Series { name: "one".into(), labels, points }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (least, next) in [(0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (0.06, 0.1)] {
            assert!((step(least) - next).abs() < 1e-9, "{least}");
        }
        assert_eq!(number(0.0002, 0.0005, "s"), "200 µs");
        assert_eq!(number(f64::from(9 << 20), 1e7, "bytes"), "9 MiB");
        assert_eq!(number(0.015, 0.02, "percentunit"), "1.5%");
        assert_eq!(number(f64::INFINITY, f64::INFINITY, "s"), "+Inf");
        let drawn = lines(&FRAME, &[series(&[], &[0.0, 7.0])]);
        assert!(drawn.contains(">8</text>") && !drawn.contains(">10</text>"), "{drawn}");
    }

    #[test]
    fn bars_stand_on_each_other() {
        let drawn = bars(&FRAME, &[series(&[], &[1.0]), series(&[], &[3.0])]);
        // 100 pixels for 4.
        assert!(drawn.contains("y='81.0' width='7.0' height='25.0'"), "{drawn}");
        assert!(drawn.contains("y='6.0' width='7.0' height='75.0'"), "{drawn}");
    }

    #[test]
    fn a_bucket_is_drawn_without_those_below() {
        let all = [series(&[("le", "+Inf")], &[5.0]), series(&[("le", "0.1")], &[5.0])];
        let drawn = heatmap(&FRAME, &all);
        assert_eq!(drawn.matches("<rect").count(), 1, "{drawn}");
        assert!(drawn.contains("100 ms"), "{drawn}");
    }

    #[test]
    fn names_are_no_markup() {
        let drawn = table(&[series(&[("pod", "<img>")], &[2.4])]);
        assert!(drawn.contains("<td>&lt;img&gt;</td><td>2</td>"), "{drawn}");
    }
}
