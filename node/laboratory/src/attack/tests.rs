//! Small simulations, held to what the rules and the mathematics say.

use super::*;

fn scenario() -> Scenario {
    Scenario {
        honest: 12,
        attackers: Vec::new(),
        verifiers: Verifiers { honest: 1, stamping: 0, accusing: 0 },
        rounds: 30,
        probation: 3,
        rate: 0.2,
        confirmations: 1,
        canaries: 0.0,
        seed: 5,
    }
}

fn run(scenario: &Scenario) -> Outcome {
    scenario.run(|_| ()).unwrap()
}

#[test]
fn honest_members_are_checked_ever_less_and_never_excluded() {
    let outcome = run(&scenario());
    assert_eq!((outcome.rounds, outcome.contributions, outcome.falsely_excluded), (30, 12 * 30, 0));
    assert_eq!(outcome.cost_by_round[..3], [1.0; 3], "probation");
    let late: f64 = outcome.cost_by_round[20..].iter().sum::<f64>() / 10.0;
    assert!((0.1..0.6).contains(&late), "{late}");
    assert_eq!(outcome, run(&scenario()), "a simulation is a function of its scenario");
}

#[test]
fn who_lies_at_once_is_caught_at_once_and_nothing_of_it_enters() {
    let outcome = run(&Scenario { attackers: vec![(Attacker::Lazy, 3)], ..scenario() });
    let lazy = &outcome.kinds[0];
    assert_eq!((lazy.caught, lazy.lies, lazy.entered), (3, 3, 0));
    assert_eq!(lazy.lies_until_caught, Some([1, 1]));
}

#[test]
fn a_new_name_gains_nothing_as_it_is_checked_from_its_first_contribution() {
    let outcome = run(&Scenario { attackers: vec![(Attacker::Whitewasher, 1)], ..scenario() });
    let washer = &outcome.kinds[0];
    assert!(washer.identities > 20, "{washer:?}");
    assert_eq!(washer.entered, 0);
}

#[test]
fn sleepers_are_caught_as_often_as_the_sampling_says() {
    let attackers = vec![(Attacker::Sleeper { honest: 15 }, 60)];
    let outcome = run(&Scenario { honest: 2, attackers, rounds: 60, rate: 0.05, ..scenario() });
    let sleepers = &outcome.kinds[0];
    assert!(sleepers.entered > 0, "some lies pass, or there is nothing to measure");
    let off = (sleepers.caught as f64 - sleepers.expected).abs();
    assert!(off < 4.0 * sleepers.deviation, "{sleepers:?}");
}

#[test]
fn without_a_floor_of_the_rate_a_sleeper_goes_on_longer() {
    let attackers = vec![(Attacker::Sleeper { honest: 100 }, 20)];
    let with = Scenario { honest: 3, attackers, rounds: 130, probation: 1, rate: 0.3, ..scenario() };
    let without = Scenario { rate: 0.0, ..with.clone() };
    let entered = |scenario: &Scenario| run(scenario).kinds[0].entered;
    assert!(entered(&without) > 3 * entered(&with), "{} {}", entered(&without), entered(&with));
}

#[test]
fn a_stamping_verifier_lets_lies_in_and_an_honest_one_beside_it_finds_them() {
    let attackers = vec![(Attacker::Lazy, 3)];
    let stamped =
        Scenario { attackers, verifiers: Verifiers { honest: 0, stamping: 1, accusing: 0 }, ..scenario() };
    assert_eq!(run(&stamped).kinds[0].entered, 3 * 30);
    let watched = Scenario { verifiers: Verifiers { honest: 1, stamping: 1, accusing: 0 }, ..stamped };
    assert_eq!(run(&watched).kinds[0].entered, 0);
}

#[test]
fn one_word_excludes_nobody_where_two_are_needed_and_the_accuser_is_out() {
    let accused = Scenario { verifiers: Verifiers { honest: 2, stamping: 0, accusing: 1 }, ..scenario() };
    let alone = run(&accused);
    assert!(alone.falsely_excluded > 0, "a single word is enough: {alone:?}");
    let confirmed = run(&Scenario { confirmations: 2, ..accused });
    assert_eq!((confirmed.falsely_excluded, confirmed.lying_verifiers_excluded), (0, 1));
    assert_eq!(confirmed.honest_verifiers_excluded, 0);
    assert_eq!(confirmed.contributions, 12 * 30, "nobody is missing");
}

#[test]
fn who_stamps_a_lie_is_out_once_two_others_have_found_it() {
    let attackers = vec![(Attacker::Sleeper { honest: 4 }, 3)];
    let verifiers = Verifiers { honest: 2, stamping: 1, accusing: 0 };
    let outcome = run(&Scenario { attackers, verifiers, confirmations: 2, rate: 0.5, ..scenario() });
    assert_eq!((outcome.lying_verifiers_excluded, outcome.honest_verifiers_excluded), (1, 0));
    assert_eq!((outcome.kinds[0].caught, outcome.falsely_excluded), (3, 0));
}

#[test]
fn canaries_find_a_stamping_verifier_that_nobody_else_would_and_no_other() {
    let verifiers = Verifiers { honest: 1, stamping: 1, accusing: 0 };
    let without = Scenario { verifiers, ..scenario() };
    assert_eq!(run(&without).lying_verifiers_excluded, 0, "there is no lie that it could be found by");
    let with = run(&Scenario { canaries: 0.05, ..without });
    assert_eq!((with.lying_verifiers_excluded, with.honest_verifiers_excluded), (1, 0), "{with:?}");
    assert_eq!(with.falsely_excluded, 0);
    assert!(with.canaries > 0 && with.contributions == 12 * 30, "{with:?}");
    assert!(with.rounds_until_excluded[0] <= 10, "{with:?}");
}

#[test]
fn a_run_that_lost_its_members_says_so() {
    let attackers = vec![(Attacker::Lazy, 5)];
    let error = Scenario { honest: 1, attackers, ..scenario() }.run(|_| ()).unwrap_err();
    assert!(error.to_string().contains("too few members"), "{error}");
}

#[test]
fn texts_name_attackers_and_back() {
    for text in ["lazy", "whitewasher", "sometimes-10", "sleeper-60"] {
        assert_eq!(text.parse::<Attacker>().unwrap().name(), text);
    }
    assert!("sleeper".parse::<Attacker>().unwrap_err().contains("no attacker `sleeper`"));
    assert_eq!("sleeper-x".parse::<Attacker>().unwrap_err(), "`x` is no number");
}
