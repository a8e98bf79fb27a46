//! Meta-training as a whole: it learns, it gives the same bits for any number of threads, it stops when it must.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::rng::{Lifetime, Rng};
use backpropamine::task::{Outcome, Task};
use backpropamine_train::archive::Archive;
use backpropamine_train::config::Config;
use backpropamine_train::eval::evaluate;
use backpropamine_train::export::f32_image;
use backpropamine_train::model::Model;
use backpropamine_train::recurrence::Kernel;
use backpropamine_train::rollout::{Course, Player, Single};
use backpropamine_train::run::train_in;
use backpropamine_train::runnable::Choice;
use backpropamine_train::task::CueCourse;
use backpropamine_train::train::{Trained, Trainer, meta_train};

/// A task of one's own: the right action is the one that the input shows, and a response pays `price`.
#[derive(Clone)]
struct Follow {
    rng: Option<Lifetime>,
    step: u32,
    price: f32,
}

impl Follow {
    fn new(price: f32) -> Self {
        Self { rng: None, step: 0, price }
    }

    fn wanted(&self) -> usize {
        self.rng.map_or(0, |rng| rng.below(self.step, 0, 2) as usize)
    }
}

impl Task for Follow {
    fn inputs(&self) -> usize {
        2
    }

    fn actions(&self) -> usize {
        2
    }

    fn steps(&self) -> u32 {
        10
    }

    fn input_range(&self) -> f32 {
        1.0
    }

    fn reset(&mut self, rng: Lifetime) {
        self.rng = Some(rng);
        self.step = 0;
    }

    fn observe(&self, x: &mut [f32]) {
        x.fill(0.0);
        x[self.wanted()] = 1.0;
    }

    fn act(&mut self, action: usize) -> Outcome {
        let success = action == self.wanted();
        self.step += 1;
        let reward = if success { self.price } else { -self.price };
        Outcome {
            reward,
            trial: Some(success),
        }
    }
}

fn config(settings: &[&str]) -> Config {
    let small = [
        "network.hidden=8",
        "training.batch=6",
        "training.iterations=6",
        "run.kernel=portable",
        "task.steps=40",
        "curriculum.patience=3",
        "curriculum.restarts=0",
    ];
    let settings: Vec<_> = small.iter().chain(settings).map(ToString::to_string).collect();
    Config::load("cue-small", &settings).unwrap()
}

fn train_cue(config: &Config) -> Trained {
    let course = CueCourse::new(config).unwrap();
    meta_train(config.clone(), course, |_| ControlFlow::Continue(())).unwrap()
}

fn in_threads<T: Send>(threads: usize, job: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(job)
}

#[test]
fn every_rule_trains_to_the_same_bits_with_one_and_two_threads() {
    for rule in ["none", "hebbian", "simple", "retroactive"] {
        for kernel in ["portable", "auto"] {
            let settings = [
                "curriculum.patience=3".to_owned(),
                format!("network.rule={rule}"),
                format!("run.kernel={kernel}"),
            ];
            let config = config(&settings.each_ref().map(String::as_str));
            let one = in_threads(1, || train_cue(&config));
            let two = in_threads(2, || train_cue(&config));
            assert_eq!(one.model, two.model, "{rule}, {kernel}");
            assert_eq!(one.metrics, two.metrics, "{rule}, {kernel}");
        }
    }
}

#[test]
fn a_task_of_ones_own_is_learned() {
    let config = config(&[
        "network.rule=none",
        "training.iterations=150",
        "training.learning_rate=0.02",
        "training.batch=10",
    ]);
    let course = Single {
        name: "follow".to_owned(),
        make: || Follow::new(1.0),
    };
    let trained = meta_train(config, course, |_| ControlFlow::Continue(())).unwrap();
    let last = trained.metrics.last().unwrap();
    assert!(last.score.unwrap() > 0.9, "{last:?}");
    assert_eq!(trained.model.metadata["task"], "follow");
}

