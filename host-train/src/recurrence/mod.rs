//! The fused forward and backward pass of the plastic recurrence (Miconi et al., ICLR 2019, Eq. 1-5): meta-training's heart.
//!
//! ```text
//! h_j(t) = tanh( drive_j(t) + Σ_i (w_ji + alpha_ji H_ji(t)) h_i(t-1) )        m(t) = f( Wm h(t) + bm )
//! M_j(t) = Σ_k g_jk m_k(t) + c_j            and the rule writes H(t+1) from M(t), h(t) and h(t-1)
//! ```
//!
//! A rollout steps one [`Forward`] per lifetime, which records `h` and `m` in a [`Trajectory`]; [`backward()`] turns
//! `dL/dh` over whole lifetimes into gradients of every parameter and of the drive. Both have the same bits for any
//! number of threads. [`RecurrenceOp`] is the pair as one Candle operation.

mod backward;
mod forward;
mod kernel;
mod layers;
mod op;
pub mod oracle;
mod real;
mod roofline;
mod rule;
mod spec;
mod sweep;
mod weights;

pub use backward::{Backward, ByDrive, ByHidden, backward, backward_lifetimes};
pub use forward::{Forward, Trajectory};
pub use kernel::{Kernel, KernelError, Lanes, Path};
pub use layers::{AffineGradient, Heads, Input, LayerGradients, LayerRow, LayerSums};
pub use op::RecurrenceOp;
pub use real::Real;
pub use roofline::{Work, bytes_per_second, count, multiply_adds_per_second};
pub use spec::{Clip, Gradients, Mask, Parameters, Spec, SpecError, TENSORS};
pub use weights::Weights;
