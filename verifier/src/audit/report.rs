//! What an audit found.

use serde::Serialize;

/// How an audit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was checked is as it is claimed. Exit code 0.
    Sound,
    /// A lie was found. Exit code 1.
    Lie,
    /// No lie was found, but something that ought to be there could not be checked. Exit code 2.
    Inconclusive,
}

/// A lie, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Lie {
    /// The log is not what its operator signed, or shows two histories.
    Log {
        /// What differs.
        reason: String,
    },
    /// An entry breaks a rule of the run.
    Rule {
        /// Its index.
        entry: u64,
        /// The rule.
        reason: String,
    },
    /// The weights that a round led to are not those that its contributions give.
    State {
        /// The round.
        round: u64,
        /// What the ledger says follows.
        claimed: String,
        /// What does follow.
        computed: String,
    },
    /// A contribution that entered the weights is not what its inputs give.
    Contribution {
        /// The round.
        round: u64,
        /// Ledger index of the commit.
        commit: u64,
        /// Who made it.
        member: String,
        /// What a replay found.
        finding: String,
    },
    /// A verifier's word is not what a replay gives.
    FalseVerdict {
        /// Ledger index of the verdict.
        verdict: u64,
        /// Who gave it.
        verifier: String,
        /// What it said.
        said: String,
        /// What a replay found.
        finding: String,
    },
}

impl std::fmt::Display for Lie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Log { reason } => write!(f, "the log: {reason}"),
            Self::Rule { entry, reason } => write!(f, "entry {entry} breaks a rule: {reason}"),
            Self::State { round, claimed, computed } => write!(
                f,
                "round {round}: the ledger says that state {claimed} follows, but the contributions give {computed}"
            ),
            Self::Contribution { round, commit, member, finding } => write!(
                f,
                "round {round}: the contribution of member {member} (entry {commit}) entered the weights, but a replay says: {finding}"
            ),
            Self::FalseVerdict { verdict, verifier, said, finding } => write!(
                f,
                "the verdict in entry {verdict} by verifier {verifier} says {said}, but a replay says: {finding}"
            ),
        }
    }
}

/// Something that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Unchecked {
    /// A blob is missing or damaged, and what depends on it.
    Blob {
        /// The blob.
        digest: String,
        /// What could not be checked without it.
        needed_for: String,
        /// Whether a file is there that does not hash to its name.
        damaged: bool,
    },
    /// The run goes on.
    NotEnded {
        /// What it is waiting for.
        phase: String,
    },
    /// Contributions that were not executed again, because fewer were asked for or a buffer was not archived.
    NotReplayed {
        /// How many.
        contributions: u64,
    },
    /// Nobody but the operator signed the log, so that a second history shown to somebody else would not be seen.
    NoWitnesses,
    /// The log's key was taken from beside the log.
    KeyFromTheLog,
}

impl Unchecked {
    /// Whether an audit that lacks it cannot be called sound.
    const fn is_grave(&self) -> bool {
        matches!(self, Self::Blob { .. })
    }
}

impl std::fmt::Display for Unchecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob { digest, needed_for, damaged } => {
                let state = if *damaged { "damaged" } else { "missing" };
                write!(f, "{needed_for}: blob {digest} is {state}")
            }
            Self::NotEnded { phase } => write!(f, "the end of the run, which is still in the phase {phase}"),
            Self::NotReplayed { contributions } => {
                write!(f, "the training of {contributions} contributions, which were not executed again")
            }
            Self::NoWitnesses => f.write_str(
                "whether others were shown another log: no witness signed, compare checkpoints with theirs",
            ),
            Self::KeyFromTheLog => f.write_str("whose log this is: its key was taken from beside it"),
        }
    }
}

/// How much was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entries of the log.
    pub entries: u64,
    /// Kept checkpoints that are consistent with the last.
    pub checkpoints: u64,
    /// Rounds.
    pub rounds: u64,
    /// Sealed contributions.
    pub contributions: u64,
    /// Aggregations that were computed again.
    pub aggregations: u64,
    /// Contributions that were executed again.
    pub replayed: u64,
    /// Verdicts in the log.
    pub verdicts: u64,
    /// Verdicts that were compared with a replay of our own.
    pub verdicts_checked: u64,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run id.
    pub run: String,
    /// The run's name.
    pub name: String,
    /// Root of the log, base64.
    pub root: String,
    /// The last agreed state.
    pub state: String,
    /// Members that were excluded.
    pub excluded: Vec<String>,
    /// How much was checked.
    pub counts: Counts,
    /// The lies.
    pub lies: Vec<Lie>,
    /// What was not checked.
    pub not_checked: Vec<Unchecked>,
}

impl Report {
    pub(super) fn new(own_key: bool) -> Self {
        let not_checked = if own_key { Vec::new() } else { vec![Unchecked::KeyFromTheLog] };
        Self {
            run: String::new(),
            name: String::new(),
            root: String::new(),
            state: String::new(),
            excluded: Vec::new(),
            counts: Counts::default(),
            lies: Vec::new(),
            not_checked,
        }
    }

    pub(super) fn lie(&mut self, lie: Lie) {
        self.lies.push(lie);
    }

    pub(super) fn unchecked(&mut self, what: Unchecked) {
        if !self.not_checked.contains(&what) {
            self.not_checked.push(what);
        }
    }

    pub(super) fn note_not_replayed(&mut self, contributions: u64) {
        self.unchecked(Unchecked::NotReplayed { contributions });
    }

    /// How the audit ended.
    pub fn verdict(&self) -> Verdict {
        if !self.lies.is_empty() {
            Verdict::Lie
        } else if self.not_checked.iter().any(Unchecked::is_grave) {
            Verdict::Inconclusive
        } else {
            Verdict::Sound
        }
    }

    /// Exit code of the audit: 0, 1 or 2.
    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Verdict::Sound => 0,
            Verdict::Lie => 1,
            Verdict::Inconclusive => 2,
        }
    }

    /// The report for people, line by line.
    pub fn lines(&self) -> Vec<String> {
        let counts = &self.counts;
        let mut lines = vec![
            format!("run       {} ({})", self.name, self.run),
            format!(
                "log       {} entries under {} checkpoints, root {}",
                counts.entries, counts.checkpoints, self.root
            ),
            format!(
                "rules     every entry keeps them; {} rounds, {} contributions",
                counts.rounds, counts.contributions
            ),
            format!(
                "weights   {} aggregations computed again, last state {}",
                counts.aggregations, self.state
            ),
            format!(
                "training  {} contributions executed again, {} of {} verdicts compared",
                counts.replayed, counts.verdicts_checked, counts.verdicts
            ),
        ];
        if self.lies.iter().any(|lie| matches!(lie, Lie::Rule { .. } | Lie::Log { .. })) {
            lines.remove(2);
        }
        lines.extend(self.excluded.iter().map(|member| format!("excluded  {member}")));
        lines.extend(self.lies.iter().map(|lie| format!("LIE       {lie}")));
        lines.extend(self.not_checked.iter().map(|what| format!("not seen  {what}")));
        lines.push(match self.verdict() {
            Verdict::Sound => "verdict   sound: everything that was checked is as it is claimed".to_owned(),
            Verdict::Lie => format!("verdict   LIE: {} found", self.lies.len()),
            Verdict::Inconclusive => {
                "verdict   inconclusive: no lie was found, but blobs are missing".to_owned()
            }
        });
        lines
    }
}
