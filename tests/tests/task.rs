//! The cue-reward task against an independent statement of its rules (Miconi et al., ICLR 2019, section 4.1): what is
//! checked here is read off the observations and rewards of whole lifetimes, never off the task's own state.

use std::collections::{BTreeMap, BTreeSet};

use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use backpropamine::task::cue::{Config, Cue, Variant};

type Bits = Vec<i8>;

/// One step as seen from outside.
struct Step {
    x: Vec<f32>,
    action: usize,
    reward: f32,
    trial: Option<bool>,
}

/// What a step shows on the cue channels.
#[derive(Clone, Debug, PartialEq)]
enum Shown {
    Blank,
    Cue(Bits),
    Go,
}

/// One trial that got as far as its response.
struct Trial {
    start: usize,
    go: usize,
    cues: Vec<Bits>,
    places: Vec<usize>,
    action: usize,
    reward: f32,
}

impl Trial {
    /// Blank, the two cues and further blanks, Go, blank.
    fn length(&self) -> usize {
        self.go + 2 - self.start
    }
}

fn lifetime(config: &Config, seed: u64, mut choose: impl FnMut(&[f32], usize) -> usize) -> Vec<Step> {
    let mut task = Cue::new(*config).unwrap();
    task.reset(Rng::new(seed).lifetime(Stream::Task, 0));
    (0..task.steps() as usize)
        .map(|t| {
            let mut x = vec![f32::NAN; task.inputs()];
            task.observe(&mut x);
            let action = choose(&x, t);
            let outcome = task.act(action);
            Step {
                x,
                action,
                reward: outcome.reward,
                trial: outcome.trial,
            }
        })
        .collect()
}

/// An action by a rule that has nothing to do with the task's own draws.
fn scrambled(seed: u64) -> impl FnMut(&[f32], usize) -> usize {
    let actions = Rng::new(seed).lifetime(Stream::Action, 0);
    move |_, t| actions.below(t as u32, 0, 2) as usize
}

fn shown(config: &Config, x: &[f32]) -> Shown {
    let bits = config.bits as usize;
    let cue = &x[..bits];
    let go = match config.variant {
        Variant::Code => x[bits] == 1.0,
        Variant::Paper => cue.iter().all(|&bit| bit == 1.0),
    };
    if go {
        Shown::Go
    } else if cue.iter().all(|&bit| bit == 0.0) {
        Shown::Blank
    } else {
        Shown::Cue(cue.iter().map(|&bit| bit as i8).collect())
    }
}

/// The complete trials of a lifetime; panics where the steps are no sequence of trials.
fn trials(config: &Config, steps: &[Step]) -> Vec<Trial> {
    let shown: Vec<Shown> = steps.iter().map(|step| shown(config, &step.x)).collect();
    let mut trials = Vec::new();
    let mut start = 0;
    while let Some(go) = (start..steps.len()).find(|&t| shown[t] == Shown::Go) {
        assert_eq!(shown[start], Shown::Blank, "a trial opens with a blank (step {start})");
        let (places, cues): (Vec<usize>, Vec<Bits>) = (start..go)
            .filter_map(|t| match &shown[t] {
                Shown::Cue(bits) => Some((t - start - 1, bits.clone())),
                _ => None,
            })
            .unzip();
        // With two cues in all, no pair could lack the target: a trial shows one of them.
        assert_eq!(cues.len(), if config.cues == 2 { 1 } else { 2 }, "cues before the Go of step {go}");
        assert_ne!(cues.first(), cues.get(1), "the two cues of a trial differ");
        if let Some(after) = shown.get(go + 1) {
            assert_eq!(*after, Shown::Blank, "a blank follows each Go (step {go})");
        }
        trials.push(Trial {
            start,
            go,
            cues,
            places,
            action: steps[go].action,
            reward: steps[go].reward,
        });
        start = go + 2;
    }
    trials
}

/// Both variants as shipped.
fn variants() -> [(Config, std::ops::Range<usize>); 2] {
    [(Config::default(), 5..9), (Config::paper(), 10..17)]
}

/// Asserts that counts of equally likely things are equal within five standard deviations each.
fn assert_uniform<K: std::fmt::Debug>(counts: &BTreeMap<K, usize>, kinds: usize) {
    assert_eq!(counts.len(), kinds, "{counts:?}");
    let n: usize = counts.values().sum();
    let p = 1.0 / kinds as f64;
    let deviation = (n as f64 * p * (1.0 - p)).sqrt();
    for (kind, &count) in counts {
        assert!(
            (count as f64 - n as f64 * p).abs() <= 5.0 * deviation,
            "{kind:?}: {count} of {n}, {kinds} kinds"
        );
    }
}

