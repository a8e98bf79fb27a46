//! The live view on a terminal.

use std::time::Duration;

use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Sparkline};
use ratatui::{DefaultTerminal, Frame};

use super::picture::Picture;
use crate::interrupt;

/// The terminal, which is as it was once this value is gone.
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it refuses.
    pub fn open() -> Result<Self> {
        ratatui::try_init()
            .map(Self)
            .context("the terminal cannot show a live view; give --quiet or redirect stdout")
    }

    /// Shows the picture.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn draw(&mut self, picture: &Picture) -> Result<()> {
        self.0.draw(|frame| draw(frame, picture))?;
        Ok(())
    }

    /// Reads the keys pressed so far: the terminal no longer turns Ctrl-C into a signal.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn obey_keys(&mut self) -> Result<()> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && ends(&key)
            {
                interrupt::request();
            }
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Ctrl-C or q.
fn ends(key: &KeyEvent) -> bool {
    let letter = |letter| key.code == KeyCode::Char(letter);
    key.kind == KeyEventKind::Press && (letter('q') || letter('c') && key.modifiers.contains(KeyModifiers::CONTROL))
}

fn draw(frame: &mut Frame, picture: &Picture) {
    let [title, body, said] = Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let [curves, side] = Layout::horizontal([Constraint::Min(0), Constraint::Length(34)]).areas(body);
    let [modulator, rewards, traces] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(2), Constraint::Fill(1)]).areas(curves);
    let [world, figures] = Layout::vertical([Constraint::Min(0), Constraint::Length(11)]).areas(side);
    frame.render_widget(Line::from(heading(picture)).bold(), title);
    draw_modulator(frame, modulator, picture);
    draw_rewards(frame, rewards, picture);
    draw_traces(frame, traces, picture);
    frame.render_widget(
        Paragraph::new(picture.seen.as_str())
            .centered()
            .block(Block::bordered().title("task")),
        world,
    );
    frame.render_widget(
        Paragraph::new(figures_of(picture)).block(Block::bordered().title("figures")),
        figures,
    );
    frame.render_widget(Line::from(format!("Ctrl-C or q ends  {}", picture.said)).dim(), said);
}

fn heading(picture: &Picture) -> String {
    let head = picture.head();
    let birth = picture
        .birth
        .map_or_else(String::new, |birth| format!("  lifetime {} (seed {})", birth.lifetime, birth.seed));
    format!("{}, {}, {} on {}{birth}", head.model, head.rule, head.numeric, head.board)
}

fn figures_of(picture: &Picture) -> String {
    let [trials, right] = picture.trials;
    let mut text = format!(
        "step {:13} of {}\ntrials {trials:11}, {right} right\n",
        picture.steps.len(),
        picture.lifetime_steps()
    );
    if let Some(step) = picture.steps.last() {
        text += &format!("action {:11}\nM {:16.3}\n", step.action, step.m);
    }
    if let Some(health) = picture.health {
        text += &format!(
            "mean |M| {:9.3}\nmean |H| {:9.3}\nsaturated {:8.1}%\nsilent {:11}\n",
            health.modulator_mean,
            health.trace_mean,
            100.0 * health.saturation,
            health.dead_units
        );
    }
    text + &format!("a step {:11.0} {}", picture.per_step(), picture.head().unit)
}

fn draw_modulator(frame: &mut Frame, area: Rect, picture: &Picture) {
    let points: Vec<_> = picture.steps.iter().map(|step| (step.step.into(), step.m.into())).collect();
    draw_curve(frame, area, "M(t)", Color::Blue, &points, picture);
}

fn draw_rewards(frame: &mut Frame, area: Rect, picture: &Picture) {
    draw_curve(frame, area, "reward average", Color::Yellow, &picture.averages, picture);
}

/// One curve of the lifetime around zero.
fn draw_curve(frame: &mut Frame, area: Rect, name: &str, colour: Color, points: &[(f64, f64)], picture: &Picture) {
    let end = f64::from(picture.lifetime_steps());
    let largest = points.iter().map(|(_, y)| y.abs()).fold(0.1, f64::max);
    let zero = [(0.0, 0.0), (end, 0.0)];
    let line = |points, colour| {
        let set = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        set.style(Style::default().fg(colour)).data(points)
    };
    let chart = Chart::new(vec![line(&zero, Color::DarkGray), line(points, colour)])
        .block(Block::bordered().title(name.to_owned()))
        .x_axis(Axis::default().bounds([0.0, end]))
        .y_axis(
            Axis::default()
                .bounds([-largest, largest])
                .labels([format!("{:+.2}", -largest), format!("{largest:+.2}")]),
        );
    frame.render_widget(chart, area);
}

fn draw_traces(frame: &mut Frame, area: Rect, picture: &Picture) {
    let block = Block::bordered().title("Hebbian traces, -limit … limit");
    let width = usize::from(block.inner(area).width);
    let counts = picture.health.map_or([0; _], |health| health.histogram);
    // As many columns as there is room for, equally many for each part.
    let columns = (width / counts.len()).max(1);
    let bars = counts.iter().flat_map(|&count| std::iter::repeat_n(u64::from(count), columns));
    frame.render_widget(
        Sparkline::default()
            .block(block)
            .style(Style::default().fg(Color::Green))
            .data(bars),
        area,
    );
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::device::record::{Birth, Record, Step};
    use crate::device::recording::{FORMAT, Head};
    use crate::task::TaskConfig;

    fn maze() -> Picture {
        let head = Head {
            format: FORMAT,
            model: "small.bpam".into(),
            image: String::new(),
            rule: "simple".into(),
            numeric: "q15".into(),
            board: "microbit".into(),
            task: String::new(),
            unit: "instructions".into(),
            per_tick: 2.0,
            clock: 1,
        };
        let config = backpropamine::task::maze::Config {
            size: 7,
            ..Default::default()
        };
        Picture::new(head, TaskConfig::Maze(config)).unwrap()
    }

    fn text(picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_maze_is_shown_as_it_is_walked() {
        let mut picture = maze();
        picture.take(&Record::Birth(Birth {
            lifetime: 3,
            seed: 1_000_003,
        }));
        let walls = |text: &str| text.matches('#').count();
        let start = text(&picture);
        assert_eq!(walls(&start), 24 + 4);
        assert!(start.contains("lifetime 3") && start.contains("#..A..#"), "{start}");
        for step in 0..2 {
            picture.take(&Record::Step(Step {
                lifetime: 3,
                step,
                action: 2,
                reward: 0.0,
                m: 0.75,
                ticks: Some(50),
            }));
        }
        let later = text(&picture);
        assert!(
            later.contains("#.A...#") && later.contains("0.750") && later.contains("100 instructions"),
            "{later}"
        );
    }

    #[test]
    fn ctrl_c_and_q_end_the_view_and_c_does_not() {
        let key = |letter, modifiers| ends(&KeyEvent::new(KeyCode::Char(letter), modifiers));
        assert!(key('q', KeyModifiers::NONE) && key('c', KeyModifiers::CONTROL));
        assert!(!key('c', KeyModifiers::NONE) && !key('x', KeyModifiers::CONTROL));
    }
}
