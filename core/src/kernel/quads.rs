//! q15 on processors without instructions on pairs of 16-bit numbers: four neurons at a time, by functions in assembly that add the
//! products of four rows. The bits are those of the portable twin in [`super`].
#![allow(unsafe_code, reason = "calls of functions in assembly, for rows whose lengths are checked here")]

use super::fixed::{assembly, scale};
use super::operands::Operands;
use super::{Kernel, Layer};
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
unsafe fn sums(operands: &Operands<Q15, i32>, first: usize, plastic: bool) -> [i64; QUAD] {
    let o = operands;
    let (inputs, numbers) = (first * 2 * o.input_words, first * 2 * o.words);
    // SAFETY: all pointers stay within their matrices, whose rows are as long as x.
    unsafe {
        let mut sums = array::from_fn(|index| Q15::start(Some(&*o.bias.add(first + index))));
        assembly::dot_rows(
            o.input_weight.add(inputs),
            null(),
            null(),
            o.input,
            4 * o.input_words,
            o.input_scale,
            &mut sums,
        );
        let (weight, alpha, hebb) = (o.weight.add(numbers), o.alpha.wrapping_add(numbers), o.hebb.wrapping_add(numbers));
        if plastic {
            assembly::plastic_rows(weight, alpha, hebb, o.h, 4 * o.words, o.scale, &mut sums);
        } else {
            assembly::dot_rows(weight, null(), null(), o.h, 4 * o.words, o.scale, &mut sums);
        }
        sums
    }
}