#[test]
fn code_variant_channels() {
    let config = Config::default();
    let steps = lifetime(&config, 1, scrambled(1));
    assert_eq!(steps.len(), 120);
    for (t, step) in steps.iter().enumerate() {
        let x = &step.x;
        assert_eq!(x.len(), 27);
        let cue = &x[..20];
        match shown(&config, x) {
            Shown::Cue(_) => assert!(cue.iter().all(|bit| bit.abs() == 1.0), "cue bits are ±1: {cue:?}"),
            Shown::Blank | Shown::Go => assert!(cue.iter().all(|&bit| bit == 0.0), "{cue:?}"),
        }
        assert!(x[20] == 0.0 || x[20] == 1.0, "Go");
        assert_eq!(x[21], 1.0, "bias");
        assert_eq!(x[22], t as f32 / 120.0, "time");
        assert_eq!(x[23], if t == 0 { 0.0 } else { steps[t - 1].reward }, "previous reward");
        assert_eq!(x[24], 0.0, "unused");
        assert_eq!(x[25..], previous_action(&steps, t), "previous action");
    }
}

#[test]
fn paper_variant_channels() {
    let config = Config::paper();
    let steps = lifetime(&config, 1, scrambled(1));
    assert_eq!(steps.len(), 200);
    for (t, step) in steps.iter().enumerate() {
        let x = &step.x;
        assert_eq!(x.len(), 24);
        assert!(x[..20].iter().all(|&bit| bit == 0.0 || bit == 1.0), "cue bits are 0/1");
        assert_eq!(x[20], t as f32 / 200.0, "time");
        assert_eq!(x[21..23], previous_action(&steps, t), "previous response");
        assert_eq!(x[23], if t == 0 { 0.0 } else { steps[t - 1].reward }, "previous reward");
    }
}

/// One-hot, zeros at the first step.
fn previous_action(steps: &[Step], t: usize) -> [f32; 2] {
    match t.checked_sub(1).map(|before| steps[before].action) {
        None => [0.0, 0.0],
        Some(0) => [1.0, 0.0],
        Some(_) => [0.0, 1.0],
    }
}

#[test]
fn trials_have_the_stated_structure() {
    let longest = |variant, longest_trial| Config {
        variant,
        longest_trial,
        ..Config::default()
    };
    let shortened = [
        (longest(Variant::Code, 5), 5..6),
        (longest(Variant::Code, 16), 5..17),
        (longest(Variant::Paper, 7), 7..8),
        (longest(Variant::Paper, 12), 10..13),
    ];
    for (config, range) in variants().into_iter().chain(shortened) {
        let mut lengths = BTreeMap::new();
        let mut responses = 0;
        for seed in 0..2_000 {
            let steps = lifetime(&config, seed, scrambled(seed));
            let trials = trials(&config, &steps);
            responses += trials.len();
            // The first six trials always fit: no length is favoured by the end of the lifetime.
            for trial in &trials[..6] {
                assert!(range.contains(&trial.length()), "length {}", trial.length());
                *lengths.entry(trial.length()).or_insert(0) += 1;
            }
            let pays: BTreeSet<usize> = trials.iter().map(|trial| trial.go).collect();
            for (t, step) in steps.iter().enumerate() {
                assert_eq!(step.trial.is_some(), pays.contains(&t), "step {t} ends a trial");
                assert_eq!(step.reward.abs(), if pays.contains(&t) { 1.0 } else { 0.0 }, "reward at step {t}");
                assert_eq!(step.trial.unwrap_or(false), step.reward > 0.0);
            }
        }
        assert_uniform(&lengths, range.len());
        let mean = responses as f64 / 2_000.0;
        let expected = expected_responses(config.steps as usize, range);
        assert!((mean - expected).abs() < 0.1, "{mean} responses per lifetime, expected {expected}");
    }
}

/// The exact mean number of responses when every length of `lengths` is equally likely and Go is the last step but one.
fn expected_responses(steps: usize, lengths: std::ops::Range<usize>) -> f64 {
    let mut from = vec![0.0; steps + lengths.end];
    for start in (0..steps).rev() {
        let complete = lengths.clone().filter(|length| start + length - 2 < steps);
        from[start] = complete.map(|length| 1.0 + from[start + length]).sum::<f64>() / lengths.len() as f64;
    }
    from[0]
}

