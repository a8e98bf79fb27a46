//! Lifetimes that outlast power cuts: saved by a policy, restored on waking, gone on with bit for bit.

use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Living, Source};
use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine::scalar::Scalar;
use backpropamine::snapshot::{self, Error, Life, SavePolicy, Schedule, Slots};
use backpropamine::task::Task;
use backpropamine::task::cue::Cue;
use embedded_storage::nor_flash::NorFlash;

use crate::report::{first_modulator, report_step};

/// Weight of the newest reward in the reward average.
const NEWEST: f32 = 1.0 / 64.0;

/// What to live through.
pub struct Plan {
    /// When to save.
    pub policy: SavePolicy,
    /// How many lifetimes, the first of them of the first evaluation seed.
    pub lifetimes: u32,
    /// Steps from waking until the power fails, if it does.
    pub power: Option<u32>,
}

/// How a run ended.
pub enum Ended {
    /// Every lifetime is over.
    Lived,
    /// The power fails now.
    PowerCut,
}

/// Wakes, goes on where the newest snapshot left off, and reports every step, every save and, at the end of each lifetime, the
/// checksum of all that the agent is.
///
/// # Errors
/// When the flash memory fails or a slot is too small.
pub fn lives<N: Source, F: NorFlash>(
    cue: &mut Cue,
    agent: &mut Living<N>,
    slots: &mut Slots<F>,
    plan: &Plan,
) -> Result<Ended, Error<F::Error>>
where
    N::Scalar: Scalar<Real = f32>,
{
    let mut schedule = Schedule::new(plan.policy);
    let mut life = wake(agent, slots)?;
    // The snapshot that we come from is the last save.
    schedule.due(&life);
    let mut awake = 0;
    while life.seed < EVALUATION_SEED + u64::from(plan.lifetimes) {
        catch_up(cue, agent, &life);
        let mut lifetime = Lifetime::resume(cue, agent, Policy::Sample, life.seed, life.step);
        while let Some(event) = lifetime.next() {
            report_step(number(&life), &event, first_modulator(lifetime.agent()));
            life.step = event.step + 1;
            life.reward_average += (event.outcome.reward - life.reward_average) * NEWEST;
            if schedule.due(&life) {
                let sequence = slots.save(lifetime.agent_mut(), &life)?;
                defmt::println!("{{\"saved\":{{\"step\":{=u32},\"sequence\":{=u32}}}}}", life.step, sequence);
            }
            awake += 1;
            if Some(awake) == plan.power {
                return Ok(Ended::PowerCut);
            }
        }
        let state = snapshot::head(agent, &life, 0).checksum;
        defmt::println!("{{\"lived\":{{\"lifetime\":{=u32},\"state\":{=u32}}}}}", number(&life), state);
        life = birth(life.seed + 1);
        agent.reset();
        schedule = Schedule::new(plan.policy);
    }
    Ok(Ended::Lived)
}

fn number(life: &Life) -> u32 {
    (life.seed - EVALUATION_SEED) as u32
}

fn birth(seed: u64) -> Life {
    Life { seed, ..Life::default() }
}

/// The life of the newest snapshot; the first birth if there is none, or none that is whole and this network's.
fn wake<N: Source, F: NorFlash>(agent: &mut Living<N>, slots: &mut Slots<F>) -> Result<Life, Error<F::Error>> {
    let life = match slots.load(agent) {
        Ok(life) => life,
        Err(Error::Snapshot(error)) => {
            defmt::println!("no snapshot to go on from: {}", error);
            None
        }
        Err(error) => return Err(error),
    };
    let life = life.filter(|life| life.seed >= EVALUATION_SEED).unwrap_or(birth(EVALUATION_SEED));
    defmt::println!("{{\"woke\":{{\"lifetime\":{=u32},\"step\":{=u32}}}}}", number(&life), life.step);
    Ok(life)
}

/// Brings the task to where it stands in this life. Its course follows from the seed alone; of the answers it shows the last one,
/// which follows from the agent's last outputs.
fn catch_up<N: Source>(cue: &mut Cue, agent: &Living<N>, life: &Life)
where
    N::Scalar: Scalar<Real = f32>,
{
    let rng = Rng::new(life.seed);
    cue.reset(rng.lifetime(Stream::Task, life.episode));
    let Some(last) = life.step.checked_sub(1) else { return };
    for _ in 0..last {
        cue.act(0);
    }
    let draw = rng.lifetime(Stream::Action, life.episode).draw(last, 0);
    cue.act(Policy::Sample.choose::<N::Scalar>(agent.policy(), draw));
}
