//! `plot`: learning curves of runs as an SVG: the median over seeds and the quartiles around it. Of recordings, see
//! [`activity`].

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;
use plotters::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::activity::{self, Panel, Part};
use crate::cli::{Console, ExitKind, Report};
use crate::files::{self, FileError};
use crate::run::METRICS;

/// Draw learning curves of runs, or the modulator's course in recordings
#[derive(Debug, Args)]
#[command(after_help = "\
Each RUN is a run folder, or a folder of seed-N folders, whose median and quartiles are drawn. The curve is the score
(late accuracy; in the maze, hits as a share of the searcher's) over windows of 100 iterations; restarts and easier stages
of the curriculum show as falls. The numbers lie beside the picture, one point a line: curves.jsonl for curves.svg.

Of files that `monitor --out` wrote, Figure 3 of the paper is drawn, a panel for each: M(t), the reward of the step before, mean |H|;
below, squares for the cues on show (dark: the one that pays) and for the question. The numbers are in activity.numbers.jsonl for
activity.svg: name, lifetime, step, cue, target, go, reward, m, trace_mean, saturation.

JSON: out, numbers; of runs, runs: name, seeds, iterations, and the last median and quartiles of the score; of recordings,
recordings: title, steps, modulator_mean (of |m|).

Example: backpropamine plot runs/simple runs/hebbian --out curves.svg")]
pub struct PlotCommand {
    /// Run folders, or recordings
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The picture [default: curves.svg, of recordings activity.svg]
    #[arg(long, value_name = "FILE.svg")]
    out: Option<PathBuf>,
    /// Which lifetime of the recordings
    #[arg(long, value_name = "N", default_value = "0")]
    lifetime: u32,
    /// One trial of it only, from 0
    #[arg(long, value_name = "N")]
    trial: Option<u32>,
}

impl PlotCommand {
    /// Draws the picture.
    ///
    /// # Errors
    /// [`FileError`] when a run has no usable metrics or a recording a bad line.
    pub fn run(&self, console: &Console) -> Result<Report> {
        match self.runs.iter().filter(|run| run.is_file()).count() {
            0 => self.curves(console),
            files if files == self.runs.len() => self.activity(console),
            _ => Err(ExitKind::Usage("RUN: run folders and recordings do not go into one picture; draw two".into()).into()),
        }
    }

    fn curves(&self, console: &Console) -> Result<Report> {
        let out = self.out.clone().unwrap_or_else(|| "curves.svg".into());
        let numbers = out.with_extension("jsonl");
        let curves = draw_curves(&self.runs, &out, &numbers)?;
        for curve in &curves {
            console.say(curve);
        }
        console.say(format_args!("{}, {}", out.display(), numbers.display()));
        let runs: Vec<Value> = curves.iter().map(Curve::summary).collect();
        Report::done(json!({ "out": out, "numbers": numbers, "runs": runs }))
    }

    fn activity(&self, console: &Console) -> Result<Report> {
        let out = self.out.clone().unwrap_or_else(|| "activity.svg".into());
        let part = Part {
            lifetime: self.lifetime,
            trial: self.trial,
        };
        // Never the name of a recording that lies beside the picture.
        let numbers = out.with_extension("numbers.jsonl");
        let panels = draw_activity(&self.runs, part, &out, &numbers)?;
        console.say(format_args!("{}, {}", out.display(), numbers.display()));
        let recordings: Vec<Value> = panels.iter().map(Panel::summary).collect();
        Report::done(json!({ "out": out, "numbers": numbers, "recordings": recordings }))
    }
}

/// [`draw_runs`], and what is drawn as `numbers`.
pub(crate) fn draw_curves(runs: &[PathBuf], out: &Path, numbers: &Path) -> Result<Vec<Curve>> {
    let curves = draw_runs(runs, out)?;
    write_lines(numbers, curves.iter().flat_map(Curve::lines))?;
    Ok(curves)
}

/// [`activity::draw_recordings`], and what is drawn as `numbers`.
pub(crate) fn draw_activity(recordings: &[PathBuf], part: Part, out: &Path, numbers: &Path) -> Result<Vec<Panel>> {
    let panels = activity::draw_recordings(recordings, part, out)?;
    let points = panels.iter().flat_map(|panel| &panel.points).map(serde_json::to_value);
    write_lines(numbers, points.collect::<Result<Vec<_>, _>>()?)?;
    Ok(panels)
}

/// Writes one JSON object a line.
pub(crate) fn write_lines(path: &Path, values: impl IntoIterator<Item = Value>) -> Result<()> {
    let lines: String = values.into_iter().map(|value| format!("{value}\n")).collect();
    Ok(files::write_atomically(path, lines.as_bytes())?)
}

/// Iterations of one point of a curve.
const WINDOW: usize = 100;

/// The part of a metrics line that is drawn.
#[derive(Deserialize)]
struct Line {
    reached: u32,
    reachable: u32,
}

/// One run's score, or several seeds' median and quartiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    name: String,
    seeds: usize,
    /// Iterations of each point.
    window: usize,
    /// Lower quartile, median, upper quartile.
    points: Vec<[f64; 3]>,
}

