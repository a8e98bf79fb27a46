//! Adam with moments of our own, so that a checkpoint has them, and the gradient's norm.

use std::collections::BTreeMap;

use crate::config::TrainingOptions;
use crate::model::Parameter;

/// Gradients by the parameters' names, in their layout.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// The Euclidean norm over all parameters, summed in double precision in the order of the names.
pub fn norm(gradients: &Gradients) -> f64 {
    let squares = gradients.values().flatten().map(|&g| f64::from(g) * f64::from(g));
    squares.sum::<f64>().sqrt()
}

/// Adam (Kingma and Ba, 2015) without weight decay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    /// Updates made.
    pub updates: u32,
    /// First and second moment by the parameters' names.
    pub moments: BTreeMap<String, Moments>,
}

/// The moving averages of one parameter's gradient and of its square.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of the gradient squared.
    pub second: Vec<f32>,
}

impl Adam {
    /// One update of `parameters` with the gradients times `scale` (the norm clip's factor).
    pub fn update(
        &mut self,
        parameters: &mut BTreeMap<String, Parameter>,
        gradients: &Gradients,
        scale: f64,
        rate: f64,
        options: &TrainingOptions,
    ) {
        self.updates += 1;
        let (beta1, beta2) = (options.adam_beta1 as f32, options.adam_beta2 as f32);
        let correction1 = 1.0 - libm::pow(options.adam_beta1, f64::from(self.updates));
        let correction2 = 1.0 - libm::pow(options.adam_beta2, f64::from(self.updates));
        let step = (rate / correction1) as f32;
        let root = (1.0 / correction2) as f32;
        let epsilon = options.adam_epsilon as f32;
        for (name, gradient) in gradients {
            let Some(parameter) = parameters.get_mut(name) else { continue };
            let moments = self.moments.entry(name.clone()).or_default();
            moments.first.resize(gradient.len(), 0.0);
            moments.second.resize(gradient.len(), 0.0);
            let averages = moments.first.iter_mut().zip(&mut moments.second);
            for ((value, g), (first, second)) in parameter.values.iter_mut().zip(gradient).zip(averages) {
                let g = g * scale as f32;
                *first = beta1 * *first + (1.0 - beta1) * g;
                *second = beta2 * *second + (1.0 - beta2) * g * g;
                *value -= step * *first / ((*second * root).sqrt() + epsilon);
            }
        }
    }
}

/// The factor that cuts a gradient of this norm to `limit`; 1 where it is shorter.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn one(value: f32) -> BTreeMap<String, Parameter> {
        let parameter = Parameter {
            shape: vec![1],
            values: vec![value],
        };
        BTreeMap::from([("w".into(), parameter)])
    }

    #[test]
    fn first_update_moves_by_the_rate_whatever_the_gradient() {
        let options = Config::default().training;
        for g in [1e-2f32, 3.0, -40.0] {
            let mut parameters = one(1.0);
            Adam::default().update(&mut parameters, &Gradients::from([("w".into(), vec![g])]), 1.0, 0.1, &options);
            let moved = parameters["w"].values[0] - 1.0;
            assert!((moved + 0.1 * g.signum()).abs() < 1e-4, "{g}: {moved}");
        }
    }

    #[test]
    fn adam_finds_the_minimum_of_a_parabola() {
        let options = Config::default().training;
        let (mut parameters, mut adam) = (one(5.0), Adam::default());
        for _ in 0..2000 {
            let slope = 2.0 * (parameters["w"].values[0] - 3.0);
            adam.update(&mut parameters, &Gradients::from([("w".into(), vec![slope])]), 1.0, 0.01, &options);
        }
        assert!((parameters["w"].values[0] - 3.0).abs() < 1e-2);
    }

    #[test]
    fn norm_and_clip() {
        let gradients = Gradients::from([("a".into(), vec![3.0]), ("b".into(), vec![0.0, 4.0])]);
        assert_eq!(norm(&gradients), 5.0);
        assert_eq!(clip_factor(5.0, 1.0), 0.2);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
    }
}
