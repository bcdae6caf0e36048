//! What a simulated run showed, beside what the mathematics of sampling say.

use serde::Serialize;

use super::chart;

/// How one kind of attacker fared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindOutcome {
    /// Its name.
    pub kind: String,
    /// People of this kind.
    pub people: usize,
    /// Identities that they used.
    pub identities: usize,
    /// Lies that were sealed.
    pub lies: u64,
    /// Lies that entered a state.
    pub entered: u64,
    /// Identities that were caught.
    pub caught: u64,
    /// Identities that the sampling was to catch: the sum of the probabilities with which each lie was checked.
    pub expected: f64,
    /// Standard deviation of that.
    pub deviation: f64,
    /// Lies up to the one that was caught, of those who were: the middle, and the one that 95 % do not pass.
    pub lies_until_caught: Option<[u64; 2]>,
}

/// What a simulated run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Rounds.
    pub rounds: u64,
    /// Contributions that were sealed.
    pub contributions: u64,
    /// Honest ones among them.
    pub honest: u64,
    /// Checks that were made.
    pub checks: u64,
    /// Checks for each contribution: what verification costs as a share of the training.
    pub cost: f64,
    /// The same in each round.
    pub cost_by_round: Vec<f64>,
    /// Honest members that were excluded.
    pub falsely_excluded: u64,
    /// Those for a million honest contributions.
    pub falsely_excluded_per_million: f64,
    /// Verifiers that lied and were excluded.
    pub lying_verifiers_excluded: u64,
    /// Verifiers that did not, and were.
    pub honest_verifiers_excluded: u64,
    /// Rounds until each of those that lied was.
    pub rounds_until_excluded: Vec<u64>,
    /// Canaries that were opened.
    pub canaries: u64,
    /// The kinds of attackers.
    pub kinds: Vec<KindOutcome>,
    /// Entries of the ledger.
    pub entries: u64,
}

impl Outcome {
    /// As Markdown.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} rounds, {} contributions, {} ledger entries; {} checks: {:.1} % of the training executed again, {:.1} % in the \
             last round.\nHonest members excluded: {} ({:.2} for a million honest contributions). Verifiers excluded: {} that \
             lied (after {:?} rounds), {} that did not. Canaries: {}.\n\n\
             | attacker | people | identities | lies | entered | caught | sampling says | lies until caught, middle | 95 % |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            self.rounds,
            self.contributions,
            self.entries,
            self.checks,
            100.0 * self.cost,
            100.0 * self.cost_by_round.last().copied().unwrap_or(0.0),
            self.falsely_excluded,
            self.falsely_excluded_per_million,
            self.lying_verifiers_excluded,
            self.rounds_until_excluded,
            self.honest_verifiers_excluded,
            self.canaries,
        );
        for kind in &self.kinds {
            let [middle, most] =
                kind.lies_until_caught.map_or_else(Default::default, |until| until.map(|n| n.to_string()));
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {:.1} ± {:.1} | {middle} | {most} |\n",
                kind.kind,
                kind.people,
                kind.identities,
                kind.lies,
                kind.entered,
                kind.caught,
                kind.expected,
                kind.deviation,
            ));
        }
        text
    }

    /// Checks for each contribution, round by round, as a drawing in SVG.
    ///
    /// # Errors
    ///
    /// The drawing library's words when it fails.
    pub fn plot(&self) -> Result<String, String> {
        chart::draw(&self.cost_by_round)
    }
}
