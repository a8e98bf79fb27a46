//! The network: what was meta-learned ([`Network`], immutable, flash), what one lifetime learns ([`Memory`], RAM), and the
//! [`Agent`] that joins them.
//!
//! One step computes (Miconi et al., ICLR 2019, Eq. 1)
//!
//! ```text
//! h_j(t) = tanh( Σ_k Win_jk u_k(t) + b_j + Σ_i (w_ji + alpha_ji·H_ji(t)) · h_i(t-1) )
//! m(t)   = f( Wm h(t) + bm )        logits = Wpi h(t) + bpi        V(t) = Wv h(t) + bv
//! ```
//!
//! and then changes the traces by the [rule](crate::rule). Matrices are `[post][pre]`: row j holds all that neuron j receives.
//! The change of step t is carried out when step t+1 begins; every accessor already includes it.
//!
//! There are two doors to the same code. [`embed!`](crate::embed) turns an image into a *type* when the firmware is built:
//! array lengths, exact static memory, a step that cannot fail, and no code of other rules. [`Agent`] takes any image at run time.

use crate::image::{Header, LoadError, Section};
use crate::kernel::{self, Coefficient, Coefficients, Increment, Kernel, Layer, Traces};
use crate::rule::{Granularity, Rule};
use crate::scalar::Scalar;
use bytemuck::Zeroable;

/// A checked view of an image: the meta-learned numbers, shared by any number of agents.
///
/// `S` is the arithmetic: `f32` or `f64` for an f32 image, [`Q15`](crate::scalar::Q15) for a q15 image, [`Q7`](crate::scalar::Q7) for a q7 image.
#[derive(Clone, Copy)]
pub struct Network<'a, S: Scalar> {
    header: Header,
    input_weight: &'a [S::Weight],
    input_bias: &'a [S::Bias],
    recurrent_weight: &'a [S::Weight],
    alpha: &'a [S::Weight],
    eta: &'a [S::Rate],
    hebbian_eta: &'a [S::Rate],
    mask: &'a [u32],
    modulator_weight: &'a [S::Weight],
    modulator_bias: &'a [S::Bias],
    fan_out: &'a [S::Weight],
    fan_out_bias: &'a [S::Bias],
    policy_weight: &'a [S::Weight],
    policy_bias: &'a [S::Bias],
    value_weight: &'a [S::Weight],
    value_bias: &'a [S::Bias],
    metadata: &'a [u8],
}

