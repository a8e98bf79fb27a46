//! Lawful? Properties that hold for every network, by `proptest` over random sizes, rules and numbers.

use backpropamine::network::{Agent, Network};
use backpropamine::rule::{Clip, Granularity, Rule, Squash};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine_tests::image;
use backpropamine_tests::parameters::{Draws, GRANULARITIES, Parameters, RULES, SQUASHES, Shape, count};
use proptest::prelude::*;
use proptest::sample::select;

/// Any small network whose rule is one of `rules`.
fn networks(rules: &'static [Rule]) -> impl Strategy<Value = Parameters> {
    let sizes = (1..6usize, 1..10usize, 1..4usize, 1..4usize);
    let kinds = (
        select(rules),
        select(&SQUASHES[..]),
        select(&GRANULARITIES[..]),
        select(&GRANULARITIES[..]),
    );
    let masks = prop_oneof![3 => Just(Granularity::Absent), 1 => select(&GRANULARITIES[..])];
    let others = (any::<bool>(), any::<bool>(), masks, 0.05..2.0f32, any::<u64>());
    (sizes, kinds, others).prop_map(|(sizes, kinds, others)| {
        let (inputs, hidden, actions, modulators) = sizes;
        let (rule, squash, alpha, eta) = kinds;
        let (value, fan_out, hebbian_eta, clip, seed) = others;
        let shape = Shape {
            inputs,
            hidden,
            actions,
            modulators,
            value,
            fan_out,
            rule,
            clip_kind: Clip::Hard,
            clip,
            squash,
            alpha,
            eta,
            hebbian_eta,
        };
        Parameters::random(shape, seed)
    })
}

const PLASTIC: [Rule; 3] = [Rule::Hebbian, Rule::Modulated, Rule::Retroactive];
const MODULATED: [Rule; 2] = [Rule::Modulated, Rule::Retroactive];

/// `steps` observations for a network, of deviation 1.
fn observations(parameters: &Parameters, steps: usize) -> Vec<Vec<f32>> {
    let mut draws = Draws::new(99);
    (0..steps).map(|_| draws.normals(parameters.shape.inputs, 1.0)).collect()
}

/// An arithmetic and the builder of its images.
trait Arithmetic: Scalar<Real = f32> {
    fn words(parameters: &Parameters) -> Vec<u32>;
}

impl Arithmetic for f32 {
    fn words(parameters: &Parameters) -> Vec<u32> {
        image::f32_words(parameters)
    }
}

impl Arithmetic for Q15 {
    fn words(parameters: &Parameters) -> Vec<u32> {
        image::q15_words(parameters, 4.0)
    }
}

impl Arithmetic for Q7 {
    fn words(parameters: &Parameters) -> Vec<u32> {
        image::q7_words(parameters, 4.0)
    }
}

/// A law in every arithmetic.
macro_rules! in_every_arithmetic {
    ($law:ident, $($argument:expr),+) => {
        $law::<f32>($($argument),+)?;
        $law::<Q15>($($argument),+)?;
        $law::<Q7>($($argument),+)?;
    };
}

type Verdict = Result<(), TestCaseError>;

/// Runs `body` with a fresh agent of the network.
fn with_agent<S: Arithmetic, T>(parameters: &Parameters, body: impl FnOnce(&mut Agent<'_, '_, S>) -> T) -> T {
    let words = S::words(parameters);
    let network = Network::<S>::new(&words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    body(&mut Agent::new(&network, &mut memory).unwrap())
}

/// A trace, row by row.
type Trace = Vec<Option<f32>>;

fn connections(hidden: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hidden).flat_map(move |post| (0..hidden).map(move |pre| (post, pre)))
}

fn hebb<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> Trace {
    connections(agent.hidden().len()).map(|(post, pre)| agent.hebb(post, pre)).collect()
}

fn eligibility<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> Trace {
    connections(agent.hidden().len())
        .map(|(post, pre)| agent.eligibility(post, pre))
        .collect()
}

fn activity<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> Vec<f32> {
    agent.hidden().iter().map(|h| h.to_real()).collect()
}

