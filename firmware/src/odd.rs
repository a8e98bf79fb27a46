//! Random networks of awkward sizes, with numbers and fixed-point formats that no exporter writes: whatever a kernel does with the ends
//! of rows and blocks, with wrapping sums and with saturated traces, a device has to give the bits of the host.
//!
//! The emulator tests of `host-train` include this file, so that both sides run the same source.

use backpropamine::digest::Digest;
use backpropamine::image::{Formats, HEADER_WORDS, Header, Numeric, Section, seal};
use backpropamine::network::{Agent, Network};
use backpropamine::rng::{Lifetime, Rng, Stream};
use backpropamine::rule::{Clip, Granularity, Rule, Squash};
use backpropamine::scalar::{Q7, Q15, Scalar};

/// Hidden neurons: less than a lane, a group of lanes, a block; exactly that; more.
const HIDDEN: [usize; 13] = [1, 2, 3, 7, 8, 16, 31, 32, 33, 63, 64, 65, 100];
/// The largest of [`HIDDEN`].
const LARGEST: usize = 100;
/// Fractional bits of gains in fixed point; in f32 the limit of traces.
const GAINS: [u8; 7] = [0, 7, 13, 14, 15, 16, 30];
/// Steps of each network.
const STEPS: u32 = 6;

/// Words that every image fits in: weights, alpha, eta, and room for all that grows with the number of neurons only.
pub const IMAGE_WORDS: usize = 3 * LARGEST * LARGEST + 50 * LARGEST;
/// Words that every memory fits in: H and E, and room for activities.
pub const MEMORY_WORDS: usize = LARGEST * LARGEST + 10 * LARGEST;

