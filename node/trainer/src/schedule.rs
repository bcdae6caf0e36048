//! The learning rate as a function of the step: linear warm-up, then a cosine.

use crate::elementary::sin_cos;

/// Learning rate of the step with index `step`, counted from 0 over the whole stage.
///
/// As in the recipe we follow, the counter is 0 at the first update, so with a warm-up the **first step has rate 0**;
/// step `warmup_steps` has the peak, and from `total_steps` on it stays at `final_rate`. Computed in f64 from basic
/// operations, so the bits are the same everywhere.
///
/// Source: Megatron's cosine schedule as LLaVA-OneVision-1.5 uses it, counted in steps.
pub fn learning_rate(step: u64, warmup_steps: u64, total_steps: u64, peak: f32, final_rate: f32) -> f32 {
    let (peak, last) = (f64::from(peak), f64::from(final_rate));
    if step < warmup_steps {
        return (peak * step as f64 / warmup_steps as f64) as f32;
    }
    if step >= total_steps {
        return final_rate;
    }
    let progress = (step - warmup_steps) as f64 / (total_steps - warmup_steps) as f64;
    let (_, cosine) = sin_cos(std::f64::consts::PI * progress);
    (last + 0.5 * (1.0 + cosine) * (peak - last)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_vectors_of_the_recipe() {
        // alignment: 2,500 steps, 0.2 % warm-up, 1e-4 to 1e-6
        for (step, expected) in [(0, 0.0), (1, 2.0e-5), (5, 1.0e-4), (1250, 5.0656e-5), (2499, 1.0e-6)] {
            let got = learning_rate(step, 5, 2500, 1e-4, 1e-6);
            assert!(
                (got - expected).abs() <= expected * 5e-5 + 1e-12,
                "step {step}: {got} instead of {expected}"
            );
        }
        // instruct: 3,500 steps, 1e-5 to 1e-6
        for (step, expected) in [(1, 1.4286e-6), (7, 1e-5), (1750, 5.5142e-6)] {
            let got = learning_rate(step, 7, 3500, 1e-5, 1e-6);
            assert!((got - expected).abs() <= expected * 5e-5, "step {step}: {got} instead of {expected}");
        }
    }

    #[test]
    fn it_starts_at_the_peak_without_warm_up_and_ends_at_the_final_rate() {
        assert_eq!(learning_rate(0, 0, 10, 3e-3, 1e-4), 3e-3);
        assert_eq!(learning_rate(10, 0, 10, 3e-3, 1e-4), 1e-4);
        assert_eq!(learning_rate(99, 0, 10, 3e-3, 1e-4), 1e-4);
        assert_eq!(learning_rate(0, 0, 0, 3e-3, 1e-4), 1e-4);
    }
}