impl Curve {
    fn summary(&self) -> Value {
        let [lower, median, upper] = self.points.last().copied().unwrap_or([f64::NAN; 3]);
        let iterations = self.points.len() * self.window;
        json!({
            "name": self.name, "seeds": self.seeds, "iterations": iterations,
            "lower_quartile": lower, "median": median, "upper_quartile": upper,
        })
    }

    /// One JSON object a point: name, iterations, lower_quartile, median, upper_quartile.
    fn lines(&self) -> impl Iterator<Item = Value> {
        self.points.iter().enumerate().map(|(index, [lower, median, upper])| {
            json!({
                "name": self.name, "iterations": (index + 1) * self.window,
                "lower_quartile": lower, "median": median, "upper_quartile": upper,
            })
        })
    }

    fn band(&self) -> Band {
        let at = |index| ((index + 1) * self.window) as f64;
        let points = self.points.iter().enumerate().map(|(index, &point)| (at(index), point)).collect();
        Band {
            name: self.name.clone(),
            points,
        }
    }
}

impl std::fmt::Display for Curve {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let [lower, median, upper] = self.points.last().copied().unwrap_or([f64::NAN; 3]);
        let (name, seeds) = (&self.name, self.seeds);
        write!(f, "{name}: {seeds} seeds, score at the end {median:.3} ({lower:.3} … {upper:.3})")
    }
}

/// Draws the learning curves of run folders into an SVG file.
///
/// # Errors
/// [`FileError`] when a run has no usable metrics; other errors when the file cannot be written.
pub fn draw_runs(runs: &[PathBuf], out: &Path) -> Result<Vec<Curve>> {
    let curves = runs.iter().map(|run| read_curve(run)).collect::<Result<Vec<_>, _>>()?;
    let bands: Vec<_> = curves.iter().map(Curve::band).collect();
    draw_bands(&bands, "iterations", "score", out)?;
    Ok(curves)
}

/// A line with a band around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Its name in the legend.
    pub name: String,
    /// For each x: the lower edge, the line and the upper edge. The band is not drawn where all edges are the line.
    pub points: Vec<(f64, [f64; 3])>,
}

/// Draws shares of 1 against x into an SVG file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw_bands(bands: &[Band], x: &str, y: &str, out: &Path) -> Result<()> {
    let mut svg = String::new();
    draw(bands, x, y, &mut svg).map_err(|error| anyhow!("{}: cannot be drawn: {error}", out.display()))?;
    Ok(files::write_atomically(out, svg.as_bytes())?)
}

