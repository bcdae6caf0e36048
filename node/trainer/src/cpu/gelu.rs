//! The exact GELU, of the vision tower and the merger.
//!
//! `y = x * Phi(x)` elementwise, with Phi the normal distribution function; `dx = dy * (Phi(x) + x * phi(x))` with phi its
//! density. Source: Hendrycks and Gimpel, arXiv 1606.08415.
//!
//! Infinite input gives NaN, except forwards on the right: what is broken shall be noticed.

use rayon::prelude::*;

use super::{
    isa::{Isa, for_each_isa},
    math::normal,
    rows::parallel::numbers_of_task,
};

/// `y = x * Phi(x)`.
pub(super) fn forward(isa: Isa, x: &[f32], y: &mut [f32]) {
    let part = numbers_of_task(x.len());
    y.par_chunks_mut(part).zip(x.par_chunks(part)).for_each(|(y, x)| forward_part(isa, x, y));
}

/// Turns `dy` into the gradient of `x`.
pub(super) fn backward(isa: Isa, x: &[f32], dy: &mut [f32]) {
    let part = numbers_of_task(x.len());
    dy.par_chunks_mut(part).zip(x.par_chunks(part)).for_each(|(dy, x)| backward_part(isa, x, dy));
}

for_each_isa! {
    fn forward_part(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal(x).0;
        }
    }
}

for_each_isa! {
    fn backward_part(x: &[f32], dy: &mut [f32]) {
        for (dy, &x) in dy.iter_mut().zip(x) {
            let (distribution, density) = normal(x);
            *dy *= x.mul_add(density, distribution);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testkit::{
            Case, all_floats, check_gradients, close, graph, plain_normal, random, same_bits_everywhere,
            ulps, worst,
        },
        reference::ops,
    };

    fn both(isa: Isa, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], dy.to_vec());
        forward(isa, x, &mut y);
        backward(isa, x, &mut dx);
        (y, dx)
    }

    fn wide(len: usize) -> Vec<f32> {
        random(len, 1).iter().map(|x| 3.0 * x).collect()
    }

    #[test]
    fn its_error_is_at_most_eight_units_and_far_below_2e_7_of_its_size() {
        let exact = |x: f32| f64::from(x) * plain_normal(f64::from(x)).0;
        let ours = |x: f32| {
            let mut y = [f32::NAN];
            forward(Isa::best(), &[x], &mut y);
            y[0]
        };
        let inner = all_floats(997).filter(|x| x.abs() > 1e-3 && *x > -12.5 && *x < 100.0);
        let (error, at) = worst(inner, |x| ulps(ours(x), exact(x)));
        assert!(error <= 8.0, "{error} units in the last place at {at}");
        let relative = |x| (f64::from(ours(x)) - exact(x)).abs() / exact(x).abs().max(1.0);
        let (error, at) = worst(all_floats(40_961), relative);
        assert!(error <= 1.5e-7, "{error} at {at}");
    }

    #[test]
    fn its_gradient_is_the_slope() {
        let (x, dy) = (wide(300), random(300, 2));
        let (_, dx) = both(Isa::best(), &x, &dy);
        let case = Case { what: "gelu", arguments: &[&x], dy: &dy };
        check_gradients(&case, |a| a[0].iter().map(|&x| x * plain_normal(x).0).collect(), &[Some(&dx)]);
    }

    #[test]
    fn it_agrees_with_the_plain_form() {
        let (x, dy) = (wide(4000), random(4000, 2));
        let (y, dx) = both(Isa::best(), &x, &dy);
        let expected = graph(&[(&x, &[40, 100])], &dy, |a| ops::gelu(&a[0]));
        close("values", &y, &expected.y, 5e-7);
        // candle's backward has constants of six digits
        close("gradient", &dx, &expected.gradients[0], 2e-6);
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let (mut x, dy) = (wide(70_001), random(70_001, 2));
        x[..5].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -13.9, 1e-40]);
        same_bits_everywhere("gelu", |isa| {
            let (y, dx) = both(isa, &x, &dy);
            vec![y, dx]
        });
    }

    #[test]
    fn what_is_broken_stays_broken() {
        let (y, dx) = both(Isa::best(), &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -40.0], &[1.0; 4]);
        assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2].is_nan() && y[3] == 0.0, "{y:?}");
        assert!(dx[0].is_nan() && dx[1].is_nan() && dx[2].is_nan() && dx[3] == 0.0, "{dx:?}");
    }
}
