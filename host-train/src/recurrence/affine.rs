//! The layers around the recurrence: input and heads.

use rayon::prelude::*;

use super::kernel::{LANES, Lanes, Path, flat, flat_mut};
use super::real::Real;
use super::sweep::{Combine, Dots, Outer, blocks};
use super::weights::{padded, unpadded};

/// Rows that one job takes. Fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 256;

/// `y = W x + b`, either over vectors of outputs (many of them: the input layer), so that inputs that are 0 cost nothing,
/// or over vectors of inputs (few outputs: the heads). Sums over the inputs ascend.
#[derive(Clone, Debug)]
pub struct Affine<F> {
    path: Path,
    inputs: usize,
    outputs: usize,
    /// Whether `weight` is `[I][blocks of O]` rather than `[O][blocks of I]`.
    transposed: bool,
    weight: Vec<Lanes<F>>,
    bias: Vec<F>,
    /// What the weights, or their sums, are multiplied with: if transposed the derivatives by `y`, else `x`; padded.
    vector: Vec<Lanes<F>>,
    /// `y`, or the derivatives by `x`, padded.
    result: Vec<Lanes<F>>,
}

/// The derivatives of a loss by weight `[O, I]`, bias `[O]` and, if wanted, inputs `[R, I]` (else empty).
#[derive(Clone, Debug, PartialEq)]
pub struct AffineGradient<F> {
    /// By `W`.
    pub weight: Vec<F>,
    /// By `b`.
    pub bias: Vec<F>,
    /// By `x`.
    pub inputs: Vec<F>,
}

/// What one job adds to the gradient.
struct Sum<F> {
    weight: Vec<Lanes<F>>,
    bias: Vec<F>,
    inputs: Vec<F>,
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
            padded(&transpose(weight, inputs), outputs)
        } else {
            padded(weight, inputs)
        };
        Self {
            path,
            inputs,
            outputs,
            transposed,
            weight,
            bias: bias.to_vec(),
            vector: vec![Lanes::default(); blocks(if transposed { outputs } else { inputs })],
            result: vec![Lanes::default(); blocks(inputs.max(outputs))],
        }
    }

    /// `y`, `[O]`, from `x`, `[I]`.
    pub fn apply(&mut self, x: &[F]) -> &[F] {
        if self.transposed {
            flat_mut(&mut self.result)[..self.outputs].copy_from_slice(&self.bias);
            self.combine(x, self.outputs);
        } else {
            self.load(x);
            self.dots(self.outputs);
            for (sum, &bias) in flat_mut(&mut self.result).iter_mut().zip(&self.bias) {
                *sum += bias;
            }
        }
        &flat(&self.result)[..self.outputs]
    }

    /// `y`, `[R, O]`, from `x`, `[R, I]`, in parallel.
    pub fn apply_rows(&self, x: &[F]) -> Vec<F> {
        let mut y = vec![F::ZERO; x.len() / self.inputs * self.outputs];
        let jobs = x.par_chunks(ROWS * self.inputs).zip(y.par_chunks_mut(ROWS * self.outputs));
        jobs.for_each_init(
            || self.clone(),
            |layer, (x, y)| {
                for (x, y) in x.chunks_exact(layer.inputs).zip(y.chunks_exact_mut(layer.outputs)) {
                    y.copy_from_slice(layer.apply(x));
                }
            },
        );
        y
    }

    /// The gradient from the derivatives `by_y`, `[R, O]`, at the inputs `x`, `[R, I]`, in parallel.
    pub fn gradient(&self, x: &[F], by_y: &[F], by_inputs: bool) -> AffineGradient<F> {
        let jobs = x.par_chunks(ROWS * self.inputs).zip(by_y.par_chunks(ROWS * self.outputs));
        let sums: Vec<Sum<F>> = jobs
            .map_init(|| self.clone(), |layer, (x, by_y)| layer.gradient_of_job(x, by_y, by_inputs))
            .collect();
        let mut total = self.zero();
        for sum in sums {
            self.path.run(Combine {
                factors: &[F::ONE],
                vectors: &sum.weight,
                out: &mut total.weight,
            });
            add(&mut total.bias, &sum.bias);
            total.inputs.extend(sum.inputs);
        }
        let weight = if self.transposed {
            transpose(&unpadded(&total.weight, self.outputs), self.outputs)
        } else {
            unpadded(&total.weight, self.inputs)
        };
        AffineGradient {
            weight,
            bias: total.bias,
            inputs: total.inputs,
        }
    }

    fn gradient_of_job(&mut self, x: &[F], by_y: &[F], by_inputs: bool) -> Sum<F> {
        let mut sum = self.zero();
        for (x, by_y) in x.chunks_exact(self.inputs).zip(by_y.chunks_exact(self.outputs)) {
            let (factors, vector) = if self.transposed { (x, by_y) } else { (by_y, x) };
            self.load(vector);
            self.path.run(Outer {
                factors,
                vector: &self.vector,
                sums: &mut sum.weight,
            });
            add(&mut sum.bias, by_y);
            if by_inputs {
                sum.inputs.extend_from_slice(self.by_inputs(by_y));
            }
        }
        sum
    }

    /// The derivatives by `x`, `[I]`, from those by `y`, `[O]`, which are loaded where they are the vector.
    fn by_inputs(&mut self, by_y: &[F]) -> &[F] {
        if self.transposed {
            self.dots(self.inputs);
        } else {
            self.result.fill(Lanes::default());
            self.combine(by_y, self.inputs);
        }
        &flat(&self.result)[..self.inputs]
    }

    fn zero(&self) -> Sum<F> {
        Sum {
            weight: vec![Lanes::default(); self.weight.len()],
            bias: vec![F::ZERO; self.outputs],
            inputs: Vec::new(),
        }
    }

    /// `result[..length] += Σ_k factor_k · weight_k`
    fn combine(&mut self, factors: &[F], length: usize) {
        self.path.run(Combine {
            factors,
            vectors: &self.weight,
            out: &mut self.result[..blocks(length)],
        });
    }

    /// `result_k = weight_k · vector` for all `count` rows.
    fn dots(&mut self, count: usize) {
        self.path.run(Dots {
            matrix: &self.weight,
            vector: &self.vector,
            sums: &mut flat_mut(&mut self.result)[..count],
        });
    }

    /// Pads the vector.
    fn load(&mut self, vector: &[F]) {
        flat_mut(&mut self.vector)[..vector.len()].copy_from_slice(vector);
    }
}

