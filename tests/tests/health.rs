//! Does the health report tell what is the case?

use backpropamine::health::{BINS, Health, Monitor};
use backpropamine::network::{Agent, Network};
use backpropamine::rule::Rule;
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine_tests::image;
use backpropamine_tests::parameters::{Parameters, Shape};

/// Three neurons, of which the last has no weights at all; the others saturate their traces soon.
fn parameters() -> Parameters {
    let mut parameters = Parameters::random(Shape::new(Rule::Hebbian, 1, 3, 2), 1);
    parameters.input_weight = vec![3.0, -3.0, 0.0];
    parameters.input_bias = vec![0.0; 3];
    parameters.recurrent_weight = vec![0.0; 9];
    parameters.alpha = vec![0.0; 9];
    parameters.eta = vec![0.5];
    parameters
}

fn report<S: Scalar>(words: &[u32], inputs: &[f32]) -> (Health, Vec<f32>) {
    let network = Network::<S>::new(words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let mut monitor = Monitor::<8>::new();
    let mut logits = Vec::new();
    for x in inputs {
        let step = agent.step_real(&[*x]).unwrap();
        logits.extend(step.iter().map(|logit| S::output_to_real(*logit).into() as f32));
        monitor.observe(&agent, 0.5);
    }
    (monitor.report(&mut agent), logits)
}

fn tells<S: Scalar>(words: &[u32]) {
    let (health, _) = report::<S>(words, &[1.0; 40]);
    assert_eq!(health.steps, 40);
    assert_eq!(health.dead_units, 1);
    // Four of nine traces join two lively neurons.
    assert!((health.saturation - 4.0 / 9.0).abs() < 1e-6, "{health:?}");
    // The two neurons oppose each other: two traces at either end, five never moved.
    let mut histogram = [0; BINS];
    (histogram[0], histogram[BINS / 2], histogram[BINS - 1]) = (2, 5, 2);
    assert_eq!(health.histogram, histogram);
    assert!((health.trace_mean - 4.0 / 9.0).abs() < 0.01, "{health:?}");
    assert_eq!((health.modulator_mean, health.modulator_max), (0.0, 0.0));
    let expected = 0.5 * (1.0 - (1.0f32 - 1.0 / 64.0).powi(40));
    assert!((health.reward_average - expected).abs() < 1e-5, "{health:?}");
    assert_eq!(health.saturated_inputs, 0);
}

#[test]
fn saturated_traces_dead_units_and_rewards_are_counted() {
    tells::<f32>(&image::f32_words(&parameters()));
    tells::<f64>(&image::f32_words(&parameters()));
    tells::<Q15>(&image::q15_words(&parameters(), 1.0));
    tells::<Q7>(&image::q7_words(&parameters(), 1.0));
}

fn stays_finite<S: Scalar>(words: &[u32]) {
    let (health, logits) = report::<S>(words, &[f32::NAN, f32::INFINITY, -f32::INFINITY, 1e38, 0.5]);
    assert_eq!(health.saturated_inputs, 4);
    assert!(logits.iter().all(|logit| logit.is_finite()), "{logits:?}");
    assert!(health.saturation.is_finite() && health.saturation <= 1.0);
}

#[test]
fn inputs_that_are_no_numbers_are_clamped_counted_and_do_not_spread() {
    stays_finite::<f32>(&image::f32_words(&parameters()));
    stays_finite::<Q15>(&image::q15_words(&parameters(), 1.0));
    stays_finite::<Q7>(&image::q7_words(&parameters(), 1.0));
}

#[test]
fn the_modulator_is_measured() {
    let words = image::f32_words(&Parameters::random(Shape::new(Rule::Modulated, 1, 5, 2), 4));
    let network = Network::<f32>::new(&words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let mut monitor = Monitor::<5>::new();
    let mut seen = Vec::new();
    for step in 0..20 {
        agent.step_real(&[(step % 3) as f32 - 1.0]).unwrap();
        seen.push(agent.modulator()[0].abs());
        monitor.observe(&agent, f32::NAN);
    }
    let health = monitor.report(&mut agent);
    let mean = seen.iter().sum::<f32>() / 20.0;
    assert!((health.modulator_mean - mean).abs() < 1e-6);
    assert_eq!(health.modulator_max, seen.iter().copied().fold(0.0, f32::max));
    assert_eq!(health.reward_average, 0.0);
}
