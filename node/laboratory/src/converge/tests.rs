//! Trials are functions of their options, and differ in what they say they differ in.

use std::sync::LazyLock;

use talkoot_trainer::moments::MomentFormat;

use super::*;
use crate::Material;

static MATERIAL: LazyLock<Material> = LazyLock::new(|| Material::make(60, 1).unwrap());

fn trial(method: Method) -> Trial {
    Trial {
        method,
        size: Size::Tiny,
        members: 2,
        inner_steps: 2,
        total_steps: 4,
        packs_per_step: 1,
        seed: 3,
        lossy: false,
        uneven: false,
        chunk: 4096,
        k: 64,
        bits: 2,
        moments: MomentFormat::F32,
    }
}

fn run(trial: &Trial) -> Curve {
    trial.run(&MATERIAL, |_| ()).unwrap()
}

#[test]
fn a_trial_is_a_function_of_its_options() {
    let public = trial(Method::Public);
    assert_eq!(run(&public), run(&public));
    assert_ne!(run(&public).points, run(&Trial { seed: 4, ..public }).points);
}

#[test]
fn all_methods_start_alike_and_learn() {
    let curves: Vec<Curve> = Method::ALL.iter().map(|method| run(&trial(*method))).collect();
    for curve in &curves {
        assert_eq!(curve.points[0], curves[0].points[0]);
        assert_eq!(curve.points.len(), 3);
        let name = curve.trial.method.name();
        assert!(curve.points[2].loss < curve.points[0].loss, "{name}: {:?}", curve.points);
        assert_eq!(curve.points[2].tokens, curves[0].points[2].tokens, "the same packs, {name}");
    }
    let loss = |method: Method, round: usize| {
        curves.iter().find(|curve| curve.trial.method == method).unwrap().points[round].loss
    };
    // In the first round there is nothing to carry, nor anything published.
    assert_eq!(loss(Method::Fresh, 1), loss(Method::Carried, 1));
    assert_eq!(loss(Method::Fresh, 1), loss(Method::Public, 1));
    assert_ne!(loss(Method::Fresh, 2), loss(Method::Carried, 2));
    assert_ne!(loss(Method::Fresh, 2), loss(Method::Public, 2));
    assert_ne!(loss(Method::Public, 2), loss(Method::PublicSecond, 2));
}

#[test]
fn moments_in_eight_bits_learn_something_else_from_the_first_step_with_a_past_on() {
    let plain = run(&trial(Method::Public));
    let packed = run(&Trial { moments: MomentFormat::EightBit, ..trial(Method::Public) });
    assert_eq!(packed.points[0], plain.points[0]);
    assert_ne!(packed.points[2].loss, plain.points[2].loss);
    let off = (packed.points[2].loss - plain.points[2].loss).abs();
    assert!(off < 0.05 * plain.points[2].loss, "{:?} and {:?}", packed.points, plain.points);
    let text = table(&summarise(&[plain, packed]));
    assert!(text.contains("| public |") && text.contains("| public, 8-bit moments |"), "{text}");
}

#[test]
fn what_is_sent_is_what_the_method_says() {
    let synchronous = run(&trial(Method::Synchronous));
    let diloco = run(&trial(Method::Diloco));
    let fresh = run(&trial(Method::Fresh));
    assert_eq!(synchronous.points[1].bytes, 2 * 4 * synchronous.parameters, "a gradient every step");
    assert_eq!(diloco.points[1].bytes, 4 * diloco.parameters, "a pseudo-gradient every round");
    assert!(fresh.points[1].bytes * 100 < diloco.points[1].bytes);
    assert_eq!(fresh.factor_bytes, 0.0);
    let public = run(&trial(Method::Public));
    assert!(public.factor_bytes > 0.0);
    let more = public.points[1].bytes - fresh.points[1].bytes;
    assert!((more as f64 - public.factor_bytes).abs() < 0.1 * public.factor_bytes, "{more}");
}

#[test]
fn lost_and_slow_members_do_less_and_the_round_goes_on() {
    let even = run(&trial(Method::Public));
    let uneven = run(&Trial { uneven: true, inner_steps: 4, ..trial(Method::Public) });
    assert!(uneven.points[1].tokens < even.points[2].tokens);
    let lossy = run(&Trial { lossy: true, ..trial(Method::Public) });
    assert_ne!(lossy.points[1].loss, even.points[1].loss);
    assert!(lossy.points[2].loss < lossy.points[0].loss);
}

#[test]
fn impossible_trials_are_refused_by_name() {
    let refused = |trial: Trial| trial.run(&MATERIAL, |_| ()).unwrap_err().to_string();
    assert_eq!(
        refused(Trial { inner_steps: 3, ..trial(Method::Fresh) }),
        "the steps of a member must be a multiple of H"
    );
    assert_eq!(refused(Trial { members: 0, ..trial(Method::Fresh) }), "there must be 1 to 256 members");
}

#[test]
fn summaries_join_seeds_and_plots_hold_every_method() {
    let mut curves = vec![run(&trial(Method::Fresh)), run(&trial(Method::Public))];
    curves.push(run(&Trial { seed: 4, ..trial(Method::Fresh) }));
    let summaries = summarise(&curves);
    assert_eq!(summaries.len(), 2);
    let fresh = summaries.iter().find(|summary| summary.method == Method::Fresh).unwrap();
    assert_eq!(fresh.seeds, [3, 4]);
    assert_eq!(fresh.loss, (fresh.losses[0] + fresh.losses[1]) / 2.0);
    assert!(table(&summaries).contains("| fresh |"));
    let folder = tempfile::tempdir().unwrap();
    let names = write_plots(&curves, folder.path()).unwrap();
    assert_eq!(names, ["tiny-2-members-h2-tokens.svg", "tiny-2-members-h2-bytes.svg", "accuracy-bytes.svg"]);
    for name in names {
        let svg = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(svg.contains("fresh") && svg.contains("public") && svg.contains("held-out"), "{svg}");
    }
}
