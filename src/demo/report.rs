//! What the demo says at the end, for people and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use talkoot_evaluation::exam::Example;

/// The demo's report.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) stages: Vec<StageReport>,
    /// Share of held-out questions answered right.
    pub(super) accuracy: f64,
    /// The same of the weights that the run started from.
    pub(super) accuracy_untrained: f64,
    /// The same of the best answer that is always the same.
    pub(super) accuracy_constant: f64,
    /// Right answers and questions, by kind.
    pub(super) accuracy_by_kind: BTreeMap<String, (usize, usize)>,
    pub(super) example: Option<Example>,
    pub(super) nodes: Vec<NodeReport>,
    /// Bytes of the trained parameters in f32 over bytes of a contribution, over all contributions.
    pub(super) compression: f64,
    pub(super) verdicts: Verdicts,
    /// Names of the members that were excluded.
    pub(super) accused: Vec<String>,
    pub(super) parameters: usize,
    pub(super) rounds: u64,
    pub(super) state_hash: String,
    pub(super) ledger_size: u64,
    pub(super) ledger_root: String,
    pub(super) audit: talkoot_verifier::audit::Report,
    pub(super) audit_verdict: talkoot_verifier::audit::Verdict,
    pub(super) wall_s: f64,
    pub(super) dir: String,
}

/// Loss of one stage.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StageReport {
    pub(super) name: String,
    pub(super) rounds: u64,
    /// Mean over the members of their first inner step, in nats a token.
    pub(super) loss_first: f64,
    /// Mean over the members of their last inner step.
    pub(super) loss_last: f64,
    pub(super) tokens: u64,
}

/// Traffic of one node.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeReport {
    pub(super) name: String,
    pub(super) member: String,
    pub(super) rounds: Vec<talkoot_node::status::RoundTraffic>,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

/// Checks over the whole run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdicts {
    pub(super) checked: u64,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) inconclusive: u64,
}

impl Report {
    /// The report for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for stage in &self.stages {
            lines.push(format!(
                "loss       {:<13} {:.3} -> {:.3}   ({} rounds, {} tokens)",
                stage.name, stage.loss_first, stage.loss_last, stage.rounds, stage.tokens
            ));
        }
        lines.push(format!(
            "held out   {:.1} % right; untrained {:.1} %, best constant answer {:.1} %",
            100.0 * self.accuracy,
            100.0 * self.accuracy_untrained,
            100.0 * self.accuracy_constant
        ));
        let kinds: Vec<String> = self
            .accuracy_by_kind
            .iter()
            .map(|(kind, (right, all))| format!("{kind} {right}/{all}"))
            .collect();
        lines.push(format!("           {}", kinds.join(", ")));
        if let Some(example) = &self.example {
            lines.push(format!("asked      {}  ({})", example.question, example.picture));
            lines.push(format!("answered   {}  (right: {})", example.answer, example.right));
        }
        for node in &self.nodes {
            let rounds = node.rounds.len().max(1) as f64;
            lines.push(format!(
                "traffic    {}: {:.0} kB sent and {:.0} kB received a round",
                node.name,
                node.sent_bytes as f64 / 1e3 / rounds,
                node.received_bytes as f64 / 1e3 / rounds
            ));
        }
        lines.push(format!(
            "exchange   contributions {:.0}x smaller than f32 ({} parameters)",
            self.compression, self.parameters
        ));
        lines.push(format!(
            "checks     {} contributions executed again: {} passed, {} failed, {} inconclusive",
            self.verdicts.checked, self.verdicts.passed, self.verdicts.failed, self.verdicts.inconclusive
        ));
        if !self.accused.is_empty() {
            lines.push(format!("excluded   {}", self.accused.join(", ")));
        }
        lines.push(format!("state      {}", self.state_hash));
        lines.push(format!("ledger     {} entries, root {}", self.ledger_size, self.ledger_root));
        lines.push(format!("wall       {:.0} s", self.wall_s));
        lines
    }
}
