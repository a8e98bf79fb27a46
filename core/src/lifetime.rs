//! One lifetime of an agent in a task, step by step: the same code on the host, in the emulator and on a board.

use crate::digest::Digest;
use crate::network::{Living, Source};
use crate::policy::Policy;
use crate::rng::{Rng, Stream};
use crate::scalar::Scalar;
use crate::task::{Outcome, Task};

/// The first seed of evaluation lifetimes; training seeds lie below, so the two never meet.
pub const EVALUATION_SEED: u64 = 1_000_000;

/// Largest number of inputs of a task.
pub const MAX_INPUTS: usize = 64;

/// What happened in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Event {
    /// The step, from 0.
    pub step: u32,
    /// The action.
    pub action: usize,
    /// What the task made of it.
    pub outcome: Outcome,
}

/// One lifetime: an agent from birth, in one episode of a task.
///
/// Equal seeds give equal lifetimes on every machine, which [`Lifetime::digest`] witnesses.
pub struct Lifetime<'a, 'm, T, N: Source> {
    task: &'a mut T,
    agent: &'a mut Living<'m, N>,
    policy: Policy,
    actions: crate::rng::Lifetime,
    step: u32,
    digest: Digest,
}

impl<'a, 'm, T: Task, N: Source> Lifetime<'a, 'm, T, N> {
    /// Resets agent and task and begins the lifetime of this seed.
    pub fn new(task: &'a mut T, agent: &'a mut Living<'m, N>, policy: Policy, seed: u64) -> Self {
        task.reset(Rng::new(seed).lifetime(Stream::Task, 0));
        agent.reset();
        Self::resume(task, agent, policy, seed, 0)
    }

    /// Goes on with the lifetime of this seed at this step, with the agent that a snapshot gave back and a task that stands where
    /// it stood then. The digest begins anew.
    pub fn resume(task: &'a mut T, agent: &'a mut Living<'m, N>, policy: Policy, seed: u64, step: u32) -> Self {
        Self {
            task,
            agent,
            policy,
            actions: Rng::new(seed).lifetime(Stream::Action, 0),
            step,
            digest: Digest::new(),
        }
    }

    /// The agent, for a look at its activity between steps.
    pub fn agent(&self) -> &Living<'m, N> {
        self.agent
    }

    /// The task, for a look at it between steps.
    pub fn task(&self) -> &T {
        self.task
    }

    /// The agent, for what first carries out the change that a step leaves pending, a health report or a snapshot, and for a change
    /// between steps: a freeze, or traces that are not as they were learned.
    pub fn agent_mut(&mut self) -> &mut Living<'m, N> {
        self.agent
    }

    /// A digest of every action, reward, activity and modulator so far, and of all traces now.
    pub fn digest(&mut self) -> u64 {
        let mut digest = self.digest;
        self.agent.for_each_trace(|trace| digest.word(trace.digest_word()));
        digest.value()
    }

    fn record(&mut self, action: usize, outcome: &Outcome) {
        self.digest.word(action as u32);
        self.digest.word(outcome.reward.to_bits());
        for activity in self.agent.hidden() {
            self.digest.word(activity.digest_word());
        }
        for m in self.agent.modulator() {
            self.digest.word(N::Scalar::output_digest_word(*m));
        }
    }
}

impl<T: Task, N: Source> Iterator for Lifetime<'_, '_, T, N> {
    type Item = Event;

    /// Observe, act, and let the world move; `None` at the end of the lifetime, or if the task has
    /// another number of inputs than the agent.
    fn next(&mut self) -> Option<Event> {
        if self.step >= self.task.steps() {
            return None;
        }
        let mut buffer = [0.0; MAX_INPUTS];
        let x = buffer.get_mut(..self.task.inputs())?;
        self.task.observe(x);
        let logits = self.agent.step_real(x).ok()?;
        let action = self.policy.choose::<N::Scalar>(logits, self.actions.draw(self.step, 0));
        let outcome = self.task.act(action);
        self.record(action, &outcome);
        let step = self.step;
        self.step += 1;
        Some(Event { step, action, outcome })
    }
}
