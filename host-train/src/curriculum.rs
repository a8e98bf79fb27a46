//! Where a run stands: stage, attempt, learning rate. Stages end on success, attempts on a lack of it.
//!
//! Leaving the first stage takes some hundred to some thousand iterations, at random. So a run that has not reached the
//! full task when its patience ends starts anew with other weights; after the last restart it goes to the full task
//! anyway, which is what networks that cannot learn the first stage are measured on. On the full task an attempt is on
//! probation: a policy that grew certain of a poor strategy improves so slowly that new weights overtake it. The best of the
//! attempts that failed is put on a shelf, and comes back when those after it did no better.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::config::{CurriculumOptions, TrainingOptions};

/// The position in the curriculum; all of it is part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curriculum {
    /// Current stage, 0 first.
    pub stage: usize,
    /// Restarts so far.
    pub attempt: u32,
    /// Iterations of this attempt before the full task.
    pub early_iterations: u32,
    /// Iterations of the full task.
    pub full_iterations: u32,
    /// Scores of the latest iterations of this stage: reached, and reachable.
    window: Window,
    /// The scores at the end of the best probation that failed.
    shelved: Option<Window>,
}

/// Reached and reachable, the oldest first.
type Window = VecDeque<(u32, u32)>;

/// The ratio of reached to reachable over a window; `None` until something was reachable.
fn ratio(window: &Window) -> Option<f64> {
    let sum = |(correct, all), &(c, a): &(u32, u32)| (correct + c, all + a);
    let (correct, all) = window.iter().fold((0, 0), sum);
    (all > 0).then(|| f64::from(correct) / f64::from(all))
}

/// What follows from an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More of the same.
    Continue,
    /// The next stage.
    Advance,
    /// New weights, first stage.
    Restart,
    /// The same, with network and optimiser put on the shelf.
    Shelve,
    /// Back to network and optimiser on the shelf.
    Recall,
}

impl Curriculum {
    /// The ratio of reached to reachable over the window; `None` until something was reachable.
    pub fn score(&self) -> Option<f64> {
        ratio(&self.window)
    }

    /// Takes note of an iteration's score and moves on. `stages` is the number of stages of the course.
    pub fn record(&mut self, score: (u32, u32), stages: usize, options: &CurriculumOptions) -> Next {
        self.window.push_back(score);
        if self.window.len() > options.window {
            self.window.pop_front();
        }
        if self.stage + 1 == stages {
            self.full_iterations += 1;
            return self.probation(stages, options);
        }
        self.early_iterations += 1;
        let learned = self.score().is_some_and(|score| score > options.threshold);
        if learned && self.window.len() == options.window {
            self.go_to(self.stage + 1);
            Next::Advance
        } else if self.early_iterations < options.patience {
            Next::Continue
        } else if self.attempt < options.restarts {
            self.restart();
            Next::Restart
        } else if self.shelved.is_some() {
            self.recall(stages, options)
        } else {
            self.go_to(stages - 1);
            Next::Advance
        }
    }

    /// At the end of the probation: on with the attempt, with another, or with the one on the shelf.
    fn probation(&mut self, stages: usize, options: &CurriculumOptions) -> Next {
        let score = self.score().unwrap_or(0.0);
        if self.full_iterations != options.probation || score >= options.probation_score {
            return Next::Continue;
        }
        let best = self.shelved.as_ref().and_then(ratio);
        let is_best = best.is_none_or(|best| score > best);
        if !self.may_restart(options) {
            return if is_best { Next::Continue } else { self.recall(stages, options) };
        }
        if is_best {
            self.shelved = Some(self.window.clone());
        }
        self.restart();
        if is_best { Next::Shelve } else { Next::Restart }
    }

    /// To where the attempt on the shelf stood.
    fn recall(&mut self, stages: usize, options: &CurriculumOptions) -> Next {
        self.stage = stages - 1;
        self.full_iterations = options.probation;
        self.window = self.shelved.take().unwrap_or_default();
        Next::Recall
    }

    /// Whether another restart is allowed.
    pub fn may_restart(&self, options: &CurriculumOptions) -> bool {
        self.attempt < options.restarts
    }

    /// Back to the first stage with a new attempt.
    pub fn restart(&mut self) {
        *self = Self {
            attempt: self.attempt + 1,
            shelved: self.shelved.take(),
            ..Self::default()
        };
    }

    /// Adam's rate of the next iteration: constant before the full task, then linear over its iterations.
    pub fn learning_rate(&self, stages: usize, training: &TrainingOptions, options: &CurriculumOptions) -> f64 {
        if self.stage + 1 < stages {
            return training.learning_rate * options.learning_rate_factor;
        }
        training.learning_rate + (training.learning_rate_end - training.learning_rate) * self.progress(training)
    }

    /// Weight of the policy's concentration in the loss of the next iteration: linear over the full task.
    pub fn entropy_weight(&self, training: &TrainingOptions) -> f32 {
        let (start, end) = (training.entropy_weight, training.entropy_weight_end);
        start + (end.unwrap_or(start) - start) * self.progress(training) as f32
    }