/// Runs every network in the given room and reports `(arithmetic, rule, hidden neurons, digest of all gain formats)`. `None`
/// is a bug.
pub fn digests(image: &mut [u32], memory: &mut [u64], mut report: impl FnMut(&'static str, u32, usize, u64)) -> Option<()> {
    digests_in(real, image, memory, |rule, hidden, digest| report("f32", rule, hidden, digest))?;
    let wide = |bits: u32| Q15::from_bits(bits as i16);
    let narrow = |bits: u32| Q7::from_bits(bits as i8);
    digests_in(wide, image, memory, |rule, hidden, digest| report("q15", rule, hidden, digest))?;
    digests_in(narrow, image, memory, |rule, hidden, digest| report("q7", rule, hidden, digest))
}

/// A number between -1 and 1.
fn real(bits: u32) -> f32 {
    bits as i32 as f32 / 2_147_483_648.0
}

/// In the arithmetic whose numbers `number` makes of random bits.
fn digests_in<S: Scalar<Real = f32>>(
    number: fn(u32) -> S,
    image: &mut [u32],
    memory: &mut [u64],
    mut report: impl FnMut(u32, usize, u64),
) -> Option<()> {
    let mut case = 0;
    for rule in [Rule::NonPlastic, Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
        for hidden in HIDDEN {
            let mut digest = Digest::new();
            for gain in GAINS {
                case += 1;
                let draws = Rng::new(case).lifetime(Stream::Init, 0);
                run(
                    number,
                    header(S::NUMERIC, rule, hidden, gain, &draws),
                    &draws,
                    image,
                    memory,
                    &mut digest,
                )?;
            }
            report(rule as u32, hidden, digest.value());
        }
    }
    Some(())
}

/// A network whose coefficients are mostly as numerous as the fastest kernels want them.
fn header(numeric: Numeric, rule: Rule, hidden: usize, gain: u8, draws: &Lifetime) -> Header {
    let modulated = matches!(rule, Rule::Modulated | Rule::Retroactive);
    let one_of = |index, choices: [Granularity; 4], present| match present {
        true => choices[draws.below(0, index, 4) as usize],
        false => Granularity::Absent,
    };
    let is_fixed = numeric != Numeric::F32;
    let (single, neuron, connection) = (Granularity::Single, Granularity::PerNeuron, Granularity::PerConnection);
    Header {
        checksum: 0,
        numeric,
        rule,
        squash: Squash::Tanh,
        clip_kind: Clip::Hard,
        clip: if is_fixed { 1.0 } else { f32::from(gain + 1) / 8.0 },
        clip_remainder: 0.0,
        inputs: 1 + draws.below(0, 0, 40) as usize,
        hidden,
        outputs: 2,
        modulators: usize::from(modulated),
        alpha: one_of(1, [connection, connection, connection, single], rule != Rule::NonPlastic),
        eta: one_of(
            2,
            [single, neuron, neuron, connection],
            matches!(rule, Rule::Hebbian | Rule::Retroactive),
        ),
        hebbian_eta: Granularity::Absent,
        fan_out: modulated && draws.below(0, 3, 2) == 0,
        fan_out_bias: false,
        value: false,
        formats: if !is_fixed {
            Formats::default()
        } else {
            Formats {
                recurrent: match numeric {
                    // Weights and alpha.
                    Numeric::Q7 => (draws.below(0, 4, 64) | draws.below(0, 6, 64) << 8) as u16,
                    _ => draws.below(0, 4, 16) as u16,
                },
                input: 15,
                gain,
                fan_out: 13,
                modulator: 12,
                policy: 12,
                ..Formats::default()
            }
        },
        unit_fan_out: if is_fixed { 1 << 14 } else { 0 },
        metadata_bytes: 0,
    }
}

/// A few steps of one network, every number of which goes into the digest.
fn run<S: Scalar<Real = f32>>(
    number: fn(u32) -> S,
    header: Header,
    draws: &Lifetime,
    image: &mut [u32],
    memory: &mut [u64],
    digest: &mut Digest,
) -> Option<()> {
    let image = image.get_mut(..header.total_words())?;
    fill(&header, draws, image);
    let network = Network::<S>::new(image).ok()?;
    let mut agent = Agent::new(&network, memory.get_mut(..network.memory_words())?).ok()?;
    let mut input = [number(0); 40];
    for step in 1..=STEPS {
        for (index, x) in (0..).zip(&mut input) {
            *x = number(draws.draw(step, index));
        }
        agent.step(input.get(..header.inputs)?).ok()?;
        agent.hidden().iter().for_each(|h| digest.word(h.digest_word()));
        agent
            .modulator()
            .iter()
            .chain(agent.policy())
            .for_each(|x| digest.word(S::output_digest_word(*x)));
        if let Some(hebb) = agent.hebb(header.hidden - 1, header.hidden / 2) {
            digest.word(hebb.to_bits());
        }
    }
    agent.for_each_trace(|trace| digest.word(trace.digest_word()));
    Some(())
}

/// An image of random bits, in one network of three made small, so that sums do not all saturate the activities.
fn fill(header: &Header, draws: &Lifetime, image: &mut [u32]) {
    let is_fixed = header.numeric != Numeric::F32;
    let narrow = 4 * draws.below(0, 5, 3);
    let small = |bits: u32| u32::from((bits as i16 >> narrow) as u16);
    for (number, word) in (0..).zip(&mut *image) {
        let bits = draws.draw(STEPS + 1, number);
        *word = match is_fixed {
            true => small(bits) | small(bits >> 16) << 16,
            false => (real(bits) / (1 << narrow) as f32).to_bits(),
        };
    }
    // An eta of Retroactive is at most 1, and exactly 1 or 0 now and then.
    let start = header.section_start(Section::Eta);
    if let Some(eta) = image.get_mut(start..start + header.section_words(Section::Eta)) {
        for word in eta {
            *word = match (*word & 7, is_fixed) {
                (0, true) => 0x8000_8000,
                (0, false) => 1_f32.to_bits(),
                (1, _) => 0,
                (_, true) => *word & 0x7fff_7fff,
                (_, false) => *word & 0x7fff_ffff,
            };
        }
    }
    if let Some(head) = image.first_chunk_mut::<HEADER_WORDS>() {
        *head = header.words();
    }
    seal(image);
}