impl<S: Scalar> core::fmt::Debug for Network<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Network").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<'a, S: Scalar> Network<'a, S> {
    /// Checks an image and views it in place.
    ///
    /// # Errors
    /// A [`LoadError`] that says what was expected and found.
    pub const fn new(words: &'a [u32]) -> Result<Self, LoadError> {
        let header = match Header::parse(words) {
            Ok(header) => header,
            Err(error) => return Err(error),
        };
        if header.numeric as u8 != S::NUMERIC as u8 {
            return Err(LoadError::Numeric {
                expected: S::NUMERIC,
                found: header.numeric,
            });
        }
        if let Err(error) = header.check_numbers(words) {
            return Err(error);
        }
        let weights = Sections { words, header: &header };
        Ok(Self {
            input_weight: bytemuck::must_cast_slice(weights.get(Section::InputWeight)),
            input_bias: bytemuck::must_cast_slice(weights.get(Section::InputBias)),
            recurrent_weight: bytemuck::must_cast_slice(weights.get(Section::RecurrentWeight)),
            alpha: bytemuck::must_cast_slice(weights.get(Section::Alpha)),
            eta: bytemuck::must_cast_slice(weights.get(Section::Eta)),
            hebbian_eta: bytemuck::must_cast_slice(weights.get(Section::HebbianEta)),
            mask: weights.get(Section::Mask),
            modulator_weight: bytemuck::must_cast_slice(weights.get(Section::ModulatorWeight)),
            modulator_bias: bytemuck::must_cast_slice(weights.get(Section::ModulatorBias)),
            fan_out: bytemuck::must_cast_slice(weights.get(Section::FanOutWeight)),
            fan_out_bias: bytemuck::must_cast_slice(weights.get(Section::FanOutBias)),
            policy_weight: bytemuck::must_cast_slice(weights.get(Section::PolicyWeight)),
            policy_bias: bytemuck::must_cast_slice(weights.get(Section::PolicyBias)),
            value_weight: bytemuck::must_cast_slice(weights.get(Section::ValueWeight)),
            value_bias: bytemuck::must_cast_slice(weights.get(Section::ValueBias)),
            metadata: bytemuck::must_cast_slice(weights.get(Section::Metadata)),
            header,
        })
    }

    /// Checks an image given as bytes, for instance read from a file or a second flash slot.
    ///
    /// # Errors
    /// As [`Network::new`]; the bytes must begin at a multiple of four.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, LoadError> {
        match bytemuck::try_cast_slice(bytes) {
            Ok(words) => Self::new(words),
            Err(bytemuck::PodCastError::TargetAlignmentGreaterAndInputNotAligned) => Err(LoadError::Misaligned),
            Err(_) => Err(LoadError::Length {
                expected: (bytes.len() as u32).next_multiple_of(4),
                found: bytes.len() as u32,
            }),
        }
    }

    /// The network of an image that is part of the program: an image with an error stops the build.
    ///
    /// # Panics
    /// While compiling, with the name of the first problem. Use [`Network::new`] at run time.
    pub const fn embed(words: &'a [u32]) -> Self {
        match Self::new(words) {
            Ok(network) => network,
            Err(LoadError::NotAnImage { .. }) => panic!("not a .bpam image"),
            Err(LoadError::Version { .. }) => panic!("the image has another format version: export it again"),
            Err(LoadError::Length { .. }) => panic!("the image is truncated or too long: export it again"),
            Err(LoadError::Checksum { .. }) => panic!("the image is damaged (checksum): export it again"),
            Err(LoadError::Numeric { .. }) => {
                panic!("the image has another arithmetic than embed! asks for: export it with the right --numeric")
            }
            Err(_) => panic!("the image has a field or number that this version does not accept: export it again"),
        }
    }

    /// What the image says about itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The image's metadata text: `key = "value"` lines (TOML), such as the task; empty if there is none or it is not UTF-8.
    pub fn metadata(&self) -> &'a str {
        let text = self.metadata.get(..self.header.metadata_bytes).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }

    /// Words of [`Memory`] that one agent needs.
    pub const fn memory_words(&self) -> usize {
        self.header.memory_words(size_of::<S>(), size_of::<S::Output>())
    }

    fn columns(&self, count: usize) -> usize {
        self.header.numeric.stride(count)
    }

    /// The rates of row `post`.
    fn rates(&self, values: &'a [S::Rate], granularity: Granularity, post: usize) -> Coefficient<'a, S::Rate> {
        Coefficients { values, granularity }.row(post, self.columns(self.header.hidden))
    }

    /// What every `M_j` is made of.
    fn modulation<'m>(&self, m: &'m [S::Output]) -> Modulation<'m, S> {
        if self.header.fan_out || self.header.fan_out_bias {
            Modulation::PerNeuron(m)
        } else {
            Modulation::Shared(S::modulation(m, None, None, &self.header))
        }
    }

    /// Whether the same is done to all neurons.
    fn is_uniform(&self, modulation: Modulation<'_, S>) -> bool {
        matches!(modulation, Modulation::Shared(_))
            && matches!(self.header.eta, Granularity::Absent | Granularity::Single)
            && matches!(self.header.hebbian_eta, Granularity::Absent)
    }

    /// `M_j`, as the factor of an increment.
    fn modulator(&self, modulation: Modulation<'_, S>, post: usize) -> S::Gain {
        let m = match modulation {
            Modulation::Shared(gain) => return gain,
            Modulation::PerNeuron(m) => m,
        };
        let fan_out = self
            .header
            .fan_out
            .then(|| kernel::row(self.fan_out, self.columns(self.header.modulators), post));
        S::modulation(m, fan_out, self.fan_out_bias.get(post), &self.header)
    }

    /// Hands over, in order, what a step leaves to be done to the traces of neuron `post`.
    #[inline(always)]
    fn each_increment(&self, modulation: Modulation<'_, S>, post: usize, mut learn: impl FnMut(Increment<'a, S>)) {
        let header = &self.header;
        // A Hebbian neuron of a partly modulated network has an eligibility too, and no modulator to write it.
        if header.rule.has_eligibility() && !matches!(header.hebbian_eta, Granularity::Absent) && !self.is_modulated(post) {
            learn(self.retroactive(S::Gain::zeroed(), post));
        }
        learn(self.increment(modulation, post));
    }

    fn is_modulated(&self, post: usize) -> bool {
        self.mask.get(post) != Some(&0)
    }

    fn retroactive(&self, modulator: S::Gain, post: usize) -> Increment<'a, S> {
        let eta = self.rates(self.eta, self.header.eta, post);
        Increment::Retroactive { modulator, eta }
    }

    /// The last of them: the change of H, and of E where it is Retroactive.
    #[inline(always)]
    fn increment(&self, modulation: Modulation<'_, S>, post: usize) -> Increment<'a, S> {
        let header = &self.header;
        let hebbian = |eta, granularity| match self.rates(eta, granularity, post) {
            Coefficient::Uniform(eta) => Increment::Rate(S::rate(eta)),
            Coefficient::Row(eta) => Increment::Rates(eta),
        };
        match header.rule {
            Rule::NonPlastic => Increment::None,
            Rule::Hebbian => hebbian(self.eta, header.eta),
            _ if !self.is_modulated(post) => hebbian(self.hebbian_eta, header.hebbian_eta),
            Rule::Modulated => Increment::Rate(self.modulator(modulation, post)),
            Rule::Retroactive => self.retroactive(self.modulator(modulation, post), post),
        }
    }
}

