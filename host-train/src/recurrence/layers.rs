//! The layers around the recurrence: what drives it from the inputs, and the heads that read it.
//!
//! Both are `y = W x + b`. Their gradients are sums over all steps of all lifetimes, made lifetime by lifetime and added in their order.

use super::kernel::{Job, LANES, Lanes, Path, Vector, flat, flat_mut};
use super::real::Real;
use super::sweep::{Accumulate, Combine, Dots, Products, accumulate, blocks};
use super::weights::{padded, unpadded, unpaneled};

/// The input layer. Sums over the inputs ascend.
#[derive(Clone, Debug)]
pub struct Input<F> {
    path: Path,
    outputs: usize,
    /// Whether `weight` is `[I][blocks of O]` rather than `[O][blocks of I]`, which fewer outputs than fill a vector make better.
    transposed: bool,
    weight: Vec<Lanes<F>>,
    bias: Vec<Lanes<F>>,
    /// `x`, padded, unless transposed.
    x: Vec<Lanes<F>>,
    y: Vec<Lanes<F>>,
}

impl<F: Real> Input<F> {
    /// From `W`, `[O, I]`, and `b`, `[O]`.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(weight: &[F], bias: &[F], path: Path) -> Self {
        let (outputs, inputs) = shape(weight, bias);
        let transposed = outputs >= LANES;
        let weight = if transposed {
            padded(&transpose(weight, inputs), outputs)
        } else {
            padded(weight, inputs)
        };
        Self {
            path,
            outputs,
            transposed,
            weight,
            bias: padded(bias, outputs),
            x: vec![Lanes::default(); blocks(inputs)],
            y: vec![Lanes::default(); blocks(outputs)],
        }
    }

    /// `y`, `[O]`, from `x`, `[I]`.
    pub fn apply(&mut self, x: &[F]) -> &[F] {
        if self.transposed {
            self.path.run(Combine {
                initial: &self.bias,
                factors: x,
                vectors: &self.weight,
                out: &mut self.y,
            });
        } else {
            flat_mut(&mut self.x)[..x.len()].copy_from_slice(x);
            self.path.run(Dots {
                matrix: &self.weight,
                vector: &self.x,
                bias: &flat(&self.bias)[..self.outputs],
                sums: &mut flat_mut(&mut self.y)[..self.outputs],
            });
        }
        &flat(&self.y)[..self.outputs]
    }
}

/// Policy and value in one layer of few outputs; the value is the last of them.
#[derive(Clone, Debug)]
pub struct Heads<F> {
    path: Path,
    /// `[O][blocks of H]`
    weight: Vec<Lanes<F>>,
    bias: Vec<F>,
}

impl<F: Real> Heads<F> {
    /// From `W`, `[O, H]`, and `b`, `[O]`.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(weight: &[F], bias: &[F], path: Path) -> Self {
        let (_, inputs) = shape(weight, bias);
        Self {
            path,
            weight: padded(weight, inputs),
            bias: bias.to_vec(),
        }
    }

    /// Logits and value, `[O]`, from `h`.
    pub fn apply(&self, hidden: &[Lanes<F>], outputs: &mut [F]) {
        self.path.run(Dots {
            matrix: &self.weight,
            vector: hidden,
            bias: &self.bias,
            sums: outputs,
        });
    }

    /// The derivatives by `h(t)`, `[T][blocks of H]`, from those by the outputs, `[O]` at each step.
    pub fn by_hidden<'a>(&self, by_outputs: impl Fn(usize) -> &'a [F], by_hidden: &mut [Lanes<F>]) {
        self.path.run(ByHidden {
            heads: self,
            by_outputs,
            by_hidden,
        });
    }
}

/// [`Heads::by_hidden`]
struct ByHidden<'h, F, O> {
    heads: &'h Heads<F>,
    by_outputs: O,
    by_hidden: &'h mut [Lanes<F>],
}

