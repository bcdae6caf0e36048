//! What the demo shows while it plays: a line for what has happened, a bar for what goes on.

use std::{collections::BTreeMap, time::Duration};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use talkoot_protocol::{
    event::{Event, Finding, Role},
    identity::MemberId,
    run::RunState,
};
use talkoot_verifier::audit::describe;

use super::watch::Happening;

/// The demo's terminal.
pub(super) struct Screen {
    bar: ProgressBar,
    names: BTreeMap<MemberId, String>,
    /// Kept for people who watch a pipe or a file rather than a terminal.
    plain: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(1);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed_precise} [{wide_bar}] {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        let plain = bar.is_hidden();
        Self { bar, names: BTreeMap::new(), plain }
    }

    /// Gives a member the name that people read.
    pub(super) fn name(&mut self, member: MemberId, name: &str) {
        self.names.insert(member, name.to_owned());
    }

    /// The name that people read.
    pub(super) fn name_of(&self, member: &MemberId) -> String {
        self.names.get(member).cloned().unwrap_or_else(|| member.short())
    }

    /// A line that stays.
    pub(super) fn line(&self, text: impl AsRef<str>) {
        if self.plain {
            crate::commands::tell(text.as_ref());
        } else {
            self.bar.println(text);
        }
    }

    /// A headline.
    pub(super) fn headline(&self, text: &str) {
        self.line(format!("\n{}", style(text).bold()));
    }

    /// How far the run is, of all its rounds.
    pub(super) fn progress(&self, state: &RunState, doing: &str) {
        let rounds: u64 = state.manifest().terms.stages.iter().map(|stage| u64::from(stage.rounds)).sum();
        self.bar.set_length(rounds);
        self.bar.set_position(state.progress().next_round.saturating_sub(1).min(rounds));
        self.bar.set_message(doing.to_owned());
    }

    /// Starts the bar's clock.
    pub(super) fn curtain_up(&self) {
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    /// Takes the bar away.
    pub(super) fn curtain_down(&self) {
        self.bar.finish_and_clear();
    }

    /// Tells what an entry means, when it means something to somebody who watches.
    pub(super) fn tell(&self, news: &Happening, state: &RunState) {
        match &news.event {
            Event::Join(join) => {
                self.line(format!("  {} joins as a {}", self.name_of(&news.author), join.role));
            }
            Event::Leave(_) => self.line(format!("  {} leaves", self.name_of(&news.author))),
            Event::RoundOpen(open) if state.progress().rounds_in_stage == 0 => {
                if let Some((stage, dataset)) = state.manifest().stage(open.stage) {
                    let modules: Vec<String> =
                        stage.trainable.iter().map(|module| format!("{module:?}").to_lowercase()).collect();
                    self.headline(&format!(
                        "stage {} of {}: {} ({} learns; {} packs)",
                        open.stage + 1,
                        state.manifest().terms.stages.len(),
                        stage.name,
                        modules.join(", "),
                        dataset.packs
                    ));
                }
            }
            Event::Verdict(verdict) => {
                if let Finding::Fail(_) = &verdict.finding {
                    let member = state
                        .round()
                        .and_then(|round| round.commit_at(verdict.commit))
                        .map_or_else(String::new, |(member, _)| self.name_of(member));
                    self.line(format!(
                        "  {} {member}: {} (entry {})",
                        style("caught").red().bold(),
                        describe(&verdict.finding),
                        news.index
                    ));
                }
            }
            Event::Penalty(penalty) => self.line(format!(
                "  {} is excluded because of the verdict in entry {}",
                self.name_of(&penalty.member),
                penalty.verdict
            )),
            Event::RoundClose(_) => {
                if let Some(line) = round_line(state) {
                    self.line(line);
                }
            }
            _ => {}
        }
    }
}

fn round_line(state: &RunState) -> Option<String> {
    let round = state.round()?;
    let included = round.included();
    let count = included.len().max(1) as f64;
    let mean = |value: fn(&talkoot_protocol::event::Commit) -> u64| {
        included.iter().map(|(_, record)| value(&record.commit) as f64).sum::<f64>() / count
    };
    let passed = round.verdicts.iter().filter(|verdict| verdict.finding == Finding::Pass).count();
    let members = state.active(Role::Trainer).count();
    Some(format!(
        "  round {:>2}  loss {:.3} -> {:.3}  {} of {} members  {:>6.1} kB each  {} checked, {} passed",
        round.open.round + 1,
        mean(|commit| commit.loss_first_micronats) / 1e6,
        mean(|commit| commit.loss_last_micronats) / 1e6,
        included.len(),
        members.max(included.len()),
        mean(|commit| commit.contribution.bytes) / 1e3,
        round.verdicts.len(),
        passed
    ))
}