#[test]
fn the_stated_response_counts_are_those_of_the_stated_lengths() {
    assert!((expected_responses(120, 5..9) - 18.2).abs() < 0.05);
    assert!((expected_responses(200, 10..17) - 15.0).abs() < 0.05);
}

#[test]
fn cues_come_in_random_places_and_order() {
    for (config, range) in variants() {
        for length in range {
            let mut places = BTreeMap::new();
            for seed in 0..600 {
                let steps = lifetime(&config, seed, scrambled(seed));
                for trial in trials(&config, &steps).iter().filter(|trial| trial.length() == length) {
                    *places.entry(trial.places.clone()).or_insert(0) += 1;
                }
            }
            let slots = length - 3;
            assert_uniform(&places, slots * (slots - 1) / 2);
        }
    }
}

#[test]
fn a_lifetime_has_four_different_cues_shown_equally_often() {
    for (config, _) in variants() {
        let mut shown = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        let mut ones = 0;
        for seed in 0..1_000 {
            let steps = lifetime(&config, seed, scrambled(seed));
            let trials = trials(&config, &steps);
            let cues: BTreeSet<&Bits> = trials.iter().flat_map(|trial| &trial.cues).collect();
            assert!(cues.len() <= 4, "{} cues in one lifetime", cues.len());
            ones += cues.iter().flat_map(|cue| cue.iter()).filter(|&&bit| bit == 1).count();
            for trial in trials.iter().filter(|_| cues.len() == 4) {
                let index: Vec<_> = trial
                    .cues
                    .iter()
                    .map(|cue| cues.iter().position(|known| *known == cue).unwrap())
                    .collect();
                *pairs.entry(index.clone()).or_insert(0) += 1;
                for cue in index {
                    *shown.entry(cue).or_insert(0) += 1;
                }
            }
        }
        assert_uniform(&pairs, 12);
        assert_uniform(&shown, 4);
        let share = ones as f64 / (1_000.0 * 4.0 * 20.0);
        assert!((share - 0.5).abs() < 0.01, "share of ones in the cues: {share}");
    }
}

/// The cues that are the target in every trial so far, if a reward means what the rules say.
fn possible_targets(trials: &[Trial]) -> BTreeSet<Bits> {
    let all: BTreeSet<Bits> = trials.iter().flat_map(|trial| trial.cues.clone()).collect();
    all.into_iter()
        .filter(|cue| trials.iter().all(|trial| trial.cues.contains(cue) == target_was_shown(trial)))
        .collect()
}

fn target_was_shown(trial: &Trial) -> bool {
    (trial.reward > 0.0) == (trial.action == 1)
}

#[test]
fn one_cue_explains_every_reward_and_is_shown_in_half_the_trials() {
    for (config, cues) in variants()
        .into_iter()
        .flat_map(|(config, _)| [2, 3, 4, 6].map(|cues| (config, cues)))
    {
        let config = Config { cues, ..config };
        let (mut shown, mut responses, mut undecided) = (0, 0, 0);
        for seed in 0..1_000 {
            let steps = lifetime(&config, seed, scrambled(seed));
            let trials = trials(&config, &steps);
            let targets = possible_targets(&trials);
            assert!(!targets.is_empty(), "no cue of lifetime {seed} explains its rewards");
            undecided += usize::from(targets.len() > 1);
            shown += trials.iter().filter(|trial| target_was_shown(trial)).count();
            responses += trials.len();
        }
        assert!(undecided < 20, "{cues} cues: {undecided} of 1000 lifetimes leave the target open");
        let share = f64::from(shown as u32) / f64::from(responses as u32);
        assert!(
            (share - 0.5).abs() < 0.02,
            "{cues} cues: the target is shown in {share} of the trials"
        );
    }
}