/// The modulation of a step: the same for all neurons, unless they have fan-out weights or biases.
#[derive(Clone, Copy)]
enum Modulation<'m, S: Kernel> {
    /// `M`, as the factor of an increment.
    Shared(S::Gain),
    /// m(t), of which each neuron makes its own.
    PerNeuron(&'m [S::Output]),
}

/// The sections of an image whose length has been checked.
struct Sections<'a, 'h> {
    words: &'a [u32],
    header: &'h Header,
}

impl<'a> Sections<'a, '_> {
    const fn get(&self, section: Section) -> &'a [u32] {
        self.header.section(self.words, section)
    }
}

/// What one lifetime learns: the memory of one agent, exactly as large as its image needs. Put it in a `static`.
///
/// Words are 64 bits wide so that every arithmetic can view them in place. [`embed!`](crate::embed) names the right size.
#[derive(Clone, Debug)]
#[repr(transparent)]
pub struct Memory<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Memory<WORDS> {
    /// Memory that has not learned anything.
    pub const fn new() -> Self {
        Self([0; WORDS])
    }

    /// The words, for [`Agent::new`].
    pub const fn words(&mut self) -> &mut [u64] {
        &mut self.0
    }
}

impl<const WORDS: usize> Default for Memory<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory is not as large as the network needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MemoryError {
    /// Words needed.
    pub expected: usize,
    /// Words given.
    pub found: usize,
}

impl core::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "memory: expected {} words of 64 bits, found {}; size it with `Network::memory_words`",
            self.expected, self.found
        )
    }
}

impl core::error::Error for MemoryError {}

/// The input is not as long as the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InputError {
    /// Inputs expected.
    pub expected: usize,
    /// Inputs given.
    pub found: usize,
}

impl core::fmt::Display for InputError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "input: expected {} numbers, found {}; give one number per input of the image",
            self.expected, self.found
        )
    }
}

impl core::error::Error for InputError {}

impl Header {
    /// Words of memory of an agent whose activities and traces have `scalar` bytes and whose outputs have `output` bytes.
    pub const fn memory_words(&self, scalar: usize, output: usize) -> usize {
        let columns = self.numeric.stride(self.hidden);
        let trace = columns * self.hidden * scalar;
        3 * (columns * scalar).div_ceil(8)
            + (self.numeric.stride(self.inputs) * scalar).div_ceil(8)
            + (self.modulators * output).div_ceil(8)
            + (self.outputs * output).div_ceil(8)
            + if self.rule.is_plastic() { trace.div_ceil(8) } else { 0 }
            + if self.rule.has_eligibility() { trace.div_ceil(8) } else { 0 }
    }