impl<'a, F: Real, O: Fn(usize) -> &'a [F]> Job<F> for ByHidden<'_, F, O> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        let value = self.heads.bias.len() - 1;
        let columns = self.heads.weight.len() / self.heads.bias.len();
        for (t, out) in self.by_hidden.chunks_exact_mut(columns).enumerate() {
            let by_outputs = (self.by_outputs)(t);
            for (c, out) in out.iter_mut().enumerate() {
                let mut sum = V::splat(F::ZERO);
                for (k, &by_logit) in by_outputs[..value].iter().enumerate() {
                    sum = V::load(&self.heads.weight[k * columns + c]).mul_add(V::splat(by_logit), sum);
                }
                let by_value = V::load(&self.heads.weight[value * columns + c]).mul(V::splat(by_outputs[value]));
                sum.add(by_value).store(out);
            }
        }
    }
}

/// The derivatives of a loss by `W`, `[O, I]`, and `b`, `[O]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AffineGradient<F> {
    /// By `W`.
    pub weight: Vec<F>,
    /// By `b`.
    pub bias: Vec<F>,
}

/// Those of both layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerGradients<F> {
    /// The input layer.
    pub input: AffineGradient<F>,
    /// The heads.
    pub heads: AffineGradient<F>,
}

/// What the layers saw at one step of one lifetime, and the loss's derivatives by what they gave.
#[derive(Clone, Copy, Debug)]
pub struct LayerRow<'a, F> {
    /// `x`, `[I]`.
    pub x: &'a [F],
    /// By the drive, padded.
    pub by_drive: &'a [Lanes<F>],
    /// `h`, padded.
    pub hidden: &'a [Lanes<F>],
    /// By the heads' outputs, `[O]`.
    pub by_outputs: &'a [F],
}

/// What some rows add to the gradients of both layers.
#[derive(Clone, Debug)]
pub struct LayerSums<F> {
    /// Transposed, `[I][blocks of H]`, panel by panel.
    input: Vec<Lanes<F>>,
    input_bias: Vec<Lanes<F>>,
    /// `[O][blocks of H]`, panel by panel.
    heads: Vec<Lanes<F>>,
    heads_bias: Vec<F>,
}

impl<F: Real> LayerSums<F> {
    /// Over at least one row.
    pub fn of(path: Path, rows: &[LayerRow<F>]) -> Self {
        path.run(SumRows { rows })
    }

    /// Adds those of other rows.
    pub fn add(&mut self, path: Path, other: &Self) {
        let pairs = [
            (&mut self.input, &other.input),
            (&mut self.input_bias, &other.input_bias),
            (&mut self.heads, &other.heads),
        ];
        for (sums, term) in pairs {
            path.run(Accumulate { sums, term });
        }
        add(&mut self.heads_bias, &other.heads_bias);
    }

    /// In the parameters' shapes; the recurrence has `neurons`.
    pub fn finish(self, neurons: usize) -> LayerGradients<F> {
        LayerGradients {
            input: AffineGradient {
                weight: transpose(&unpaneled(&self.input, neurons), neurons),
                bias: unpadded(&self.input_bias, neurons),
            },
            heads: AffineGradient {
                weight: unpaneled(&self.heads, neurons),
                bias: self.heads_bias,
            },
        }
    }

    /// Zeros, in the shapes of such rows.
    fn new(like: &LayerRow<F>) -> Self {
        let vectors = |count: usize| vec![Lanes::default(); count * like.hidden.len()];
        Self {
            input: vectors(like.x.len()),
            input_bias: vectors(1),
            heads: vectors(like.by_outputs.len()),
            heads_bias: vec![F::ZERO; like.by_outputs.len()],
        }
    }
}

/// The sums over some rows.
struct SumRows<'a, 'r, F> {
    rows: &'a [LayerRow<'r, F>],
}

impl<F: Real> Job<F> for SumRows<'_, '_, F> {
    type Output = LayerSums<F>;