#[test]
fn chance_earns_nothing_and_an_ideal_learner_16_2() {
    let config = Config::default();
    let mean = |play: &mut dyn FnMut(u64) -> Vec<Step>| {
        (0..4_000)
            .map(|seed| play(seed).iter().map(|step| step.reward).sum::<f32>())
            .sum::<f32>()
            / 4_000.0
    };
    let chance = mean(&mut |seed| lifetime(&config, seed, scrambled(seed)));
    assert!(chance.abs() < 0.25, "chance earns {chance}");
    let always = mean(&mut |seed| lifetime(&config, seed, |_, _| 1));
    assert!(always.abs() < 0.25, "one answer for ever earns {always}");
    let ideal = mean(&mut |seed| {
        let mut player = Ideal::new(&config);
        lifetime(&config, seed, |x, _| player.act(x))
    });
    assert!((ideal - 16.2).abs() < 0.1, "an ideal learner earns {ideal}");
}

/// Excludes every cue that contradicts a reward, and answers by the majority of those left.
struct Ideal<'c> {
    config: &'c Config,
    shown: Vec<Bits>,
    answered: Option<usize>,
    is_target: Vec<(BTreeSet<Bits>, bool)>,
}

impl<'c> Ideal<'c> {
    fn new(config: &'c Config) -> Self {
        Self {
            config,
            shown: Vec::new(),
            answered: None,
            is_target: Vec::new(),
        }
    }

    fn act(&mut self, x: &[f32]) -> usize {
        if let Some(action) = self.answered.take() {
            let present = (x[23] > 0.0) == (action == 1);
            self.is_target.push((self.shown.drain(..).collect(), present));
        }
        match shown(self.config, x) {
            Shown::Blank => 0,
            Shown::Cue(bits) => {
                self.shown.push(bits);
                0
            }
            Shown::Go => {
                let action = usize::from(self.target_is_likely());
                self.answered = Some(action);
                action
            }
        }
    }

    /// Cues seen for the first time are as likely as the ones not seen yet.
    fn target_is_likely(&self) -> bool {
        let possible = |cue: &Bits| self.is_target.iter().all(|(pair, present)| pair.contains(cue) == *present);
        let seen: BTreeSet<&Bits> = self.is_target.iter().flat_map(|(pair, _)| pair).chain(&self.shown).collect();
        let unseen = (4 - seen.len()) * usize::from(self.is_target.iter().all(|(_, present)| !present));
        let here = self.shown.iter().filter(|cue| possible(cue)).count();
        let elsewhere = seen.iter().filter(|cue| possible(cue)).count() - here + unseen;
        here > elsewhere
    }
}

#[test]
fn fixed_cues_are_one_hot_and_the_same_in_every_lifetime() {
    let config = Config {
        fixed: true,
        bits: 4,
        ..Config::default()
    };
    let cues: BTreeSet<Bits> = (0..50)
        .flat_map(|seed| trials(&config, &lifetime(&config, seed, scrambled(seed))))
        .flat_map(|trial| trial.cues)
        .collect();
    assert_eq!(cues.len(), 4);
    for cue in &cues {
        assert_eq!(cue.iter().filter(|&&bit| bit == 1).count(), 1, "{cue:?}");
    }
}