    /// Bytes of what a snapshot keeps of that memory: activity, m, logits and traces.
    pub(crate) const fn life_bytes(&self, scalar: usize, output: usize) -> usize {
        let columns = self.numeric.stride(self.hidden);
        let traces = self.rule.is_plastic() as usize + self.rule.has_eligibility() as usize;
        columns * scalar * (1 + traces * self.hidden) + (self.modulators + self.outputs) * output
    }
}

/// One lifetime's state, carved out of a memory.
struct State<'m, S: Scalar> {
    /// h(t), the activity after the last step.
    latest: &'m mut [S],
    /// h(t-1).
    before: &'m mut [S],
    /// Room for h(t+1).
    next: &'m mut [S],
    /// u(t), the inputs of the last step, a whole number of lanes.
    input: &'m mut [S],
    m: &'m mut [S::Output],
    logits: &'m mut [S::Output],
    hebb: &'m mut [S],
    eligibility: &'m mut [S],
    /// Whether the last step's change of the traces is still to be carried out.
    pending: bool,
    /// Whether steps leave the traces as they are.
    frozen: bool,
    saturated: u32,
}

impl<'m, S: Scalar> State<'m, S> {
    fn carve(network: &Network<'_, S>, memory: &'m mut [u64]) -> Result<Self, MemoryError> {
        let header = &network.header;
        let error = MemoryError {
            expected: network.memory_words(),
            found: memory.len(),
        };
        if memory.len() != error.expected {
            return Err(error);
        }
        let columns = network.columns(header.hidden);
        let trace = columns * header.hidden;
        let mut rest = memory;
        let mut state = Self {
            latest: take(&mut rest, columns).ok_or(error)?,
            before: take(&mut rest, columns).ok_or(error)?,
            next: take(&mut rest, columns).ok_or(error)?,
            input: take(&mut rest, network.columns(header.inputs)).ok_or(error)?,
            m: take(&mut rest, header.modulators).ok_or(error)?,
            logits: take(&mut rest, header.outputs).ok_or(error)?,
            hebb: take(&mut rest, if header.rule.is_plastic() { trace } else { 0 }).ok_or(error)?,
            eligibility: take(&mut rest, if header.rule.has_eligibility() { trace } else { 0 }).ok_or(error)?,
            pending: false,
            frozen: false,
            saturated: 0,
        };
        state.reset();
        Ok(state)
    }

    fn reset(&mut self) {
        self.reset_activity();
        self.reset_learning();
        self.saturated = 0;
    }

    fn reset_activity(&mut self) {
        for activity in [&mut *self.latest, self.before, self.next] {
            activity.fill(S::zeroed());
        }
        self.input.fill(S::zeroed());
        self.m.fill(S::Output::zeroed());
        self.logits.fill(S::Output::zeroed());
    }

    fn reset_learning(&mut self) {
        self.hebb.fill(S::zeroed());
        self.eligibility.fill(S::zeroed());
        self.pending = false;
    }

    /// Carries out the pending change of the traces.
    fn flush<N: Source<Scalar = S>>(&mut self, source: N) {
        if !self.pending {
            return;
        }
        self.pending = false;
        let network = source.network();
        let header = &network.header;
        let modulation = network.modulation(self.m);
        let mut traces = Traces {
            hebb: self.hebb,
            eligibility: self.eligibility,
        };
        let post = self.latest.get(..header.hidden).unwrap_or_default();
        if network.is_uniform(modulation) {
            return kernel::learn(traces, network.increment(modulation, 0), post, self.before, header);
        }
        for (index, post) in post.chunks_exact(1).enumerate() {
            let (hebb, eligibility) = traces.next_row(self.before.len());
            network.each_increment(modulation, index, |increment| {
                kernel::learn(Traces { hebb, eligibility }, increment, post, self.before, header);
            });
        }
    }

    fn step<N: Source<Scalar = S>>(&mut self, source: N) {
        self.advance(source);
        let network = source.network();
        let header = &network.header;
        heads(
            self.m,
            network.modulator_weight,
            network.modulator_bias,
            self.latest,
            header,
            header.formats.modulator,
            |acc| S::squash(acc, header.squash),
        );
        heads(
            self.logits,
            network.policy_weight,
            network.policy_bias,
            self.latest,
            header,
            header.formats.policy,
            S::output,
        );
    }