#[test]
fn a_gradient_that_is_not_finite_stops_the_run_and_keeps_the_network() {
    let course = Single {
        name: "broken".to_owned(),
        make: || Follow::new(f32::NAN),
    };
    let mut trainer = Trainer::new(config(&["network.rule=none"]), course).unwrap();
    let before = trainer.model().clone();
    let error = trainer.iterate().unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("learning_rate"), "{error}");
    assert_eq!(*trainer.model(), before);
}

#[test]
fn large_gradients_are_left_out_until_the_run_gives_up() {
    let config = config(&[
        "network.rule=simple",
        "training.norm_skip=1e-9",
        "training.iterations=200",
        "curriculum.restarts=0",
    ]);
    let course = Single {
        name: "follow".to_owned(),
        make: || Follow::new(1.0),
    };
    let mut skipped = 0;
    let count = |metrics: &backpropamine_train::train::Metrics| {
        skipped += u32::from(metrics.skipped);
        ControlFlow::Continue(())
    };
    let error = meta_train(config, course, count).unwrap_err().to_string();
    assert_eq!(skipped, 99, "the hundredth ends the run");
    assert!(error.contains("diverged"), "{error}");
}

/// A course of [`Follow`] whose price can be changed while it is trained on.
struct Market(Arc<AtomicU32>);

impl Market {
    fn new() -> Self {
        Self(Arc::new(AtomicU32::new(1.0f32.to_bits())))
    }

    fn set(&self, price: f32) {
        self.0.store(price.to_bits(), Ordering::Relaxed);
    }

    fn course(&self) -> impl Course + use<> {
        let price = Arc::clone(&self.0);
        Single {
            name: "market".to_owned(),
            make: move || Follow::new(f32::from_bits(price.load(Ordering::Relaxed))),
        }
    }
}

#[test]
fn exploding_gradients_bring_the_last_good_copy_back() {
    let settings = [
        "network.rule=retroactive",
        "training.iterations=60",
        "training.learning_rate=3e-3",
        "training.learning_rate_end=3e-3",
        "training.rollback_after=5",
        "training.rollback_every=10",
    ];
    let market = Market::new();
    let mut trainer = Trainer::new(config(&settings), market.course()).unwrap();
    let mut networks = Vec::new();
    for iteration in 0..40 {
        let state = trainer.state().unwrap();
        let network = state.tensors.into_iter().filter(|(name, _)| !name.starts_with("good."));
        networks.push((network.collect::<Vec<_>>(), state.metadata["adam_updates"].clone()));
        market.set(if (20..32).contains(&iteration) { 1e6 } else { 1.0 });
        let metrics = trainer.iterate().unwrap();
        assert_eq!(metrics.skipped, (20..32).contains(&iteration));
        let expected = [(0, 0, 1.0), (24, 1, 0.5), (29, 2, 0.25)];
        let (_, count, _) = *expected.iter().rfind(|(from, ..)| iteration >= *from).unwrap();
        assert_eq!(metrics.rolled_back, count, "after iteration {iteration}");
        let (.., factor) = *expected.iter().rfind(|(from, ..)| iteration > *from || *from == 0).unwrap();
        assert!(
            (metrics.learning_rate - 3e-3 * factor).abs() < 1e-9,
            "iteration {iteration}: {metrics:?}"
        );
    }
    // Twelve updates were left out. The network went back to the copy made before the update of iteration 19, twice, and on
    // from there, in smaller steps, when the gradients were small again.
    assert!(networks[25] == networks[19] && networks[32] == networks[19]);
    assert!(networks[24] != networks[19] && networks[33] != networks[19]);
}