#[test]
fn without_the_time_input_nothing_tells_how_late_it_is() {
    for ((config, _), channel) in variants().into_iter().zip([22, 20]) {
        let timeless = lifetime(
            &Config {
                time_input: false,
                ..config
            },
            1,
            scrambled(1),
        );
        let timed = lifetime(&config, 1, scrambled(1));
        for (mut expected, step) in timed.into_iter().map(|step| step.x).zip(timeless) {
            expected[channel] = 0.0;
            assert_eq!(step.x, expected);
        }
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let default = Config::default();
    for (option, config) in [
        ("cues", Config { cues: 1, ..default }),
        ("cues", Config { cues: 17, ..default }),
        ("bits", Config { bits: 0, ..default }),
        ("bits", Config { bits: 33, ..default }),
        (
            "bits",
            Config {
                bits: 1,
                cues: 3,
                ..default
            },
        ),
        (
            "bits",
            Config {
                bits: 2,
                cues: 3,
                ..Config::paper()
            },
        ),
        ("steps", Config { steps: 0, ..default }),
        (
            "longest_trial",
            Config {
                longest_trial: 4,
                ..default
            },
        ),
        (
            "longest_trial",
            Config {
                longest_trial: 17,
                ..Config::paper()
            },
        ),
        ("flip", Config { flip: -0.1, ..default }),
        ("flip", Config { flip: 1.1, ..default }),
        ("flip", Config { flip: f32::NAN, ..default }),
        (
            "fixed",
            Config {
                fixed: true,
                bits: 3,
                ..default
            },
        ),
    ] {
        let error = Cue::new(config).map(|_| ()).unwrap_err();
        assert_eq!(error.option, option, "{config:?}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
}

#[test]
fn the_narrowest_lawful_configs_live() {
    for config in [
        Config {
            cues: 2,
            bits: 1,
            ..Config::default()
        },
        Config {
            cues: 4,
            bits: 2,
            ..Config::default()
        },
        Config {
            cues: 2,
            bits: 2,
            ..Config::paper()
        },
        Config {
            cues: 16,
            bits: 32,
            ..Config::default()
        },
        Config {
            cues: 16,
            bits: 16,
            fixed: true,
            ..Config::paper()
        },
        Config {
            steps: 1,
            ..Config::default()
        },
    ] {
        for seed in 0..20 {
            let steps = lifetime(&config, seed, scrambled(seed));
            assert_eq!(steps.len(), config.steps as usize);
            trials(&config, &steps);
        }
    }
}

#[test]
fn flipped_rewards_come_at_the_stated_rate() {
    let config = Config {
        flip: 0.2,
        ..Config::default()
    };
    let (mut flipped, mut responses) = (0, 0);
    for seed in 0..2_000 {
        // The same lifetime without flips tells which answers were correct: flips draw from an index of their own.
        let honest = lifetime(&Config::default(), seed, scrambled(seed));
        let noisy = lifetime(&config, seed, scrambled(seed));
        for (honest, noisy) in honest.iter().zip(&noisy) {
            assert_eq!(honest.trial, noisy.trial, "success is what was answered, not what was paid");
            assert_eq!(honest.reward.abs(), noisy.reward.abs());
            responses += usize::from(honest.trial.is_some());
            flipped += usize::from(honest.reward != noisy.reward);
        }
    }
    let share = f64::from(flipped as u32) / f64::from(responses as u32);
    assert!((share - 0.2).abs() < 0.01, "{share} of the rewards flipped");
}

#[test]
fn a_seed_determines_the_lifetime_and_other_streams_do_not_touch_it() {
    let config = Config::default();
    let observations = |seed, episode, stream| {
        let mut task = Cue::new(config).unwrap();
        task.reset(Rng::new(seed).lifetime(stream, episode));
        let mut x = vec![0.0; task.inputs()];
        let mut all = Vec::new();
        for _ in 0..task.steps() {
            task.observe(&mut x);
            all.extend(x.iter().map(|x| x.to_bits()));
            task.act(0);
        }
        all
    };
    let first = observations(7, 0, Stream::Task);
    assert_eq!(first, observations(7, 0, Stream::Task));
    assert_ne!(first, observations(8, 0, Stream::Task));
    assert_ne!(first, observations(7, 1, Stream::Task));
    assert_ne!(first, observations(7, 0, Stream::TrainTask));
}

#[test]
fn a_second_lifetime_remembers_nothing_of_the_first() {
    let config = Config::default();
    let mut task = Cue::new(config).unwrap();
    let mut x = vec![0.0; task.inputs()];
    let mut play = |task: &mut Cue| {
        task.reset(Rng::new(3).lifetime(Stream::Task, 0));
        let mut seen = Vec::new();
        for t in 0..task.steps() as usize {
            task.observe(&mut x);
            seen.extend(x.iter().map(|x| x.to_bits()));
            seen.push(task.act(t % 2).reward.to_bits());
        }
        seen
    };
    let first = play(&mut task);
    task.reset(Rng::new(4).lifetime(Stream::Task, 0));
    for _ in 0..37 {
        task.act(1);
    }
    assert_eq!(first, play(&mut task));
}

#[test]
fn actions_change_nothing_but_rewards_and_feedback() {
    let config = Config::default();
    let shows = |steps: &[Step]| steps.iter().map(|step| shown(&config, &step.x)).collect::<Vec<_>>();
    let zeros = lifetime(&config, 11, |_, _| 0);
    assert_eq!(shows(&zeros), shows(&lifetime(&config, 11, |_, _| 1)));
    assert_eq!(shows(&zeros), shows(&lifetime(&config, 11, scrambled(5))));
}

#[test]
fn inputs_stay_inside_the_declared_range() {
    for (config, _) in variants() {
        let range = Cue::new(config).unwrap().input_range();
        for seed in 0..50 {
            for step in lifetime(&config, seed, scrambled(seed)) {
                assert!(step.x.iter().all(|x| x.abs() <= range));
            }
        }
    }
}
