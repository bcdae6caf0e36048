//! Gradients held to finite differences of a plain formula in f64.

/// An operation at one place: its arguments, and how much each of its results counts.
pub(in crate::cpu) struct Case<'a> {
    /// Said when it fails.
    pub(in crate::cpu) what: &'a str,
    /// Arguments of the formula.
    pub(in crate::cpu) arguments: &'a [&'a [f32]],
    /// Gradient of the results.
    pub(in crate::cpu) dy: &'a [f32],
}

/// Half the distance of the two points of a difference: with f64 and third derivatives near one, right to 1e-9.
const STEP: f64 = 1e-5;

/// Holds `gradients`, one for every argument, to differences of `formula`; `None` for arguments without.
#[track_caller]
pub(in crate::cpu) fn check_gradients(
    case: &Case<'_>,
    formula: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    gradients: &[Option<&[f32]>],
) {
    let Case { what, arguments, dy } = case;
    assert_eq!(arguments.len(), gradients.len(), "{what}: a gradient or none for every argument");
    let mut wide: Vec<Vec<f64>> =
        arguments.iter().map(|a| a.iter().map(|&x| f64::from(x)).collect()).collect();
    let weighted = |arguments: &[Vec<f64>]| {
        let y = formula(arguments);
        assert_eq!(y.len(), dy.len(), "{what}: results of the formula");
        y.iter().zip(*dy).map(|(y, &dy)| y * f64::from(dy)).sum::<f64>()
    };
    for (argument, gradient) in gradients.iter().enumerate() {
        let Some(gradient) = gradient else { continue };
        assert_eq!(gradient.len(), wide[argument].len(), "{what}: length of gradient {argument}");
        let largest = gradient.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        for (i, &ours) in gradient.iter().enumerate() {
            let here = wide[argument][i];
            let mut at = |x: f64| {
                wide[argument][i] = x;
                weighted(&wide)
            };
            let slope = (at(here + STEP) - at(here - STEP)) / (2.0 * STEP);
            wide[argument][i] = here;
            let error = (f64::from(ours) - slope).abs();
            assert!(
                error <= 2e-5 * f64::from(largest),
                "{what}: gradient {argument} at {i} is {ours}, the formula's {slope}, largest {largest}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "gradient 0 at 1")]
fn a_wrong_gradient_is_seen() {
    let case = Case { what: "square", arguments: &[&[1.0, 2.0]], dy: &[1.0, 1.0] };
    check_gradients(&case, |a| a[0].iter().map(|x| x * x).collect(), &[Some(&[2.0, 4.1])]);
}

#[test]
fn a_right_gradient_passes() {
    let case = Case { what: "square", arguments: &[&[1.0, 2.0], &[7.0]], dy: &[1.0, -1.0] };
    check_gradients(&case, |a| a[0].iter().map(|x| x * x).collect(), &[Some(&[2.0, -4.0]), None]);
}
