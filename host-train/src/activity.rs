//! The modulator at work: Figure 3 of the paper (A.4) from recordings of `monitor`, a panel for each.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::ExitKind;
use crate::device::record::{self, Health, Record};
use crate::device::recording::Recording;
use crate::device::world::World;
use crate::files;

/// Which part of a recording.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The lifetime.
    pub lifetime: u32,
    /// One trial of it, from 0, and the step after it, which sees its reward; `None` is all.
    pub trial: Option<u32>,
}

/// One step as it is drawn; also a line of the numbers beside the picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The recording's name.
    pub name: String,
    /// The lifetime.
    pub lifetime: u32,
    /// The step.
    pub step: u32,
    /// The cue on show, from 0.
    pub cue: Option<usize>,
    /// Whether the cue that pays was on show.
    pub target: bool,
    /// Whether an answer was asked for.
    pub go: bool,
    /// The reward of the step before: what the network perceives now.
    pub reward: f32,
    /// The modulator m(t).
    pub m: f32,
    /// Mean of |H| when it was last looked at.
    pub trace_mean: Option<f32>,
    /// Share of saturated traces when it was last looked at.
    pub saturation: Option<f32>,
}

/// A recording's part.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    title: String,
    /// Cues of the task; none in the maze.
    cues: u32,
    /// Its steps.
    pub points: Vec<Point>,
}