    /// The recurrence: the traces as the last step leaves them, and the new activity.
    fn advance<N: Source<Scalar = S>>(&mut self, source: N) {
        self.flush(source);
        let network = source.network();
        let header = &network.header;
        let alpha = Coefficients {
            values: network.alpha,
            granularity: header.alpha,
        };
        let layer = Layer {
            input: self.input,
            input_weight: network.input_weight,
            bias: network.input_bias,
            h: self.latest,
            weight: network.recurrent_weight,
            plastic: header.rule.is_plastic().then_some((alpha, &*self.hebb)),
            formats: &header.formats,
        };
        kernel::act(&layer, self.next.get_mut(..header.hidden).unwrap_or_default());
        core::mem::swap(&mut self.before, &mut self.latest);
        core::mem::swap(&mut self.latest, &mut self.next);
        self.pending = header.rule.is_plastic() && !self.frozen;
    }

    /// Converts inputs from real units, saturating and counting.
    fn load_input(&mut self, x: &[f32], header: &Header) {
        for (input, x) in self.input.iter_mut().zip(x) {
            let (value, clamped) = S::from_input(*x, header);
            *input = value;
            self.saturated = self.saturated.saturating_add(clamped.into());
        }
    }

    fn value(&self, network: &Network<'_, S>) -> Option<S::Output> {
        let header = &network.header;
        let acc = S::start(Some(network.value_bias.first()?));
        Some(S::output(kernel::dot(acc, network.value_weight, self.latest, header.formats.value)))
    }

    /// The traces of one connection, the pending change included.
    fn trace(&self, network: &Network<'_, S>, post: usize, pre: usize) -> Option<(S, Option<S>)> {
        let hidden = network.header.hidden;
        if post >= hidden || pre >= hidden {
            return None;
        }
        let index = post * network.columns(hidden) + pre;
        let mut hebb = [*self.hebb.get(index)?];
        let mut eligibility = [self.eligibility.get(index).copied().unwrap_or(S::zeroed())];
        if self.pending {
            let before = self.before.get(pre..=pre)?;
            let activity = self.latest.get(post..=post)?;
            network.each_increment(network.modulation(self.m), post, |increment| {
                let traces = Traces {
                    hebb: &mut hebb,
                    eligibility: &mut eligibility,
                };
                kernel::learn(traces, increment.column(pre), activity, before, &network.header);
            });
        }
        let [hebb] = hebb;
        let [eligibility] = eligibility;
        Some((hebb, (!self.eligibility.is_empty()).then_some(eligibility)))
    }
}

/// Every output `f(W h + b)` of a head.
fn heads<S: Scalar>(
    outputs: &mut [S::Output],
    weight: &[S::Weight],
    bias: &[S::Bias],
    h: &[S],
    header: &Header,
    format: u16,
    f: impl Fn(S::Accumulator) -> S::Output,
) {
    let columns = header.numeric.stride(header.hidden);
    for (index, (output, bias)) in outputs.iter_mut().zip(bias).enumerate() {
        *output = f(kernel::dot(S::start(Some(bias)), kernel::row(weight, columns, index), h, format));
    }
}

/// Takes `count` elements off the front of the words.
fn take<'m, T: bytemuck::Pod>(words: &mut &'m mut [u64], count: usize) -> Option<&'m mut [T]> {
    let size = (count * size_of::<T>()).div_ceil(8);
    let (front, rest) = core::mem::take(words).split_at_mut_checked(size)?;
    *words = rest;
    bytemuck::must_cast_slice_mut(front).get_mut(..count)
}

/// Where an agent finds its network: behind a reference, or in a type.
pub trait Source: Copy {
    /// The arithmetic.
    type Scalar: Scalar;
    /// The network.
    fn network(&self) -> &Network<'_, Self::Scalar>;
}

impl<'n, S: Scalar> Source for &'n Network<'n, S> {
    type Scalar = S;

    fn network(&self) -> &Network<'_, S> {
        self
    }
}