fn add<F: Real>(sums: &mut [F], terms: &[F]) {
    for (sum, &term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// A matrix of rows of `width` with its rows as columns.
fn transpose<F: Real>(matrix: &[F], width: usize) -> Vec<F> {
    (0..width)
        .flat_map(|column| matrix.iter().skip(column).step_by(width).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::*;
    use crate::recurrence::Kernel;

    fn var(shape: (usize, usize), zeros: bool) -> Var {
        let number = |i: usize| if zeros && i % 3 == 1 { 0.0 } else { (i as f32 * 0.7).sin() };
        let values: Vec<f32> = (0..shape.0 * shape.1).map(number).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// y and the derivatives of `Σ y²` by x, W and b, by Candle.
    fn differentiated(x: &Var, weight: &Var, bias: &Var) -> [Vec<f32>; 4] {
        let y = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(bias).unwrap();
        let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let slope = |variable: &Var| numbers(store.get(variable).unwrap());
        [numbers(&y), slope(x), slope(weight), slope(bias)]
    }

    #[test]
    fn layers_agree_with_candle_forwards_and_back() {
        // Few and many outputs; fewer rows than a job takes, and more.
        for (rows, inputs, outputs) in [(5, 3, 4), (600, 27, 33), (300, 40, 2)] {
            let (x, weight, bias) = (var((rows, inputs), true), var((outputs, inputs), false), var((1, outputs), false));
            let theirs = differentiated(&x, &weight, &bias);
            for kernel in [Kernel::Portable, Kernel::Auto] {
                let layer = Affine::new(&numbers(&weight), &numbers(&bias), kernel.resolve().unwrap());
                let y = layer.apply_rows(&numbers(&x));
                let by_y: Vec<f32> = y.iter().map(|y| 2.0 * y).collect();
                let gradient = layer.gradient(&numbers(&x), &by_y, true);
                let ours = [y, gradient.inputs, gradient.weight, gradient.bias];
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert_eq!(ours.len(), theirs.len());
                    let largest = theirs.iter().fold(1.0f32, |largest, a| largest.max(a.abs()));
                    for (a, b) in ours.iter().zip(theirs) {
                        assert!((a - b).abs() < 1e-5 * largest, "{a} {b}");
                    }
                }
            }
        }
    }
}