#[test]
fn roll_backs_are_off_where_the_published_recipe_has_none() {
    for preset in ["cue-code", "maze-code"] {
        assert_eq!(Config::load(preset, &[]).unwrap().training.rollback_after, 0, "{preset}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_last_checkpoint_to_go_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, torn) = (folder.path().join("whole"), folder.path().join("torn"));
    let config = || config(&["network.rule=simple", "training.iterations=30", "run.checkpoint_every=4"]);
    let market = Market::new();
    train_in(&whole, config(), market.course(), false, |_| ()).unwrap();
    let spoil = |iteration| {
        if iteration >= 17 {
            market.set(f32::NAN)
        }
    };
    let outcome = train_in(&torn, config(), market.course(), false, |progress| {
        spoil(progress.metrics.iteration)
    });
    let error = format!("{:#}", outcome.err().unwrap());
    for part in ["torn", "the last checkpoint is kept", "iteration 18 is not finite", "learning_rate"] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
    let state = Archive::read(&torn.join("state.safetensors")).unwrap();
    assert_eq!(state.metadata["iteration"], "16");
    Model::load(&torn.join("model.safetensors")).unwrap();
    market.set(1.0);
    train_in(&torn, config(), market.course(), true, |_| ()).unwrap();
    for name in ["metrics.jsonl", "model.safetensors", "state.safetensors"] {
        let [whole, torn] = [&whole, &torn].map(|run| std::fs::read(run.join(name)).unwrap());
        assert!(whole == torn, "{name} differs");
    }
}

/// What makes no sense, and a part of the sentence that says so.
#[test]
fn nonsense_is_refused_by_a_sentence() {
    let nonsense: [(&[&str], &str); 21] = [
        (
            &["network.clip=decay", "network.rule=retroactive"],
            "hard:C or soft with the retroactive rule",
        ),
        (
            &["network.clip=oja", "network.rule=retroactive"],
            "hard:C or soft with the retroactive rule",
        ),
        (&["network.clip=hard:0"], "`hard:0` is not hard:C with a finite C above 0"),
        (&["network.clip=-1"], "`-1` is not hard:C"),
        (&["network.clip=middling"], "`middling` is not hard:C"),
        (&["network.modulated=0"], "more than 0, at most 1"),
        (&["network.modulated=1.5"], "more than 0, at most 1"),
        (&["network.modulated=0.5", "network.rule=hebbian"], "a rule with a modulator"),
        (&["network.modulated=0.5", "network.rule=none"], "a rule with a modulator"),
        (
            &["network.modulated=0.01"],
            "some neurons of both kinds, found 0.01, 0 of 8 neurons",
        ),
        (
            &["network.modulated=0.99"],
            "some neurons of both kinds, found 0.99, 8 of 8 neurons",
        ),
        (&["network.modulators=2"], "fan_out = true"),
        (&["network.squash=relu"], "`relu` is none of"),
        (&["network.alpha=row"], "`row` is none of"),
        (&["training.rollback_every=0"], "1 or more"),
        (&["init.alpha=[1,-1]"], "from <= to"),
        (&["curriculum.window=0"], "1 or more"),
        (&["task.bits=1"], "bits"),
        (&["task.steps=0"], "steps"),
        (&["task.longest_trial=4"], "longest_trial"),
        (&["curriculum.longest_trials=[17]"], "longest_trial"),
    ];
    for (settings, sentence) in nonsense {
        let small = ["network.hidden=8", "network.rule=simple"];
        let settings: Vec<String> = small.iter().chain(settings).map(ToString::to_string).collect();
        let course = Config::load("cue-small", &settings).and_then(|config| CueCourse::new(&config));
        let error = format!("{:#}", course.err().unwrap_or_else(|| panic!("{settings:?} is taken")));
        assert!(error.contains(sentence), "{settings:?}: {error}");
    }
}

#[test]
fn a_number_is_the_limit_of_a_hard_clip() {
    for (text, word) in [("2", "hard:2"), ("1.5", "hard:1.5"), ("hard:2", "hard:2"), ("soft", "soft")] {
        let trained = train_cue(&config(&["network.rule=simple", &format!("network.clip={text}")]));
        assert_eq!(trained.model.metadata["clip"], word);
    }
}

#[test]
fn the_rate_of_the_eligibility_trace_stays_a_share() {
    let settings = [
        "network.rule=retroactive",
        "init.eta_eligibility=1",
        "training.learning_rate=0.5",
        "network.eta=connection",
    ];
    let trained = train_cue(&config(&settings));
    let eta = trained.model.values("recurrent.eta").unwrap();
    assert_eq!(eta.len(), 64);
    assert!(eta.iter().all(|eta| (0.0..=1.0).contains(eta)), "{eta:?}");
}

#[test]
fn every_shape_of_network_trains() {
    for settings in [
        ["network.alpha=neuron", "network.eta=neuron", "network.rule=hebbian"],
        ["network.alpha=single", "network.squash=sigmoid", "network.rule=simple"],
        ["network.modulators=3", "network.fan_out=true", "network.rule=retroactive"],
        ["task.variant=paper", "network.clip=2", "network.rule=simple"],
        ["task.fixed=true", "task.bits=4", "training.gae_lambda=0.9"],
    ] {
        let trained = train_cue(&config(&settings));
        assert!(trained.metrics.iter().all(|metrics| metrics.norm > 0.0), "{settings:?}");
    }
}

/// Every clip and mask, with rates so large that what the traces hold shows in the activities.
fn shaped_configs() -> Vec<Config> {
    let strong = ["init.alpha=[-1,1]", "init.eta_hebbian=0.4", "init.modulator_scale=4"];
    let shapes: [&[&str]; 9] = [
        &["network.rule=hebbian", "network.clip=soft", "network.eta=connection"],
        &["network.rule=hebbian", "network.clip=decay"],
        &["network.rule=hebbian", "network.clip=oja", "network.eta=neuron"],
        &["network.rule=simple", "network.clip=soft", "network.modulated=0.5"],
        &["network.rule=simple", "network.clip=decay", "network.squash=sigmoid"],
        &[
            "network.rule=simple",
            "network.clip=oja",
            "network.modulated=0.5",
            "network.eta=connection",
        ],
        &[
            "network.rule=simple",
            "network.clip=hard:0.5",
            "network.modulated=0.25",
            "network.eta=neuron",
        ],
        &["network.rule=retroactive", "network.clip=soft", "network.modulated=0.75"],
        &[
            "network.rule=retroactive",
            "network.modulated=0.5",
            "network.eta=connection",
            "network.modulators=2",
            "network.fan_out=true",
        ],
    ];
    shapes.iter().map(|shape| config(&[&strong, *shape].concat())).collect()
}

/// The largest difference between a lifetime's activities in training and on the device, which gets the same inputs.
fn off_the_device(trained: &Model, device: &Model, course: &impl Course) -> f32 {
    let player = Player::new(trained, Kernel::Portable.resolve().unwrap()).unwrap();
    let episode = player.play(&mut course.task(0), Rng::new(5), 0);
    let image = f32_image(device);
    let network = Network::<f32>::new(&image).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let mut worst = 0.0f32;
    for (t, x) in episode.inputs.chunks_exact(trained.sizes.inputs).enumerate() {
        agent.step_real(x).unwrap();
        let pairs = agent.hidden().iter().zip(episode.trajectory.hidden(t));
        let modulators = agent.modulator().iter().zip(episode.trajectory.modulator(t));
        worst = pairs.chain(modulators).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
    }
    worst
}

#[test]
fn every_clip_and_mask_trains_into_a_network_that_the_device_runs_alike() {
    for config in shaped_configs() {
        let trained = train_cue(&config).model;
        let course = CueCourse::new(&config).unwrap();
        let error = off_the_device(&trained, &trained, &course);
        assert!(error < 1e-4, "{:?}: {error}", config.network);
        // It would show if the image had lost the clip or the mask.
        let mut lost = trained.clone();
        lost.parameters
            .retain(|name, _| name != "modulator.mask" && name != "recurrent.hebbian_eta");
        (lost.clip_kind, lost.clip) = (backpropamine::rule::Clip::Hard, 1.0);
        let error = off_the_device(&trained, &lost, &course);
        assert!(error > 1e-2, "{:?}: {error}", config.network);
    }
}

#[test]
fn every_clip_and_mask_learns_a_task_of_ones_own() {
    for shape in [
        ["network.rule=hebbian", "network.clip=decay"],
        ["network.rule=simple", "network.clip=oja"],
        ["network.rule=retroactive", "network.clip=soft"],
        ["network.rule=retroactive", "network.modulated=0.5"],
    ] {
        let recipe = ["training.iterations=150", "training.learning_rate=0.02", "training.batch=10"];
        let course = Single {
            name: "follow".to_owned(),
            make: || Follow::new(1.0),
        };
        let trained = meta_train(config(&[&recipe[..], &shape].concat()), course, |_| ControlFlow::Continue(())).unwrap();
        let score = trained.metrics.last().unwrap().score;
        assert!(score.unwrap() > 0.9, "{shape:?}: {score:?}");
    }
}

/// The late accuracy in a hundred lifetimes.
fn late_accuracy(model: &Model, course: &CueCourse) -> f64 {
    let player = Player::new(model, Kernel::Portable.resolve().unwrap()).unwrap();
    let episodes = player.play_batch(course, 0, Rng::new(99), 0, 100);
    let scores = episodes.iter().map(|episode| course.score(0, episode));
    let (correct, all) = scores.fold((0, 0), |(correct, all), (c, a)| (correct + c, all + a));
    f64::from(correct) / f64::from(all)
}

/// The plateau of the cue task takes some hundred to some thousand iterations to leave, by the seed.
#[test]
fn a_network_with_the_soft_clip_learns_to_learn_by_its_traces() {
    let recipe = [
        "network.rule=simple",
        "network.clip=soft",
        "network.hidden=32",
        "task.cues=2",
        "task.steps=120",
        "training.batch=10",
        "training.iterations=2000",
        "training.learning_rate=1.5e-3",
        "training.learning_rate_end=1.5e-3",
        "training.entropy_weight_end=0.02",
        "init.input_scale=3",
        "curriculum.cues=[]",
        "run.seed=2",
    ];
    let config = config(&recipe);
    let course = CueCourse::new(&config).unwrap();
    let mut model = train_cue(&config).model;
    let learned = late_accuracy(&model, &course);
    assert!(learned > 0.8, "{learned}");
    model.parameters.get_mut("recurrent.alpha").unwrap().values.fill(0.0);
    let innate = late_accuracy(&model, &course);
    assert!(innate < 0.65, "{innate} without the traces");
}

#[test]
fn the_mask_stays_and_the_hebbian_rate_learns() {
    let config = config(&["network.rule=retroactive", "network.modulated=0.75", "network.eta=neuron"]);
    let trained = train_cue(&config).model;
    assert_eq!(trained.values("modulator.mask").unwrap(), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    let rates = trained.values("recurrent.hebbian_eta").unwrap();
    let moved = |rate: &f32| (rate - config.init.eta_hebbian).abs() > 1e-6;
    assert!(!rates[..6].iter().any(moved), "modulated neurons have no use for theirs: {rates:?}");
    assert!(rates[6..].iter().all(moved), "{rates:?}");
}

#[test]
fn a_restart_draws_other_weights() {
    let config = config(&["curriculum.patience=2", "curriculum.restarts=1", "curriculum.threshold=0.999"]);
    let mut trainer = Trainer::new(config.clone(), CueCourse::new(&config).unwrap()).unwrap();
    let first = trainer.model().clone();
    trainer.iterate().unwrap();
    trainer.iterate().unwrap();
    assert_eq!(trainer.curriculum().attempt, 1);
    assert_ne!(first.values("recurrent.weight"), trainer.model().values("recurrent.weight"));
}

#[test]
fn evaluation_does_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let config = config(&[]);
    train_cue(&config).model.save(&path).unwrap();
    let network = Choice::default().open(&path, None).unwrap();
    let cue = backpropamine::task::cue::Cue::new(config.cue().unwrap()).unwrap();
    let run = || evaluate(&network, || cue.clone(), Policy::Sample, 1_000_000, 50).unwrap();
    let one = in_threads(1, run);
    assert_eq!(one, in_threads(2, run));
    assert_eq!(one.lives.len(), 50);
    let late = one.late_accuracy();
    assert!(
        late.interval[0] < 0.55 && late.interval[1] > 0.4,
        "a network that has learned nothing: {late:?}"
    );
}