/// An image as a type: what [`embed!`](crate::embed) implements.
pub trait Model {
    /// The arithmetic.
    type Scalar: Scalar;
    /// The network, a constant, so that the compiler can drop the code of all other rules.
    const NETWORK: Network<'static, Self::Scalar>;
}

/// The source that is a type.
pub struct Constant<M>(core::marker::PhantomData<M>);

impl<M> Clone for Constant<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Constant<M> {}

impl<M: Model> Source for Constant<M> {
    type Scalar = M::Scalar;

    fn network(&self) -> &Network<'_, M::Scalar> {
        const { &M::NETWORK }
    }
}

type OutputOf<N> = <<N as Source>::Scalar as Kernel>::Output;
type RealOf<N> = <<N as Source>::Scalar as Scalar>::Real;

/// A network with a lifetime of its own, for any image that is known only at run time.
///
/// ```
/// # fn run(words: &[u32]) -> Result<(), Box<dyn core::error::Error>> {
/// use backpropamine::network::{Agent, Network};
/// let network = Network::<f32>::new(words)?;
/// let mut memory = vec![0; network.memory_words()];
/// let mut agent = Agent::new(&network, &mut memory)?;
/// let logits = agent.step(&vec![0.0; network.header().inputs])?;
/// # Ok(()) }
/// ```
pub type Agent<'n, 'm, S> = Living<'m, &'n Network<'n, S>>;

/// A network and its memory, alive: what both doors open to.
pub struct Living<'m, N: Source> {
    source: N,
    state: State<'m, N::Scalar>,
}

impl<'m, N: Source> Living<'m, N> {
    /// An agent at the start of its life, in memory of exactly [`Network::memory_words`] words.
    ///
    /// # Errors
    /// [`MemoryError`] if the memory has another size.
    pub fn new(source: N, memory: &'m mut [u64]) -> Result<Self, MemoryError> {
        let state = State::carve(source.network(), memory)?;
        Ok(Self { source, state })
    }

    /// One step of life with inputs as the network stores them: for q15 and q7, fractions of the image's input scale.
    /// Returns the policy logits; the traces learn.
    ///
    /// # Errors
    /// [`InputError`] if `x` is not as long as the image's inputs; nothing has changed then.
    pub fn step(&mut self, x: &[N::Scalar]) -> Result<&[OutputOf<N>], InputError> {
        self.check(x.len())?;
        self.state.input.iter_mut().zip(x).for_each(|(input, x)| *input = *x);
        self.state.step(self.source);
        Ok(self.state.logits)
    }

    /// One step of life with inputs in real units. What lies outside the input range, or is not a number, is clamped and counted.
    ///
    /// # Errors
    /// As [`Living::step`].
    pub fn step_real(&mut self, x: &[f32]) -> Result<&[OutputOf<N>], InputError> {
        self.check(x.len())?;
        self.state.load_input(x, &self.source.network().header);
        self.state.step(self.source);
        Ok(self.state.logits)
    }

    fn check(&self, found: usize) -> Result<(), InputError> {
        let expected = self.network().header.inputs;
        if found == expected {
            Ok(())
        } else {
            Err(InputError { expected, found })
        }
    }

