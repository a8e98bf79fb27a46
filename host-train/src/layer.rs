//! A layer `y = x Wᵀ + b` over all steps and episodes of a batch as one Candle operation.
//!
//! Candle's own product chooses its instructions, and with them its rounding, by the machine; and of the inputs, most of
//! which are 0, it uses every one. [`Affine`] does neither, and has the bits of the rollout.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::recurrence::{Affine, Path};

/// `x Wᵀ + b`, `[R, O]`, from `x` `[R, I]`, `W` `[O, I]` and `b` `[O]`, all f32 and contiguous.
///
/// # Errors
/// When Candle refuses the shapes.
pub fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor, path: Path) -> Result<Tensor> {
    x.apply_op3(weight, bias, AffineOp(path))
}

struct AffineOp(Path);

impl CustomOp3 for AffineOp {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?, numbers(bias, bias_layout)?);
        let rows = x_layout.shape().dims2()?.0;
        let y = Affine::new(weight, bias, self.0).apply_rows(x);
        Ok((CpuStorage::F32(y), Shape::from((rows, bias.len()))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        by_y: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let layer = Affine::new(&flat(weight)?, &flat(bias)?, self.0);
        let gradient = layer.gradient(&flat(x)?, &flat(by_y)?, x.track_op());
        let like = |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        let by_x = if x.track_op() { Some(like(gradient.inputs, x)?) } else { None };
        Ok((by_x, Some(like(gradient.weight, weight)?), Some(like(gradient.bias, bias)?)))
    }
}

/// The elements of a contiguous f32 tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("affine: expected contiguous tensors"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::recurrence::Kernel;

    fn var(shape: (usize, usize), zeros: bool) -> Var {
        let number = |i: usize| if zeros && i % 3 == 1 { 0.0 } else { (i as f32 * 0.7).sin() };
        let values: Vec<f32> = (0..shape.0 * shape.1).map(number).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// y and the derivatives of `Σ y²` by x, W and b.
    fn outcome(variables: [&Var; 3], layer: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>) -> [Vec<f32>; 4] {
        let [x, weight, bias] = variables;
        let y = layer(x, weight, &bias.flatten_all().unwrap()).unwrap();
        let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let slope = |variable: &Var| flat(store.get(variable).unwrap());
        [flat(&y), slope(x), slope(weight), slope(bias)]
    }

    #[test]
    fn layers_agree_with_candle_forwards_and_back() {
        // Few and many outputs; fewer rows than a job takes, and more.
        for (rows, inputs, outputs) in [(5, 3, 4), (600, 27, 33), (300, 40, 2)] {
            let (x, weight, bias) = (var((rows, inputs), true), var((outputs, inputs), false), var((1, outputs), false));
            let theirs = outcome([&x, &weight, &bias], |x, w, b| x.matmul(&w.t()?)?.broadcast_add(b));
            for kernel in [Kernel::Portable, Kernel::Auto] {
                let path = kernel.resolve().unwrap();
                let ours = outcome([&x, &weight, &bias], |x, w, b| affine(x, w, b, path));
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
