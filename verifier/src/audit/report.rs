//! What an audit found.

use std::collections::HashSet;

use serde::Serialize;

/// Things of one kind that a person is shown; the rest is in the JSON.
const MOST_LINES: usize = 20;

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
    /// The operator has signed two histories; both notes are the evidence.
    TwoHistories {
        /// What differs.
        reason: String,
        /// The note of the log as it was audited.
        ours: String,
        /// The note that somebody else was shown.
        theirs: String,
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
            Self::TwoHistories { reason, .. } => {
                write!(
                    f,
                    "two histories: {reason}; both notes are in the report's JSON, keep and publish them"
                )
            }
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
        /// Whether something is there that does not hash to its name.
        damaged: bool,
        /// What kept it away, where it may exist.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The checkpoints that the log keeps: a web server cannot be asked for a list of them.
    History,
    /// A checkpoint from elsewhere that could not be held against the log.
    Seen {
        /// Where from.
        from: String,
        /// What kept it from being compared.
        reason: String,
    },
    /// Somebody was shown more of the log than this: it is an old copy, or it is kept back.
    Behind {
        /// Who.
        from: String,
        /// Entries that they were shown.
        seen: u64,
    },
    /// The newest checkpoint is older than a run that goes on has it.
    StandsStill {
        /// Its age in seconds.
        age_s: u64,
        /// The greatest age by the manifest.
        most_s: u64,
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
        matches!(self, Self::Blob { .. } | Self::Seen { .. } | Self::Behind { .. })
    }
}

impl std::fmt::Display for Unchecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob { digest, needed_for, damaged, reason } => {
                let state = match reason {
                    Some(reason) => format!("out of reach: {reason}"),
                    None if *damaged => "damaged".to_owned(),
                    None => "missing".to_owned(),
                };
                write!(f, "{needed_for}: blob {digest} is {state}")
            }
            Self::History => f.write_str(
                "the checkpoints that the log kept: a web server cannot list them; give those that you have with --seen",
            ),
            Self::Seen { from, reason } => write!(f, "the checkpoint from {from}: {reason}"),
            Self::Behind { from, seen } => write!(
                f,
                "what is newest: {from} was shown {seen} entries, so this is an old copy or the log is kept back"
            ),
            Self::StandsStill { age_s, most_s } => write!(
                f,
                "whether the run goes on: its newest checkpoint is {} old, and after {} members say that the log stands still",
                span(*age_s),
                span(*most_s)
            ),
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
    /// Checkpoints from elsewhere that are consistent with the last.
    pub seen: u64,
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

/// The newest checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Entries that it covers.
    pub size: u64,
    /// Its age in seconds.
    pub age_s: u64,
    /// Whether that is by its witnesses' clocks; else it is by the operator's.
    pub by_witnesses: bool,
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
    /// The newest checkpoint.
    pub head: Option<Head>,
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
    /// The same in words, so that nothing is listed twice.
    #[serde(skip)]
    known: HashSet<String>,
}

impl Report {
    pub(super) fn new(own_key: bool) -> Self {
        let not_checked = if own_key { Vec::new() } else { vec![Unchecked::KeyFromTheLog] };
        Self {
            run: String::new(),
            name: String::new(),
            root: String::new(),
            head: None,
            state: String::new(),
            excluded: Vec::new(),
            counts: Counts::default(),
            lies: Vec::new(),
            not_checked,
            known: HashSet::new(),
        }
    }

    pub(super) fn lie(&mut self, lie: Lie) {
        self.lies.push(lie);
    }

    pub(super) fn unchecked(&mut self, what: Unchecked) {
        if self.known.insert(what.to_string()) {
            self.not_checked.push(what);
        }
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
        if let Some(head) = &self.head {
            let clock = if head.by_witnesses { "witnesses'" } else { "operator's" };
            lines.insert(2, format!("head      {} old by the {clock} clock", span(head.age_s)));
        }
        if counts.seen > 0 {
            lines.insert(2, format!("seen      it continues {} checkpoints from elsewhere", counts.seen));
        }
        lines.extend(self.excluded.iter().map(|member| format!("excluded  {member}")));
        lines.extend(cut("LIE       ", &self.lies));
        lines.extend(cut("not seen  ", &self.not_checked));
        lines.push(match self.verdict() {
            Verdict::Sound => "verdict   sound: everything that was checked is as it is claimed".to_owned(),
            Verdict::Lie => format!("verdict   LIE: {} found", self.lies.len()),
            Verdict::Inconclusive => {
                "verdict   inconclusive: no lie was found, but not everything could be seen".to_owned()
            }
        });
        lines
    }
}

/// The first of them, a line each, and how many there are besides.
fn cut<T: std::fmt::Display>(label: &str, all: &[T]) -> Vec<String> {
    let shown = all.iter().take(MOST_LINES).map(|item| format!("{label}{item}"));
    let mut lines: Vec<String> = shown.collect();
    if let Some(more) = all.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        lines.push(format!("{label}and {more} more like these; --json FILE has them all"));
    }
    lines
}

/// Seconds in words.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