fn is_born<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> bool {
    hebb(agent).iter().chain(&eligibility(agent)).flatten().all(|trace| *trace == 0.0)
}

/// Activity, logits and value after a step.
fn behaviour<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> Vec<f32> {
    let outputs = agent.policy().iter().copied().chain(agent.value()).map(S::output_to_real);
    activity(agent).into_iter().chain(outputs).collect()
}

/// All that is visible of an agent after a step.
fn visible<S: Arithmetic>(agent: &Agent<'_, '_, S>) -> Vec<f32> {
    let m = agent.modulator().iter().copied().map(S::output_to_real);
    let traces = hebb(agent).into_iter().chain(eligibility(agent)).flatten();
    behaviour(agent).into_iter().chain(m).chain(traces).collect()
}

/// What `look` sees after every step of a run.
fn run<S: Arithmetic>(agent: &mut Agent<'_, '_, S>, inputs: &[Vec<f32>], look: fn(&Agent<'_, '_, S>) -> Vec<f32>) -> Vec<Vec<f32>> {
    inputs
        .iter()
        .map(|x| {
            agent.step_real(x).unwrap();
            look(agent)
        })
        .collect()
}

fn without_alpha<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    let inputs = observations(parameters, 20);
    let act = |parameters: &Parameters| with_agent::<S, _>(parameters, |agent| run(agent, &inputs, behaviour));
    prop_assert_eq!(act(parameters), act(&parameters.non_plastic()));
    Ok(())
}

fn within_the_clip<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    with_agent::<S, _>(parameters, |agent| {
        for x in observations(parameters, 40) {
            agent.step_real(&x).unwrap();
            prop_assert!(hebb(agent).iter().flatten().all(|h| h.abs() <= parameters.shape.clip));
        }
        Ok(())
    })
}

/// Learns in every other step; in the ones between, input 0 switches the modulator off.
fn frozen_without_modulator<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    with_agent::<S, _>(parameters, |agent| {
        for mut x in observations(parameters, 20) {
            agent.step_real(&x).unwrap();
            let learned = hebb(agent);
            x[0] = 0.0;
            agent.step_real(&x).unwrap();
            prop_assert!(agent.modulator().iter().all(|m| S::output_to_real(*m) == 0.0));
            prop_assert_eq!(hebb(agent), learned);
        }
        Ok(())
    })
}

fn last_product_at_eta_one<S: Arithmetic>(parameters: &Parameters, unit: f32) -> Verdict {
    with_agent::<S, _>(parameters, |agent| {
        for x in observations(parameters, 10) {
            let before = activity(agent);
            agent.step_real(&x).unwrap();
            let after = activity(agent);
            for (post, pre) in connections(after.len()) {
                let found = agent.eligibility(post, pre).unwrap();
                prop_assert!((found - after[post] * before[pre]).abs() <= unit);
            }
        }
        Ok(())
    })
}

fn reset_is_birth<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    let inputs = observations(parameters, 15);
    with_agent::<S, _>(parameters, |agent| {
        let first = run(agent, &inputs, visible);
        agent.reset();
        prop_assert!(is_born(agent) && activity(agent).iter().all(|h| *h == 0.0));
        prop_assert_eq!(first, run(agent, &inputs, visible));
        Ok(())
    })
}

fn dirty_memory_is_clean<S: Arithmetic>(parameters: &Parameters, dirt: u64) -> Verdict {
    let words = S::words(parameters);
    let network = Network::<S>::new(&words).unwrap();
    let inputs = observations(parameters, 5);
    let live = |fill| {
        let mut memory = vec![fill; network.memory_words()];
        run(&mut Agent::new(&network, &mut memory).unwrap(), &inputs, visible)
    };
    prop_assert_eq!(live(0), live(dirt));
    Ok(())
}