fn read_curve(run: &Path) -> Result<Curve, FileError> {
    let folders = seed_folders(run);
    let lines = folders
        .iter()
        .map(|folder| read_lines(&folder.join(METRICS)))
        .collect::<Result<Vec<_>, _>>()?;
    let longest = lines.iter().map(Vec::len).max().unwrap_or(0);
    // A run shorter than some windows still has a curve of some points.
    let window = WINDOW.min(longest.div_ceil(10)).max(1);
    let seeds: Vec<Vec<f64>> = lines.iter().map(|lines| smooth(lines, window)).collect();
    let length = seeds.iter().map(Vec::len).max().unwrap_or(0);
    let point = |index| {
        // A finished run keeps its last value while others go on.
        let values = seeds.iter().filter_map(|seed: &Vec<f64>| seed.get(index).or(seed.last()).copied());
        quartiles(values.collect())
    };
    let name = run
        .file_name()
        .map_or(run.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Curve {
        name,
        seeds: seeds.len(),
        window,
        points: (0..length).map(point).collect(),
    })
}

/// The folder itself, or its `seed-N` folders in the order of their names.
pub(crate) fn seed_folders(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_seed = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
    let mut folders: Vec<_> = entries.filter(is_seed).collect();
    folders.sort();
    if folders.is_empty() { vec![run.to_owned()] } else { folders }
}

fn read_lines(path: &Path) -> Result<Vec<Line>, FileError> {
    let text = files::read_text(path)?;
    let lines = text.lines().enumerate().map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| {
            let field = format!("line {}", number + 1);
            FileError::new(path, field, "an iteration's metrics", error, "give a run folder that `train` made")
        })
    });
    lines.collect()
}

fn smooth(lines: &[Line], window: usize) -> Vec<f64> {
    let score = |lines: &[Line]| {
        let sum = |(reached, reachable), line: &Line| (reached + line.reached, reachable + line.reachable);
        let (reached, reachable) = lines.iter().fold((0, 0), sum);
        f64::from(reached) / f64::from(reachable.max(1))
    };
    lines.chunks(window).map(score).collect()
}

/// Lower quartile, median and upper quartile, linear between the ranks.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let rank = |share: f64| {
        let place = share * (values.len() - 1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        values[low] + (values[high] - values[low]) * (place - place.floor())
    };
    [rank(0.25), rank(0.5), rank(0.75)]
}

fn draw(bands: &[Band], x: &str, y: &str, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (800, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let end = bands.iter().flat_map(|band| &band.points).map(|(x, _)| *x).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..1.0)?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
    for (index, band) in bands.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let edge = |which: usize| band.points.iter().map(move |(x, point)| (*x, point[which]));
        if band.points.iter().any(|(_, [low, _, high])| low < high) {
            let outline = edge(0).chain(edge(2).rev()).collect::<Vec<_>>();
            chart.draw_series([Polygon::new(outline, colour.mix(0.2))])?;
        }
        chart
            .draw_series(LineSeries::new(edge(1), colour.stroke_width(2)))?
            .label(&band.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_ranks() {
        assert_eq!(quartiles(vec![4.0, 1.0, 3.0, 2.0, 5.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(vec![1.0, 2.0]), [1.25, 1.5, 1.75]);
        assert_eq!(quartiles(vec![0.5]), [0.5; 3]);
    }

    #[test]
    fn folders_of_seeds_become_one_curve_with_a_band() {
        let folder = tempfile::tempdir().unwrap();
        for (seed, correct) in [(1, 5), (2, 10)] {
            let run = folder.path().join(format!("runs/seed-{seed}"));
            std::fs::create_dir_all(&run).unwrap();
            let line = format!("{{\"reached\":{correct},\"reachable\":10}}\n");
            std::fs::write(run.join(METRICS), line.repeat(300)).unwrap();
        }
        let out = folder.path().join("curve.svg");
        let curves = draw_runs(&[folder.path().join("runs")], &out).unwrap();
        assert_eq!(curves[0].seeds, 2);
        assert_eq!(curves[0].points.last(), Some(&[0.625, 0.75, 0.875]));
        let last = curves[0].lines().last().unwrap();
        assert_eq!((&last["iterations"], &last["median"]), (&json!(300), &json!(0.75)));
        let svg = std::fs::read_to_string(out).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("polygon") && svg.contains("score"));
    }
}