impl Panel {
    /// Takes the part out of a recording.
    ///
    /// # Errors
    /// [`FileError`](crate::files::FileError) for a file that is none, [`ExitKind::Usage`] for a part that it has not.
    pub fn load(path: &Path, part: Part) -> Result<Self> {
        let recording = Recording::load(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut points = points(&recording, part.lifetime, &name)?;
        if let Some(trial) = part.trial {
            let (first, last) = bounds(&recording, part.lifetime, trial).unwrap_or((1, 0));
            points.retain(|point| (first..=last.saturating_add(1)).contains(&point.step) && first <= last);
        }
        if points.is_empty() {
            let trial = part.trial.map_or_else(String::new, |trial| format!(" --trial {trial}"));
            let message = format!("--lifetime {}{trial}: {} does not have it", part.lifetime, path.display());
            return Err(ExitKind::Usage(message).into());
        }
        let World::Cue(cue) = World::new(recording.task)? else {
            return Ok(Self::new(name, &recording, part, 0, points));
        };
        Ok(Self::new(name, &recording, part, cue.config().cues, points))
    }

    fn new(name: String, recording: &Recording, part: Part, cues: u32, points: Vec<Point>) -> Self {
        let title = format!(
            "{name}: {}, {}, lifetime {}",
            recording.head.rule, recording.head.numeric, part.lifetime
        );
        Self { title, cues, points }
    }

    /// What `--json` says of it.
    pub fn summary(&self) -> Value {
        let mean = self.points.iter().map(|point| f64::from(point.m.abs())).sum::<f64>() / self.points.len() as f64;
        json!({ "title": self.title, "steps": self.points.len(), "modulator_mean": mean })
    }
}

/// The steps of a lifetime, beside what was on show, which follows from the seed and the actions.
fn points(recording: &Recording, lifetime: u32, name: &str) -> Result<Vec<Point>> {
    let mut world = World::new(recording.task)?;
    let mut points: Vec<Point> = Vec::new();
    let mut reward = 0.0;
    for record in &recording.records {
        match record {
            Record::Birth(birth) if birth.lifetime == lifetime => world.birth(birth.seed),
            Record::Step(step) if step.lifetime == lifetime => {
                let cue = world.cue();
                points.push(Point {
                    name: name.to_owned(),
                    lifetime,
                    step: step.step,
                    cue: cue.and_then(|cue| cue.shown()),
                    target: cue.is_some_and(|cue| cue.shown() == Some(cue.target())),
                    go: cue.is_some_and(|cue| cue.is_go()),
                    reward,
                    m: step.m,
                    trace_mean: None,
                    saturation: None,
                });
                world.act(step.action);
                reward = step.reward;
            }
            // It comes after the steps that it knows of: those to come are drawn with it.
            Record::Health(health) if health.lifetime == lifetime => look(&mut points, health),
            _ => {}
        }
    }
    let mut last = (None, None);
    for point in &mut points {
        last = (point.trace_mean.or(last.0), point.saturation.or(last.1));
        (point.trace_mean, point.saturation) = last;
    }
    Ok(points)
}

/// Notes how the network felt at the step that a health record belongs to.
fn look(points: &mut [Point], health: &Health) {
    if let Some(point) = points.iter_mut().rev().find(|point| point.step == health.step) {
        point.trace_mean = Some(health.trace_mean);
        point.saturation = Some(health.saturation);
    }
}

/// First and last step of a trial.
fn bounds(recording: &Recording, lifetime: u32, trial: u32) -> Option<(u32, u32)> {
    let end = |trial: u32| {
        let mut trials = record::trials(&recording.records).filter(|record| record.lifetime == lifetime);
        trials.find(|record| record.trial == trial).map(|record| record.step)
    };
    let first = match trial.checked_sub(1) {
        Some(before) => end(before)? + 1,
        None => 0,
    };
    Some((first, end(trial)?))
}

/// Draws the panels, one below the other.
///
/// # Errors
/// As [`Panel::load`]; other errors when the file cannot be written.
pub fn draw_recordings(files: &[PathBuf], part: Part, out: &Path) -> Result<Vec<Panel>> {
    let panels = files.iter().map(|file| Panel::load(file, part)).collect::<Result<Vec<_>>>()?;
    let mut svg = String::new();
    draw(&panels, &mut svg).map_err(|error| anyhow!("{}: cannot be drawn: {error}", out.display()))?;
    files::write_atomically(out, svg.as_bytes())?;
    Ok(panels)
}

type Failure = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw(panels: &[Panel], svg: &mut String) -> Result<(), Failure> {
    const HEIGHT: u32 = 240;
    let root = SVGBackend::with_string(svg, (900, HEIGHT * panels.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        draw_panel(panel, &area)?;
    }
    root.present()?;
    Ok(())
}

/// Where the squares of the cues begin, below the curves, and the distance from one row to the next.
const SQUARES: (f64, f64) = (-1.2, 0.22);

fn draw_panel(panel: &Panel, area: &Area) -> Result<(), Failure> {
    let steps = || panel.points.iter().map(|point| f64::from(point.step));
    let (first, last) = (steps().fold(f64::INFINITY, f64::min), steps().fold(0.0, f64::max));
    // The last row of squares is that of the question.
    let rows = if panel.cues > 0 { panel.cues + 1 } else { 0 };
    let floor = SQUARES.0 - SQUARES.1 * f64::from(rows);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(&panel.title, ("sans-serif", 14))
        .x_label_area_size(24)
        .y_label_area_size(40)
        // On the right, room for the legend.
        .build_cartesian_2d(first - 0.5..last + 0.5 + 0.15 * (last - first), floor..1.1)?;
    let label = |y: &f64| if *y < -1.0 { String::new() } else { format!("{y:.1}") };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&label)
        .draw()?;
    draw_squares(panel, &mut chart)?;
    curve(&mut chart, panel, "reward", &RGBColor(230, 140, 20), |point| Some(point.reward))?;
    curve(&mut chart, panel, "mean |H|", &RGBColor(90, 160, 90), |point| point.trace_mean)?;
    curve(&mut chart, panel, "M(t)", &RGBColor(30, 90, 200), |point| Some(point.m))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// A square for every cue on show, dark for the one that pays, and an open one for the question.
fn draw_squares(panel: &Panel, chart: &mut Axes) -> Result<(), Failure> {
    for point in &panel.points {
        let (row, style) = match (point.cue, point.go) {
            (Some(cue), _) if point.target => (cue, RGBColor(90, 90, 90).filled()),
            (Some(cue), _) => (cue, RGBColor(190, 190, 190).filled()),
            (None, true) => (panel.cues as usize, BLACK.into()),
            (None, false) => continue,
        };
        let (x, top) = (f64::from(point.step), SQUARES.0 - SQUARES.1 * row as f64);
        chart.draw_series([Rectangle::new([(x - 0.45, top), (x + 0.45, top - 0.8 * SQUARES.1)], style)])?;
    }
    Ok(())
}

/// One curve; where it leaves -1 … 1, the whole of it is divided, and its name says by what.
fn curve(chart: &mut Axes, panel: &Panel, name: &str, colour: &RGBColor, value: impl Fn(&Point) -> Option<f32>) -> Result<(), Failure> {
    let values: Vec<_> = panel
        .points
        .iter()
        .filter_map(|point| Some((f64::from(point.step), f64::from(value(point)?))))
        .collect();
    if values.is_empty() {
        return Ok(());
    }
    let scale = values.iter().map(|(_, y)| y.abs()).fold(1.0, f64::max);
    let name = if scale > 1.0 {
        format!("{name} / {scale}")
    } else {
        name.to_owned()
    };
    let style = colour.stroke_width(2);
    chart
        .draw_series(LineSeries::new(values.iter().map(|(x, y)| (*x, y / scale)), style))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    Ok(())
}