fn resets_apart<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    let inputs = observations(parameters, 10);
    with_agent::<S, _>(parameters, |agent| {
        run(agent, &inputs, behaviour);
        let learned = (hebb(agent), eligibility(agent));
        agent.reset_activity();
        prop_assert!(activity(agent).iter().all(|h| *h == 0.0));
        prop_assert_eq!((hebb(agent), eligibility(agent)), learned);
        run(agent, &inputs, behaviour);
        let before = behaviour(agent);
        agent.reset_learning();
        prop_assert!(is_born(agent));
        prop_assert_eq!(behaviour(agent), before);
        Ok(())
    })
}

fn same_at_every_granularity<S: Arithmetic>(parameters: &Parameters, alpha: f32, eta: f32) -> Verdict {
    let hidden = parameters.shape.hidden;
    let inputs = observations(parameters, 12);
    let filled = |granularity: Granularity| {
        let mut filled = parameters.clone();
        (filled.shape.alpha, filled.shape.eta) = (granularity, granularity);
        filled.alpha = vec![alpha; count(granularity, hidden)];
        filled.eta = vec![eta; if parameters.eta.is_empty() { 0 } else { count(granularity, hidden) }];
        with_agent::<S, _>(&filled, |agent| run(agent, &inputs, visible))
    };
    let [single, per_neuron, per_connection] = GRANULARITIES.map(filled);
    prop_assert_eq!(&single, &per_neuron);
    prop_assert_eq!(&single, &per_connection);
    Ok(())
}

fn two_agents_one_network<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    let words = S::words(parameters);
    let network = Network::<S>::new(&words).unwrap();
    let mut memories = [0; 2].map(|_| vec![0; network.memory_words()]);
    let mut agents = memories.each_mut().map(|memory| Agent::new(&network, memory).unwrap());
    let inputs = observations(parameters, 24);
    let mut seen = [Vec::new(), Vec::new()];
    for pair in inputs.chunks(2) {
        for ((agent, seen), x) in agents.iter_mut().zip(&mut seen).zip(pair) {
            seen.extend(run(agent, std::slice::from_ref(x), visible));
        }
    }
    for (parity, seen) in seen.into_iter().enumerate() {
        let own: Vec<_> = inputs.iter().skip(parity).step_by(2).cloned().collect();
        prop_assert_eq!(seen, with_agent::<S, _>(parameters, |agent| run(agent, &own, visible)));
    }
    Ok(())
}

fn looking_is_harmless<S: Arithmetic>(parameters: &Parameters) -> Verdict {
    let inputs = observations(parameters, 12);
    let looked = with_agent::<S, _>(parameters, |agent| run(agent, &inputs, visible).pop());
    let unseen = with_agent::<S, _>(parameters, |agent| {
        run(agent, &inputs, |_| Vec::new());
        visible(agent)
    });
    prop_assert_eq!(looked, Some(unseen));
    Ok(())
}

fn wrong_length_changes_nothing<S: Arithmetic>(parameters: &Parameters, wrong: usize) -> Verdict {
    let inputs = observations(parameters, 4);
    let expected = with_agent::<S, _>(parameters, |agent| run(agent, &inputs, visible).pop());
    let found = with_agent::<S, _>(parameters, |agent| {
        run(agent, &inputs[..3], visible);
        let error = agent.step_real(&vec![0.5; wrong]).unwrap_err();
        assert_eq!((error.expected, error.found), (parameters.shape.inputs, wrong));
        assert_eq!(agent.step(&vec![S::zeroed(); wrong]).unwrap_err(), error);
        run(agent, &inputs[3..], visible).pop()
    });
    prop_assert_eq!(found, expected);
    Ok(())
}

/// `M_j` as the equations have it.
fn fan_out(parameters: &Parameters, m: &[f32], post: usize) -> f32 {
    if parameters.fan_out_weight.is_empty() {
        return m.iter().sum();
    }
    let row = &parameters.fan_out_weight[post * m.len()..][..m.len()];
    row.iter().zip(m).map(|(g, m)| g * m).sum::<f32>() + parameters.fan_out_bias[post]
}

/// The coefficient of a connection, whatever its granularity.
fn coefficient(numbers: &[f32], hidden: usize, post: usize, pre: usize) -> f32 {
    match numbers.len() {
        1 => numbers[0],
        n if n == hidden => numbers[post],
        _ => numbers[post * hidden + pre],
    }
}

