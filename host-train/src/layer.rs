//! A layer `y = x Wᵀ + b` over all steps and episodes of a batch, and back.
//!
//! Candle's product chooses its instructions, and with them its rounding, by the machine. Runs with the portable kernel have
//! the same bits everywhere, so their layers are a Candle operation of our own: sums in ascending order, nothing fused.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::recurrence::Kernel;

/// `x Wᵀ + b`, `[R, O]`, from `x` `[R, I]`, `W` `[O, I]` and `b` `[O]`, all f32.
///
/// # Errors
/// When Candle refuses the shapes.
pub fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor, kernel: Kernel) -> Result<Tensor> {
    if kernel == Kernel::Portable {
        return x.contiguous()?.apply_op3(weight, bias, PortableAffine);
    }
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

struct PortableAffine;

impl CustomOp3 for PortableAffine {
    fn name(&self) -> &'static str {
        "portable-affine"
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
        let (rows, inputs) = x_layout.shape().dims2()?;
        let outputs = bias.len();
        let columns = transposed(weight, inputs);
        let mut y = Vec::with_capacity(rows * outputs);
        for x in x.chunks_exact(inputs) {
            let start = y.len();
            y.extend_from_slice(bias);
            add_product(&mut y[start..], x, &columns);
        }
        Ok((CpuStorage::F32(y), Shape::from((rows, outputs))))
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
        let (values, weights, by_y) = (flat(x)?, flat(weight)?, flat(by_y)?);
        let (outputs, inputs) = weight.dims2()?;
        let mut by_weight = vec![0.0; outputs * inputs];
        let mut by_bias = vec![0.0; outputs];
        for (x, by_y) in values.chunks_exact(inputs).zip(by_y.chunks_exact(outputs)) {
            for ((row, sum), &g) in by_weight.chunks_exact_mut(inputs).zip(&mut by_bias).zip(by_y) {
                add_scaled(row, g, x);
                *sum += g;
            }
        }
        let by_x = if x.track_op() {
            let mut by_x = vec![0.0; values.len()];
            for (by_x, by_y) in by_x.chunks_exact_mut(inputs).zip(by_y.chunks_exact(outputs)) {
                add_product(by_x, by_y, &weights);
            }
            Some(Tensor::from_vec(by_x, x.shape(), x.device())?)
        } else {
            None
        };
        let by_weight = Tensor::from_vec(by_weight, weight.shape(), weight.device())?;
        let by_bias = Tensor::from_vec(by_bias, bias.shape(), bias.device())?;
        Ok((by_x, Some(by_weight), Some(by_bias)))
    }
}

/// The elements of a contiguous f32 tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("portable-affine: expected contiguous tensors"),
    }
}

/// `[O, I]` as `[I, O]`.
fn transposed(weight: &[f32], inputs: usize) -> Vec<f32> {
    (0..inputs).flat_map(|i| weight.iter().skip(i).step_by(inputs).copied()).collect()
}

/// `y += Σ_k x_k·row_k`, ascending; inputs that are 0 cost nothing.
fn add_product(y: &mut [f32], x: &[f32], rows: &[f32]) {
    for (&x, row) in x.iter().zip(rows.chunks_exact(y.len())) {
        add_scaled(y, x, row);
    }
}

fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    if factor == 0.0 {
        return;
    }
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn portable_layers_agree_with_candle_forwards_and_back() {
        let var = |count: usize, shape: (usize, usize)| {
            let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
            Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let (x, weight) = (var(15, (5, 3)), var(12, (4, 3)));
        let bias = Var::from_tensor(&Tensor::new(&[0.1f32, -0.2, 0.3, 0.4], &Device::Cpu).unwrap()).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let run = |kernel| {
            let y = affine(&x, &weight, &bias, kernel).unwrap();
            let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let slope = |variable: &Var| flat(store.get(variable).unwrap());
            [flat(&y), slope(&x), slope(&weight), slope(&bias)]
        };
        for (ours, theirs) in run(Kernel::Portable).iter().zip(run(Kernel::Auto)) {
            assert_eq!(ours.len(), theirs.len());
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}
