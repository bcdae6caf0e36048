//! What judging a bundle found, for people and programs.

use serde::Serialize;

use super::{Bundle, Question, Ruling};
use crate::audit::describe;

/// Somebody who said what is not so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Liar {
    /// `member` or `accuser`.
    pub role: &'static str,
    /// Its key.
    pub who: String,
    /// What it says, and what is so.
    pub how: String,
}

/// What judging a bundle found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DisputeReport {
    /// The run id.
    pub run: String,
    /// The run's name.
    pub name: String,
    /// Entries in the bundle's log.
    pub entries: u64,
    /// Number of the round.
    pub round: u64,
    /// Ledger index of the commit.
    pub commit: u64,
    /// Who is accused.
    pub member: String,
    /// Who accuses.
    pub accuser: String,
    /// What the accuser says.
    pub said: String,
    /// Inner steps that were executed.
    pub executed_steps: usize,
    /// Who lied; both may have.
    pub liars: Vec<Liar>,
    /// What was checked.
    pub checked: Vec<String>,
    /// What was not.
    pub not_checked: Vec<String>,
    /// Why nothing could be said.
    pub refused: Option<String>,
}

impl DisputeReport {
    pub(super) fn new(own_key: bool) -> Self {
        let mut report = Self::default();
        if !own_key {
            let whose =
                "whose log this is: its key was taken from the bundle; give the one that you know with --key";
            report.not_checked.push(whose.to_owned());
        }
        report
    }

    pub(super) fn describe(&mut self, bundle: &Bundle) {
        self.run = bundle.state.run().to_string();
        self.name.clone_from(&bundle.state.manifest().terms.name);
        self.entries = bundle.entries;
        self.round = bundle.round.open.round;
        self.commit = bundle.index;
        self.member = bundle.member.to_string();
        self.accuser = bundle.accuser.to_string();
        self.said = describe(&talkoot_protocol::event::Finding::Fail(bundle.accusation.clone()));
        self.checked(format!("the log: signature, tiles, all rules over {} entries", bundle.entries));
        self.checked("the signatures of member and accuser".to_owned());
    }

    pub(super) fn checked(&mut self, what: String) {
        self.checked.push(what);
    }

    pub(super) fn rule(&mut self, bundle: &Bundle, question: &Question, ruling: &Ruling) {
        self.executed_steps = ruling.executed;
        match ruling.executed {
            0 => self.checked(format!("{question}, without executing a step")),
            steps => self.checked(format!("{question}: executed again, {steps} of {}", bundle.commit.steps)),
        }
        let liar = |role, who: &str, how: &Option<String>| {
            how.clone().map(|how| Liar { role, who: who.to_owned(), how })
        };
        self.liars.extend(liar("member", &self.member, &ruling.member));
        self.liars.extend(liar("accuser", &self.accuser, &ruling.accuser));
        if ruling.member.is_none() {
            let rest = "the member's other steps: both agree on what came before, and two can agree on a lie; a whole replay \
                        tells";
            self.not_checked.push(rest.to_owned());
        }
    }

    /// Exit code: 1 when somebody lied, 2 when the bundle shows nothing. A dispute in which nobody lied does not exist, as the two
    /// contradict each other; 0 is for what may come.
    pub fn exit_code(&self) -> u8 {
        match (&self.refused, self.liars.is_empty()) {
            (Some(_), _) => 2,
            (None, false) => 1,
            (None, true) => 0,
        }
    }

    /// The report for people, line by line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.run.is_empty() {
            lines.push(format!("run       {} ({})", self.name, self.run));
            lines.push(format!(
                "dispute   entry {} in round {} by member {}",
                self.commit, self.round, self.member
            ));
            lines.push(format!("accuser   verifier {} says: {}", self.accuser, self.said));
        }
        lines.extend(self.checked.iter().map(|what| format!("checked   {what}")));
        lines.extend(
            self.liars.iter().map(|Liar { role, who, how }| format!("LIE       {role} {who}: {how}")),
        );
        lines.extend(self.not_checked.iter().map(|what| format!("not seen  {what}")));
        let roles: Vec<&str> = self.liars.iter().map(|liar| liar.role).collect();
        lines.push(match (&self.refused, roles.as_slice()) {
            (Some(reason), _) => format!("verdict   inconclusive: {reason}"),
            (None, []) => "verdict   nobody lied".to_owned(),
            (None, roles) => format!("verdict   LIE: the {} lied", roles.join(" and the ")),
        });
        lines
    }
}
