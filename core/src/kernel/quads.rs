//! q15 on processors without instructions on pairs of 16-bit numbers: four neurons at a time, by functions in assembly that add the
//! products of four rows. The bits are those of the portable twin in [`super`].
#![allow(unsafe_code, reason = "calls of functions in assembly, for rows whose lengths are checked here")]

use super::fixed::scale;
use super::operands::Operands;
use super::{Kernel, Layer, assembly};
use crate::scalar::Q15;
use core::array;
use core::ptr::null;

/// Neurons of a quad.
const QUAD: usize = 4;

/// The activities of all neurons: [`super::act`]. `None`, and nothing has changed, if it is left to the twin: fewer neurons than
/// four, one alpha for more than one connection, and rows that are not whole words.
pub fn act(layer: &Layer<'_, Q15>, next: &mut [Q15]) -> Option<()> {
    let last = next.len().checked_sub(QUAD)?;
    let operands = Operands::new(layer, next, scale).filter(|operands| operands.input_words > 0 && operands.words > 0)?;
    for first in (0..next.len()).step_by(QUAD) {
        // The last quad is filled up with neurons that are computed already.
        let first = first.min(last);
        // SAFETY: the operands are complete, and these are four of their neurons.
        let sums = unsafe { sums(&operands, first, layer.plastic.is_some()) };
        for (next, sum) in next.iter_mut().skip(first).zip(sums) {
            *next = Q15::activity(sum);
        }
    }
    Some(())
}

/// What a quad's activities are computed from.
///
/// # Safety
/// The operands are complete, also those of a plastic layer where it is `plastic`, and there are four neurons from `first` on.
#[inline(always)]
unsafe fn sums(of: &Operands<Q15, i32>, first: usize, plastic: bool) -> [i64; QUAD] {
    // In numbers: there are two in a word, of two bytes each.
    let (inputs, columns) = (2 * of.input_words, 2 * of.words);
    let at = first * columns;
    // SAFETY: these are rows of matrices, and as long as what they are multiplied with.
    unsafe {
        let mut sums = array::from_fn(|index| Q15::start(Some(&*of.bias.add(first + index))));
        let input_weight = of.input_weight.add(first * inputs);
        assembly::dot_rows(input_weight, null(), null(), of.input, 2 * inputs, of.input_scale, &mut sums);
        let weight = of.weight.add(at);
        if plastic {
            let (alpha, hebb) = (of.alpha.add(at), of.hebb.add(at));
            assembly::plastic_rows(weight, alpha, hebb, of.h, 2 * columns, of.scale, &mut sums);
        } else {
            assembly::dot_rows(weight, null(), null(), of.h, 2 * columns, of.scale, &mut sums);
        }
        sums
    }
}