    #[inline(always)]
    fn run<V: Vector<F>>(self) -> LayerSums<F> {
        let rows = self.rows;
        let mut sum = LayerSums::new(&rows[0]);
        Products {
            steps: rows.len(),
            left: |r: usize| rows[r].x,
            right: |r: usize| rows[r].by_drive,
            columns: sum.input_bias.len(),
            sum: &mut sum.input,
        }
        .run::<V>();
        Products {
            steps: rows.len(),
            left: |r: usize| rows[r].by_outputs,
            right: |r: usize| rows[r].hidden,
            columns: sum.input_bias.len(),
            sum: &mut sum.heads,
        }
        .run::<V>();
        for row in rows {
            accumulate::<F, V>(&mut sum.input_bias, F::ONE, row.by_drive);
            add(&mut sum.heads_bias, row.by_outputs);
        }
        sum
    }
}

#[inline(always)]
fn add<F: Real>(sums: &mut [F], terms: &[F]) {
    for (sum, &term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// Outputs and inputs of a layer.
fn shape<F>(weight: &[F], bias: &[F]) -> (usize, usize) {
    let outputs = bias.len();
    assert!(outputs > 0 && weight.len().is_multiple_of(outputs), "one row of weights per output");
    (outputs, weight.len() / outputs)
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
    use crate::recurrence::sweep::{row, row_mut};

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

    fn agree(ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        let largest = theirs.iter().fold(1.0f32, |largest, a| largest.max(a.abs()));
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 1e-5 * largest, "{a} {b}");
        }
    }

    fn doubled(y: &[f32]) -> Vec<f32> {
        y.iter().map(|y| 2.0 * y).collect()
    }

    #[test]
    fn layers_agree_with_candle_forwards_and_back() {
        // Neurons that fill less than a vector, and more than a panel.
        for (rows, inputs, neurons, outputs) in [(5, 3, 9, 2), (600, 27, 33, 3), (300, 17, 70, 5)] {
            let (x, hidden) = (var((rows, inputs), true), var((rows, neurons), false));
            let (weight, bias) = (var((neurons, inputs), false), var((1, neurons), false));
            let (head_weight, head_bias) = (var((outputs, neurons), false), var((1, outputs), false));
            let input_theirs = differentiated(&x, &weight, &bias);
            let heads_theirs = differentiated(&hidden, &head_weight, &head_bias);
            let (x, h) = (numbers(&x), numbers(&hidden));
            for kernel in [Kernel::Portable, Kernel::Auto] {
                let path = kernel.resolve().unwrap();
                let mut input = Input::new(&numbers(&weight), &numbers(&bias), path);
                let heads = Heads::new(&numbers(&head_weight), &numbers(&head_bias), path);
                let hidden = padded(&h, neurons);
                let columns = blocks(neurons);
                let mut y = vec![0.0; rows * outputs];
                for r in 0..rows {
                    heads.apply(row(&hidden, r, columns), row_mut(&mut y, r, outputs));
                }
                let drive: Vec<f32> = x.chunks_exact(inputs).flat_map(|x| input.apply(x).to_vec()).collect();
                let (by_drive, by_outputs) = (padded(&doubled(&drive), neurons), doubled(&y));
                let mut by_hidden = hidden.clone();
                heads.by_hidden(|r| row(&by_outputs, r, outputs), &mut by_hidden);
                let layer_rows: Vec<_> = (0..rows)
                    .map(|r| LayerRow {
                        x: row(&x, r, inputs),
                        by_drive: row(&by_drive, r, columns),
                        hidden: row(&hidden, r, columns),
                        by_outputs: row(&by_outputs, r, outputs),
                    })
                    .collect();
                let (first, rest) = layer_rows.split_at(rows / 3);
                let mut sums = LayerSums::of(path, first);
                sums.add(path, &LayerSums::of(path, rest));
                let gradients = sums.finish(neurons);
                for (ours, theirs) in [
                    (&drive, &input_theirs[0]),
                    (&gradients.input.weight, &input_theirs[2]),
                    (&gradients.input.bias, &input_theirs[3]),
                    (&y, &heads_theirs[0]),
                    (&unpadded(&by_hidden, neurons), &heads_theirs[1]),
                    (&gradients.heads.weight, &heads_theirs[2]),
                    (&gradients.heads.bias, &heads_theirs[3]),
                ] {
                    agree(ours, theirs);
                }
            }
        }
    }
}
