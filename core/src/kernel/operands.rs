//! What the functions in assembly compute the activities from, checked once per step.

use super::{Kernel, Layer};
use crate::rule::Granularity;
use bytemuck::Pod;

/// Where the neurons that are still to be computed find their rows: the functions move it on. They load most of it by `ldm`, so
/// the order of the fields is theirs.
///
/// Complete means: every row begins on a word and is as long as the fields say, every matrix has a row for each neuron, and there
/// is a bias and room for each activity, which begins on a word too. Those of alpha and H are only there in a plastic layer.
#[repr(C)]
pub struct Operands<S: Kernel, C> {
    pub input_weight: *const S::Weight,
    pub input: *const S,
    /// Words of a row of inputs.
    pub input_words: usize,
    pub bias: *const S::Bias,
    pub next: *mut S,
    pub neurons: usize,
    /// What aligns the products of the inputs with the accumulator.
    pub input_scale: C,
    pub weight: *const S::Weight,
    pub alpha: *const S::Weight,
    pub hebb: *const S,
    pub h: *const S,
    /// Words of a row of the recurrence.
    pub words: usize,
    /// What aligns its products with the accumulator.
    pub scale: C,
}

impl<S: Kernel, C> Operands<S, C> {
    /// Complete operands for one neuron or more. `None` where something is missing: an alpha of its own for every connection, or
    /// rows of whole words.
    pub fn new(layer: &Layer<'_, S>, next: &mut [S], scale: impl Fn(u16) -> C) -> Option<Self> {
        let neurons = next.len();
        let (input, h) = (layer.input, layer.h);
        let is_matrix = |matrix: &[S::Weight], x: &[S]| matrix.len() == neurons * x.len() && is_whole(matrix, x);
        let (alpha, hebb) = match layer.plastic {
            None => (&[][..], &[][..]),
            Some((alpha, hebb)) if matches!(alpha.granularity, Granularity::PerConnection) => (alpha.values, hebb),
            _ => return None,
        };
        let is_plastic = || is_matrix(alpha, h) && hebb.len() == alpha.len() && is_whole(hebb, h);
        let complete = neurons > 0
            && layer.bias.len() == neurons
            && next.as_ptr().cast::<u32>().is_aligned()
            && is_matrix(layer.input_weight, input)
            && is_matrix(layer.weight, h)
            && (layer.plastic.is_none() || is_plastic());
        complete.then(|| Self {
            input_weight: layer.input_weight.as_ptr(),
            input: input.as_ptr(),
            input_words: size_of_val(input) / 4,
            bias: layer.bias.as_ptr(),
            next: next.as_mut_ptr(),
            neurons,
            input_scale: scale(layer.formats.input),
            weight: layer.weight.as_ptr(),
            alpha: alpha.as_ptr(),
            hebb: hebb.as_ptr(),
            h: h.as_ptr(),
            words: size_of_val(h) / 4,
            scale: scale(layer.formats.recurrent),
        })
    }
}

/// Whether two rows are whole words.
#[inline(always)]
pub fn is_whole<A: Pod, B: Pod>(a: &[A], b: &[B]) -> bool {
    (size_of_val(a) | size_of_val(b)) % 4 == 0 && (a.as_ptr() as usize | b.as_ptr() as usize) % 4 == 0
}
