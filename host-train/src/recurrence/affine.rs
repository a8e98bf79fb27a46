//! The rollout's small products.

use super::kernel::{LANES, Lanes, Path, flat, flat_mut};
use super::real::Real;
use super::sweep::{Combine, Dots, blocks};
use super::weights::padded;

/// `y = W x + b`. With many outputs summed over the inputs in ascending order, where inputs that are 0 cost nothing;
/// with few, output by output.
#[derive(Clone, Debug)]
pub struct Affine<F> {
    path: Path,
    /// Whether `weight` is `[I][blocks of O]` rather than `[O][blocks of I]`.
    transposed: bool,
    weight: Vec<Lanes<F>>,
    bias: Vec<F>,
    /// `x`, padded.
    input: Vec<Lanes<F>>,
    output: Vec<Lanes<F>>,
}

impl<F: Real> Affine<F> {
    /// From `W`, `[O, I]`, and `b`, `[O]`.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(weight: &[F], bias: &[F], path: Path) -> Self {
        let outputs = bias.len();
        assert!(outputs > 0 && weight.len().is_multiple_of(outputs), "one row of weights per output");
        let inputs = weight.len() / outputs;
        let transposed = outputs >= LANES;
        let weight = if transposed {
            let columns: Vec<F> = (0..inputs)
                .flat_map(|i| (0..outputs).map(move |o| weight[o * inputs + i]))
                .collect();
            padded(&columns, outputs)
        } else {
            padded(weight, inputs)
        };
        Self {
            path,
            transposed,
            weight,
            bias: bias.to_vec(),
            input: vec![Lanes::default(); blocks(inputs)],
            output: vec![Lanes::default(); blocks(outputs)],
        }
    }

    /// `y`, `[O]`, from `x`, `[I]`.
    pub fn apply(&mut self, x: &[F]) -> &[F] {
        let outputs = self.bias.len();
        if self.transposed {
            flat_mut(&mut self.output)[..outputs].copy_from_slice(&self.bias);
            self.path.run(Combine {
                factors: x,
                vectors: &self.weight,
                out: &mut self.output,
            });
        } else {
            flat_mut(&mut self.input)[..x.len()].copy_from_slice(x);
            let sums = &mut flat_mut(&mut self.output)[..outputs];
            self.path.run(Dots {
                matrix: &self.weight,
                vector: &self.input,
                sums,
            });
            for (sum, &bias) in sums.iter_mut().zip(&self.bias) {
                *sum += bias;
            }
        }
        &flat(&self.output)[..outputs]
    }
}