    /// Share of the full task's iterations that are made.
    fn progress(&self, training: &TrainingOptions) -> f64 {
        f64::from(self.full_iterations) / f64::from(training.iterations)
    }

    /// Episodes of the next iteration.
    pub fn batch(&self, stages: usize, training: &TrainingOptions, options: &CurriculumOptions) -> usize {
        if self.stage + 1 < stages { options.batch } else { training.batch }
    }

    fn go_to(&mut self, stage: usize) {
        self.stage = stage;
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn options(patience: u32, restarts: u32) -> CurriculumOptions {
        CurriculumOptions {
            patience,
            restarts,
            window: 10,
            ..Config::default().curriculum
        }
    }

    #[test]
    fn success_over_a_whole_window_advances() {
        let options = options(1000, 0);
        let mut curriculum = Curriculum::default();
        for _ in 0..9 {
            assert_eq!(curriculum.record((10, 10), 3, &options), Next::Continue);
        }
        assert_eq!(curriculum.record((10, 10), 3, &options), Next::Advance);
        assert_eq!((curriculum.stage, curriculum.score()), (1, None));
    }

    #[test]
    fn the_plateau_restarts_then_gives_way() {
        let options = options(20, 1);
        let mut curriculum = Curriculum::default();
        let next: Vec<_> = (0..40).map(|_| curriculum.record((5, 10), 3, &options)).collect();
        assert_eq!((next[19], next[39]), (Next::Restart, Next::Advance));
        assert_eq!((curriculum.stage, curriculum.attempt), (2, 1));
    }

    #[test]
    fn a_poor_score_after_the_probation_restarts_while_it_may() {
        let options = CurriculumOptions {
            probation: 20,
            probation_score: 0.75,
            ..options(1000, 1)
        };
        let run = |curriculum: &mut Curriculum, reached| -> Vec<Next> {
            (0..30).map(|_| curriculum.record((reached, 10), 1, &options)).collect()
        };
        let mut good = Curriculum::default();
        assert!(run(&mut good, 8).iter().all(|&next| next == Next::Continue));
        let mut poor = Curriculum::default();
        let first = run(&mut poor, 7);
        assert_eq!(first.iter().position(|&next| next == Next::Shelve), Some(19));
        assert_eq!((poor.attempt, poor.full_iterations), (1, 10));
        let mut worse = poor.clone();
        let better = run(&mut poor, 7);
        assert!(
            better.iter().all(|&next| next != Next::Restart && next != Next::Shelve),
            "no restart is left"
        );
        assert_eq!(run(&mut worse, 5)[9], Next::Recall);
        assert_eq!((worse.full_iterations, worse.attempt), (40, 1), "it goes on from the shelf");
    }

    #[test]
    fn a_plateau_in_the_last_attempt_brings_the_shelf_back() {
        let options = CurriculumOptions {
            probation: 20,
            probation_score: 0.9,
            ..options(30, 1)
        };
        let mut curriculum = Curriculum {
            stage: 1,
            ..Curriculum::default()
        };
        let shelved: Vec<_> = (0..20).map(|_| curriculum.record((7, 10), 2, &options)).collect();
        assert_eq!((shelved[19], curriculum.stage), (Next::Shelve, 0));
        let plateau: Vec<_> = (0..30).map(|_| curriculum.record((5, 10), 2, &options)).collect();
        assert_eq!(plateau.iter().position(|&next| next == Next::Recall), Some(29));
        assert_eq!((curriculum.stage, curriculum.full_iterations), (1, 20));
        assert_eq!(curriculum.score(), Some(0.7));
        assert_eq!(curriculum.record((7, 10), 2, &options), Next::Continue);
    }

    #[test]
    fn the_rate_falls_linearly_on_the_full_task() {
        let mut config = Config::default();
        (config.training.learning_rate, config.training.learning_rate_end) = (2e-3, 1e-3);
        let mut curriculum = Curriculum::default();
        let rate = |curriculum: &Curriculum| curriculum.learning_rate(2, &config.training, &config.curriculum);
        assert_eq!(rate(&curriculum), 1e-3);
        curriculum.stage = 1;
        assert_eq!(rate(&curriculum), 2e-3);
        curriculum.full_iterations = config.training.iterations;
        assert!((rate(&curriculum) - 1e-3).abs() < 1e-12);
    }

    #[test]
    fn the_entropy_weight_falls_only_where_an_end_is_given() {
        let mut training = Config::default().training;
        (training.entropy_weight, training.entropy_weight_end) = (0.5, None);
        let curriculum = Curriculum {
            full_iterations: training.iterations / 2,
            ..Curriculum::default()
        };
        assert_eq!(curriculum.entropy_weight(&training), 0.5);
        training.entropy_weight_end = Some(0.25);
        assert_eq!(curriculum.entropy_weight(&training), 0.375);
        assert_eq!(Curriculum::default().entropy_weight(&training), 0.5);
    }
}