fn close(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 1e-6 * (1.0 + expected.abs())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_step_obeys_the_equation_of_its_rule(parameters in networks(&PLASTIC)) {
        let Shape { hidden, rule, clip, .. } = parameters.shape;
        with_agent::<f32, _>(&parameters, |agent| {
            for x in observations(&parameters, 12) {
                let (pre_activity, hebb_before, elig_before) = (agent.hidden().to_vec(), hebb(agent), eligibility(agent));
                agent.step(&x).unwrap();
                for (index, (post, pre)) in connections(hidden).enumerate() {
                    let product = agent.hidden()[post] * pre_activity[pre];
                    let gain = fan_out(&parameters, agent.modulator(), post);
                    let eta = || coefficient(&parameters.eta, hidden, post, pre);
                    let increment = match rule {
                        Rule::Hebbian => eta() * product,
                        _ if parameters.mask.get(post) == Some(&false) => {
                            coefficient(&parameters.hebbian_eta, hidden, post, pre) * product
                        }
                        Rule::Modulated => gain * product,
                        // The order: H takes E as it was, then E moves.
                        _ => gain * elig_before[index].unwrap(),
                    };
                    let expected = (hebb_before[index].unwrap() + increment).clamp(-clip, clip);
                    prop_assert!(close(agent.hebb(post, pre).unwrap(), expected));
                    let expected = elig_before[index].map(|e| (1.0 - eta()) * e + eta() * product);
                    let found = agent.eligibility(post, pre);
                    prop_assert_eq!(found.is_some(), rule == Rule::Retroactive);
                    prop_assert!(found.zip(expected).is_none_or(|(found, expected)| close(found, expected)));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn traces_never_leave_the_clip(parameters in networks(&PLASTIC)) {
        let driven = |factor: f32| {
            let mut driven = parameters.clone();
            for number in driven.modulator_weight.iter_mut().chain(&mut driven.input_weight) {
                *number *= factor;
            }
            driven
        };
        within_the_clip::<f32>(&driven(20.0))?;
        within_the_clip::<Q15>(&driven(20.0))?;
        // 8 bits hold no weights above 127.
        within_the_clip::<Q7>(&driven(5.0))?;
    }

    #[test]
    fn without_alpha_every_rule_acts_like_a_non_plastic_network(mut parameters in networks(&PLASTIC)) {
        parameters.alpha.fill(0.0);
        in_every_arithmetic!(without_alpha, &parameters);
    }

    /// Neuron 0 hears input 0 alone and is all the modulator reads: input 0 switches learning on and off.
    #[test]
    fn without_modulator_the_trace_stands_still(parameters in networks(&MODULATED)) {
        let mut parameters = parameters.wholly_modulated();
        let Shape { inputs, hidden, .. } = parameters.shape;
        parameters.shape.squash = Squash::Tanh;
        parameters.fan_out_bias.fill(0.0);
        parameters.modulator_bias.fill(0.0);
        parameters.input_bias[0] = 0.0;
        parameters.input_weight[..inputs].fill(0.0);
        parameters.input_weight[0] = 1.0;
        parameters.recurrent_weight[..hidden].fill(0.0);
        let first_row = if parameters.shape.alpha == Granularity::PerConnection { hidden } else { 1 };
        parameters.alpha[..first_row].fill(0.0);
        for row in parameters.modulator_weight.chunks_mut(hidden) {
            row[0] = 2.0;
            row[1..].fill(0.0);
        }
        in_every_arithmetic!(frozen_without_modulator, &parameters);
    }

    #[test]
    fn at_eta_one_the_eligibility_is_the_last_product(parameters in networks(&[Rule::Retroactive])) {
        let mut parameters = parameters.wholly_modulated();
        parameters.eta.fill(1.0);
        last_product_at_eta_one::<f32>(&parameters, 1e-6)?;
        last_product_at_eta_one::<Q15>(&parameters, 1.0 / 32_768.0)?;
        last_product_at_eta_one::<Q7>(&parameters, 0.5 / 128.0)?;
    }

    #[test]
    fn reset_is_a_fresh_start(parameters in networks(&RULES)) {
        in_every_arithmetic!(reset_is_birth, &parameters);
    }

    #[test]
    fn memory_that_held_anything_makes_a_fresh_agent(parameters in networks(&RULES), dirt in any::<u64>()) {
        in_every_arithmetic!(dirty_memory_is_clean, &parameters, dirt);
    }

    #[test]
    fn activity_and_learning_reset_apart(parameters in networks(&PLASTIC)) {
        in_every_arithmetic!(resets_apart, &parameters);
    }

    #[test]
    fn one_number_is_the_same_at_every_granularity(parameters in networks(&PLASTIC), alpha in -0.5..0.5f32, eta in 0.0..1.0f32) {
        in_every_arithmetic!(same_at_every_granularity, &parameters, alpha, eta);
    }

    #[test]
    fn a_fan_out_of_one_is_none(parameters in networks(&MODULATED)) {
        let absent = parameters.without_fan_out();
        let mut ones = absent.clone();
        ones.shape.fan_out = true;
        ones.fan_out_weight = vec![1.0; parameters.shape.hidden * parameters.shape.modulators];
        ones.fan_out_bias = vec![0.0; parameters.shape.hidden];
        let inputs = observations(&parameters, 12);
        let [absent, ones] = [absent, ones].map(|parameters| with_agent::<f32, _>(&parameters, |agent| run(agent, &inputs, visible)));
        prop_assert_eq!(absent, ones);
    }

    #[test]
    fn agents_share_a_network_without_touching_each_other(parameters in networks(&RULES)) {
        in_every_arithmetic!(two_agents_one_network, &parameters);
    }

    /// The update is fused into the next step; looking must neither see it half done nor do it twice.
    #[test]
    fn looking_does_not_disturb(parameters in networks(&RULES)) {
        in_every_arithmetic!(looking_is_harmless, &parameters);
    }

    #[test]
    fn a_wrong_input_length_is_refused_and_changes_nothing(parameters in networks(&RULES), wrong in 0..9usize) {
        prop_assume!(wrong != parameters.shape.inputs);
        in_every_arithmetic!(wrong_length_changes_nothing, &parameters, wrong);
    }
}

/// Full scale and beyond: fixed-point inputs are clamped to the declared range, and counted.
#[test]
fn inputs_beyond_the_range_are_clamped_and_counted() {
    let parameters = Parameters::random(Shape::new(Rule::Modulated, 3, 6, 2), 1);
    with_agent::<Q15, _>(&parameters, |agent| {
        agent.step_real(&[4.0, -4.0, 0.0]).unwrap();
        assert_eq!(agent.saturated_inputs(), 0, "the ends of the range belong to it");
        let at_the_end = behaviour(agent);
        agent.reset();
        agent.step_real(&[5.0, -1e30, f32::NAN]).unwrap();
        assert_eq!(agent.saturated_inputs(), 3);
        assert_eq!(behaviour(agent), at_the_end);
    });
}

/// Kernels may load two 16-bit numbers at once; where the caller's array begins must not matter.
#[test]
fn inputs_may_begin_at_any_address() {
    let parameters = Parameters::random(Shape::new(Rule::Retroactive, 5, 6, 2), 1);
    let mut draws = Draws::new(7);
    let observations: Vec<[Q15; 8]> = (0..10)
        .map(|_| std::array::from_fn(|_| Q15::from_bits(draws.bits() as i16)))
        .collect();
    let live = |offset: usize| {
        with_agent::<Q15, _>(&parameters, |agent| {
            for observation in &observations {
                let mut shifted = [Q15::default(); 8];
                shifted[offset..offset + 5].copy_from_slice(&observation[..5]);
                agent.step(&shifted[offset..offset + 5]).unwrap();
            }
            visible(agent)
        })
    };
    assert_eq!(live(0), live(1));
    assert_eq!(live(0), live(2));
}
