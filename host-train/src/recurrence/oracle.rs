//! The recurrence written down step by step in Candle, gradients by its automatic differentiation: slow, memory-hungry
//! and obviously right. The tests hold the fused passes against it, and `bench` says how much cheaper they are.

use backpropamine::rule::{Rule, Squash};
use candle_core::{D, Result, Tensor};

use super::real::Real;
use super::spec::{Clip, Parameters, Spec};

/// What the clip passes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipGradient {
    /// 1 inside, 0 where it clipped: the definition.
    Masked,
    /// 1 everywhere: wrong. With it the comparison in the tests must fail, or it would not notice a lost mask.
    Everywhere,
}

/// `h`, `[T, B, H]`, as a differentiable function of `drive`, `[T, B, H]`, and the packed parameters, `[P]`:
/// what [`RecurrenceOp`](super::RecurrenceOp) computes.
pub fn hidden<F: Real>(spec: &Spec, drive: &Tensor, packed: &Tensor, gradient: ClipGradient) -> Result<Tensor> {
    let (steps, batch, neurons) = drive.dims3()?;
    let parameters = Named::new::<F>(spec, packed)?;
    let zeros = |shape: &[usize]| Tensor::zeros(shape, drive.dtype(), drive.device());
    let mut h = zeros(&[batch, neurons])?;
    let mut traces = (zeros(&[batch, neurons, neurons])?, zeros(&[batch, neurons, neurons])?);
    let mut all = Vec::with_capacity(steps);
    for t in 0..steps {
        let mut strength = parameters
            .weight
            .unsqueeze(0)?
            .broadcast_as((batch, neurons, neurons))?
            .contiguous()?;
        if spec.rule.is_plastic() {
            strength = (strength + traces.0.broadcast_mul(&parameters.alpha)?)?;
        }
        let received = strength.matmul(&h.unsqueeze(2)?)?.squeeze(2)?;
        let next = (drive.get(t)? + received)?.tanh()?;
        if spec.rule.is_plastic() {
            traces = update(spec, &parameters, traces, &next, &h, gradient)?;
        }
        h = next;
        all.push(h.clone());
    }
    Tensor::stack(&all, 0)
}

/// The traces after a step that led from `pre` = `h(t-1)` to `post` = `h(t)`, `[B, H]` each.
fn update(
    spec: &Spec,
    parameters: &Named,
    (hebb, elig): (Tensor, Tensor),
    post: &Tensor,
    pre: &Tensor,
    gradient: ClipGradient,
) -> Result<(Tensor, Tensor)> {
    let product = post.unsqueeze(2)?.matmul(&pre.unsqueeze(1)?)?;
    // What is written at the rule's rate.
    let target = match spec.clip {
        Clip::Hard(_) | Clip::Soft => product.clone(),
        Clip::Decay => (&product - &hebb)?,
        Clip::Oja => (&product - hebb.broadcast_mul(&post.sqr()?.unsqueeze(2)?)?)?,
    };
    let increment = match spec.rule {
        Rule::Hebbian | Rule::NonPlastic => target.broadcast_mul(&parameters.eta)?,
        Rule::Modulated => target.broadcast_mul(&parameters.modulator(spec, post)?.unsqueeze(2)?)?,
        Rule::Retroactive => elig.broadcast_mul(&parameters.modulator(spec, post)?.unsqueeze(2)?)?,
    };
    let increment = match &spec.mask {
        None => increment,
        Some(mask) => {
            let share: Vec<f64> = mask.modulated.iter().map(|&modulated| f64::from(u8::from(modulated))).collect();
            let share = Tensor::from_vec(share, (spec.hidden, 1), post.device())?.to_dtype(post.dtype())?;
            let hebbian = target.broadcast_mul(&parameters.hebbian_eta)?;
            (increment.broadcast_mul(&share)? + hebbian.broadcast_mul(&(1.0 - share)?)?)?
        }
    };
    let increment = match spec.clip {
        Clip::Soft => {
            let sign = ((increment.gt(0.0)?.to_dtype(hebb.dtype())? * 2.0)? - 1.0)?;
            (&increment * (1.0 - (sign * &hebb)?)?)?
        }
        _ => increment,
    };
    let hebb = clip(spec, &(hebb + increment)?, gradient)?;
    let elig = match spec.rule {
        Rule::Retroactive => {
            let kept = elig.broadcast_mul(&(1.0 - &parameters.eta)?)?;
            (kept + product.broadcast_mul(&parameters.eta)?)?
        }
        _ => elig,
    };
    Ok((hebb, elig))
}

fn clip(spec: &Spec, h: &Tensor, gradient: ClipGradient) -> Result<Tensor> {
    let limit = f64::from(spec.clip.limit());
    let value = h.detach();
    let cut = value.clamp(-limit, limit)?;
    match gradient {
        ClipGradient::Everywhere => h + (cut - value)?,
        ClipGradient::Masked => {
            let inside = value.abs()?.lt(limit)?.to_dtype(h.dtype())?;
            (h * &inside)? + (cut * (1.0 - inside)?)?
        }
    }
}

/// The parameters as tensors that broadcast over `[B, H, H]`.
struct Named {
    weight: Tensor,
    alpha: Tensor,
    eta: Tensor,
    hebbian_eta: Tensor,
    modulator_weight: Tensor,
    modulator_bias: Tensor,
    fan_out_weight: Tensor,
    fan_out_bias: Tensor,
}

impl Named {
    fn new<F: Real>(spec: &Spec, packed: &Tensor) -> Result<Self> {
        let (h, k) = (spec.hidden, spec.modulators);
        let sizes = Parameters::<F>::zeros(spec).tensors().map(|(_, values)| values.len());
        let mut start = 0;
        let mut parts = sizes.map(|size| {
            start += size;
            packed.narrow(0, start - size, size)
        });
        let mut part = |index: usize| std::mem::replace(&mut parts[index], packed.narrow(0, 0, 0));
        // One number, one per row, or one per connection.
        let spread = |tensor: Tensor| match tensor.elem_count() {
            0 => Ok(tensor),
            1 => tensor.reshape((1, 1)),
            count if count == h => tensor.reshape((h, 1)),
            _ => tensor.reshape((h, h)),
        };
        Ok(Self {
            weight: part(0)?.reshape((h, h))?,
            alpha: spread(part(1)?)?,
            eta: spread(part(2)?)?,
            hebbian_eta: spread(part(3)?)?,
            modulator_weight: part(4)?.reshape((k, h))?,
            modulator_bias: part(5)?,
            fan_out_weight: part(6)?,
            fan_out_bias: part(7)?,
        })
    }

    /// `M_j(t)`, `[B, H]`, or `[B, 1]` where it is the same for all neurons.
    fn modulator(&self, spec: &Spec, h: &Tensor) -> Result<Tensor> {
        let x = h.matmul(&self.modulator_weight.t()?)?.broadcast_add(&self.modulator_bias)?;
        let m = match spec.squash {
            Squash::Tanh => x.tanh()?,
            Squash::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip()?,
            Squash::Identity => x,
        };
        if !spec.fan_out {
            return m.sum_keepdim(D::Minus1);
        }
        let fan_out = self.fan_out_weight.reshape((spec.hidden, spec.modulators))?;
        m.matmul(&fan_out.t()?)?.broadcast_add(&self.fan_out_bias)
    }
}
