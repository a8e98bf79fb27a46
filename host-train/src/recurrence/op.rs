//! The recurrence as one Candle operation.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::backward::backward;
use super::forward::Trajectory;
use super::real::Real;
use super::weights::Weights;

/// `h` of whole lifetimes, `[T, B, H]`, as a function of the drive `Win·x + b`, `[T, B, H]`, and of the packed
/// parameters ([`Parameters::pack`](super::Parameters::pack)), `[P]`.
///
/// The rollout has already computed it, so going forwards returns what was recorded, and the inputs' values are not
/// looked at: they must be the ones of the rollout. Going back runs [`backward()`].
#[derive(Clone, Debug)]
pub struct RecurrenceOp<F> {
    weights: Arc<Weights<F>>,
    trajectories: Arc<Vec<Trajectory<F>>>,
}

impl<F: Real> RecurrenceOp<F> {
    /// From the lifetimes of one batch, all of them with the same number of steps.
    pub fn new(weights: Arc<Weights<F>>, trajectories: Arc<Vec<Trajectory<F>>>) -> Self {
        Self { weights, trajectories }
    }

    /// The recorded `h`, `[T, B, H]`, connected to `drive` and `packed` for the gradient.
    pub fn apply(self, drive: &Tensor, packed: &Tensor) -> Result<Tensor> {
        drive.apply_op2(packed, self)
    }

    fn shape(&self) -> (usize, usize, usize) {
        let steps = self.trajectories.first().map_or(0, Trajectory::steps);
        (steps, self.trajectories.len(), self.weights.spec().hidden)
    }
}

impl<F: Real> CustomOp2 for RecurrenceOp<F> {
    fn name(&self) -> &'static str {
        "plastic-recurrence"
    }

    fn cpu_fwd(&self, _: &CpuStorage, drive: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = Shape::from(self.shape());
        if drive.shape() != &shape {
            candle_core::bail!("drive: expected {shape:?} (the recorded lifetimes), found {:?}", drive.shape());
        }
        let (steps, ..) = self.shape();
        let hidden = (0..steps).flat_map(|t| self.trajectories.iter().flat_map(move |one| one.hidden(t)));
        Ok((F::to_cpu_storage_owned(hidden.copied().collect()), shape))
    }

    fn bwd(&self, drive: &Tensor, packed: &Tensor, _: &Tensor, by_hidden: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let by_hidden = by_hidden.flatten_all()?.to_vec1::<F>()?;
        let gradient = backward(&self.weights, &self.trajectories, &by_hidden);
        let by_drive = Tensor::from_vec(gradient.drive, drive.shape(), drive.device())?;
        let by_packed = Tensor::from_vec(gradient.parameters.pack(), packed.shape(), packed.device())?;
        Ok((Some(by_drive), Some(by_packed)))
    }
}
