//! Numbers to test with, and how far a result may be from the right one.

/// `len` numbers between -2 and 2, the same for the same seed.
pub(in crate::cpu) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    (0..16).for_each(|_| _ = next());
    (0..len).map(|_| next()).collect()
}

/// Every `step`-th of all finite numbers.
pub(in crate::cpu) fn all_floats(step: usize) -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(step).map(f32::from_bits).filter(|x| x.is_finite())
}

/// The largest of `error` over `xs`, and where it is. A NaN counts as infinite.
pub(in crate::cpu) fn worst(xs: impl Iterator<Item = f32>, error: impl Fn(f32) -> f64) -> (f64, f32) {
    let errors = xs.map(|x| (error(x), x)).map(|(e, x)| (if e.is_nan() { f64::INFINITY } else { e }, x));
    errors.fold((0.0, f32::NAN), |worst, seen| if seen.0 > worst.0 { seen } else { worst })
}

/// Distance of `ours` from the exact value, in units in the last place of the f32 nearest to it; below the normal
/// numbers, in units of the smallest number.
pub(in crate::cpu) fn ulps(ours: f32, exact: f64) -> f64 {
    let magnitude = (exact.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    let power = f32::from_bits(magnitude.to_bits() & 0x7f80_0000);
    // a result just below a power of two is measured with the finer unit there
    let halved = exact.abs() < f64::from(power) && power > f32::MIN_POSITIVE;
    let power = if halved { power / 2.0 } else { power };
    (f64::from(ours) - exact).abs() / (f64::from(power) * f64::from(f32::EPSILON))
}

/// Normal distribution function and density in f64: a series in the middle, a continued fraction outside.
pub(in crate::cpu) fn plain_normal(x: f64) -> (f64, f64) {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let z = x.abs();
    let tail = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for odd in (3..120).step_by(2) {
            term *= z * z / f64::from(odd);
            sum += term;
        }
        0.5 - density * sum
    } else {
        density / (1..200).rev().fold(z, |below, n| z + f64::from(n) / below)
    };
    (if x < 0.0 { tail } else { 1.0 - tail }, density)
}

/// Holds `ours` to `expected`, within `tolerance` of the largest expected number (and of one).
#[track_caller]
pub(in crate::cpu) fn close(what: &str, ours: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), expected.len(), "{what}: lengths");
    let largest = expected.iter().fold(1.0f32, |most, x| most.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}: {a} instead of {b} at {i}, largest {largest}");
    }
}

#[test]
fn units_are_those_of_the_exact_result() {
    let one = f64::from(f32::EPSILON);
    assert_eq!(ulps(1.0, 1.0 + one), 1.0);
    assert_eq!(ulps(1.0, 1.0 - one), 2.0);
    assert_eq!(ulps(0.0, f64::from(f32::from_bits(3))), 3.0);
    assert!(worst([1.0].into_iter(), |_| f64::NAN).0.is_infinite());
}

#[test]
fn series_and_continued_fraction_meet() {
    let (a, b) = (plain_normal(-2.5 + 1e-9).0, plain_normal(-2.5 - 1e-9).0);
    assert!(((a - b) / a).abs() < 1e-8, "{a} {b}");
    assert!((plain_normal(-1.0).0 - 0.158_655_253_931_457_05).abs() < 1e-15);
    assert!((plain_normal(-6.0).0 / 9.865_876_450_376_98e-10 - 1.0).abs() < 1e-12);
}