    /// The network.
    pub fn network(&self) -> &Network<'_, N::Scalar> {
        self.source.network()
    }

    /// Holds the traces as they are now, the change of the last step included, until [`Living::thaw`]: the network goes on
    /// acting and learns nothing. Neither a reset nor a snapshot changes or keeps this switch.
    pub fn freeze(&mut self) {
        self.state.flush(self.source);
        self.state.frozen = true;
    }

    /// Learning goes on with the next step; what was lived while frozen leaves no change.
    pub fn thaw(&mut self) {
        self.state.frozen = false;
    }

    /// Whether the traces are held.
    pub fn is_frozen(&self) -> bool {
        self.state.frozen
    }

    /// Back to birth: activity and everything learned are forgotten.
    pub fn reset(&mut self) {
        self.state.reset();
    }

    /// Forgets the activity `h` and keeps what was learned.
    pub fn reset_activity(&mut self) {
        self.state.flush(self.source);
        self.state.reset_activity();
    }

    /// Forgets what was learned (`H`, `E`) and keeps the activity.
    pub fn reset_learning(&mut self) {
        self.state.reset_learning();
    }

    /// h(t), one number per hidden neuron.
    pub fn hidden(&self) -> &[N::Scalar] {
        self.state.latest.get(..self.network().header.hidden).unwrap_or_default()
    }

    /// m(t), before fan-out; empty without modulation.
    pub fn modulator(&self) -> &[OutputOf<N>] {
        self.state.m
    }

    /// The policy logits of the last step.
    pub fn policy(&self) -> &[OutputOf<N>] {
        self.state.logits
    }

    /// V(t), computed when asked for; `None` if the image has no value head.
    pub fn value(&self) -> Option<OutputOf<N>> {
        self.state.value(self.network())
    }

    /// The Hebbian trace of one connection, in real units; `None` without plasticity or outside the matrix.
    pub fn hebb(&self, post: usize, pre: usize) -> Option<RealOf<N>> {
        let (hebb, _) = self.state.trace(self.network(), post, pre)?;
        Some(hebb.trace_to_real(&self.network().header))
    }

    /// The eligibility trace of one connection; `None` if the rule has none or outside the matrix.
    pub fn eligibility(&self, post: usize, pre: usize) -> Option<RealOf<N>> {
        let (_, eligibility) = self.state.trace(self.network(), post, pre)?;
        eligibility.map(Scalar::to_real)
    }

    /// How many inputs in real units have been clamped since birth.
    pub fn saturated_inputs(&self) -> u32 {
        self.state.saturated
    }

    /// Visits what a snapshot keeps, as bytes to be read or replaced, with the pending change carried out.
    pub(crate) fn visit_life<E>(&mut self, mut visit: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
        self.state.flush(self.source);
        let state = &mut self.state;
        visit(bytemuck::must_cast_slice_mut(state.latest))?;
        visit(bytemuck::must_cast_slice_mut(state.m))?;
        visit(bytemuck::must_cast_slice_mut(state.logits))?;
        visit(bytemuck::must_cast_slice_mut(state.hebb))?;
        visit(bytemuck::must_cast_slice_mut(state.eligibility))
    }

    pub(crate) fn set_saturated_inputs(&mut self, count: u32) {
        self.state.saturated = count;
    }

    /// Replaces every Hebbian trace by what `change` makes of it, row by row, with the pending change carried out: for
    /// experiments with lesions, noise or coarser storage.
    ///
    /// ```
    /// # use backpropamine::embed;
    /// embed!(pub tiny: f32 = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/tiny.bpam"));
    /// let mut memory = tiny::Memory::new();
    /// let mut agent = tiny::Agent::new(&mut memory);
    /// agent.step(&[0.5; tiny::INPUTS]);
    /// agent.map_hebb(|_| 0.25);
    /// assert_eq!(agent.hebb(0, 1), Some(0.25));
    /// ```
    pub fn map_hebb(&mut self, mut change: impl FnMut(N::Scalar) -> N::Scalar) {
        self.state.flush(self.source);
        let header = &self.source.network().header;
        let columns = header.numeric.stride(header.hidden);
        for row in self.state.hebb.chunks_exact_mut(columns.max(1)) {
            let traces = row.iter_mut().take(header.hidden);
            traces.for_each(|trace| *trace = change(*trace));
        }
    }

    /// Shows every Hebbian trace and then every eligibility trace, row by row, with the pending change carried out.
    pub fn for_each_trace(&mut self, mut visit: impl FnMut(N::Scalar)) {
        self.state.flush(self.source);
        let header = &self.source.network().header;
        let columns = header.numeric.stride(header.hidden);
        for matrix in [&*self.state.hebb, self.state.eligibility] {
            for row in 0..header.hidden {
                kernel::row(matrix, columns, row)
                    .iter()
                    .take(header.hidden)
                    .for_each(|trace| visit(*trace));
            }
        }
    }
}

/// An agent of an embedded image with `I` inputs and `A` logits: nothing it does can fail.
/// Everything but its step is that of [`Living`].
pub struct Embedded<'m, M: Model, const I: usize, const A: usize>(Living<'m, Constant<M>>);

impl<'m, M: Model, const I: usize, const A: usize> Embedded<'m, M, I, A> {
    const SIZES: () = assert!(I == M::NETWORK.header().inputs && A == M::NETWORK.header().outputs);

    /// An agent at the start of its life. A memory of another size does not compile.
    pub fn new<const WORDS: usize>(memory: &'m mut Memory<WORDS>) -> Self {
        const { assert!(WORDS == M::NETWORK.memory_words(), "this memory belongs to another image") };
        const { Self::SIZES };
        let source = Constant(core::marker::PhantomData);
        let state = State::carve(source.network(), memory.words()).unwrap_or_else(|_| State::nowhere());
        Self(Living { source, state })
    }

    /// One step of life; see [`Living::step`].
    pub fn step(&mut self, x: &[M::Scalar; I]) -> [<M::Scalar as Kernel>::Output; A] {
        logits(self.0.step(x))
    }

    /// One step of life with inputs in real units; see [`Living::step_real`].
    pub fn step_real(&mut self, x: &[f32; I]) -> [<M::Scalar as Kernel>::Output; A] {
        logits(self.0.step_real(x))
    }
}

/// The logits of a step whose sizes were checked when the program was built.
fn logits<O: bytemuck::Pod, const A: usize>(step: Result<&[O], InputError>) -> [O; A] {
    step.ok()
        .and_then(|logits| logits.first_chunk())
        .copied()
        .unwrap_or([O::zeroed(); A])
}

impl<'m, M: Model, const I: usize, const A: usize> core::ops::Deref for Embedded<'m, M, I, A> {
    type Target = Living<'m, Constant<M>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<M: Model, const I: usize, const A: usize> core::ops::DerefMut for Embedded<'_, M, I, A> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<S: Scalar> State<'_, S> {
    /// No state at all: what the compiler removes from a door whose sizes were checked when the program was built.
    fn nowhere() -> Self {
        Self {
            latest: &mut [],
            before: &mut [],
            next: &mut [],
            input: &mut [],
            m: &mut [],
            logits: &mut [],
            hebb: &mut [],
            eligibility: &mut [],
            pending: false,
            frozen: false,
            saturated: 0,
        }
    }
}

/// Turns an image into a module with a type of its own, when the program is built.
///
/// `embed!(pub cue: Q15 = "cue.bpam")` makes `mod cue` with `NETWORK`, `INPUTS`, `OUTPUTS`, `Memory`, `Agent<'m>` and `Source`.
/// The path is relative to the file it stands in, as for `include_bytes!`. An image with an error stops the build.
///
/// ```
/// # use backpropamine::embed;
/// embed!(pub tiny: f32 = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/tiny.bpam"));
/// let mut memory = tiny::Memory::new(); // exactly what this image needs
/// let mut agent = tiny::Agent::new(&mut memory);
/// let logits = agent.step(&[0.0; tiny::INPUTS]);
/// assert_eq!(logits.len(), tiny::OUTPUTS);
/// ```
#[macro_export]
macro_rules! embed {
    ($visibility:vis $name:ident : $scalar:ident = $path:expr) => {
        /// An embedded network.
        $visibility mod $name {
            static WORDS: [u32; include_bytes!($path).len() / 4] = $crate::image::words_of(include_bytes!($path));

            /// The image's arithmetic.
            pub type Scalar = $crate::scalar::$scalar;
            /// What was meta-learned.
            pub const NETWORK: $crate::network::Network<'static, Scalar> = $crate::network::Network::embed(&WORDS);
            /// Number of inputs.
            pub const INPUTS: usize = NETWORK.header().inputs;
            /// Number of policy logits.
            pub const OUTPUTS: usize = NETWORK.header().outputs;
            /// Exactly the memory that an agent needs.
            pub type Memory = $crate::network::Memory<{ NETWORK.memory_words() }>;
            /// An agent of this image.
            pub type Agent<'m> = $crate::network::Embedded<'m, Model, INPUTS, OUTPUTS>;

            /// Where [`Agent`] finds its network.
            pub type Source = $crate::network::Constant<Model>;

            /// The image as a type.
            pub struct Model;

            impl $crate::network::Model for Model {
                type Scalar = Scalar;
                const NETWORK: $crate::network::Network<'static, Scalar> = NETWORK;
            }
        }
    };
}
