//! The demo from its first line to its last.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use talkoot_dataset::SynthOptions;
use talkoot_evaluation::exam::Exam;
use talkoot_network::keyfile;
use talkoot_node::{Cheat, status::Status};
use talkoot_protocol::{
    digest::Digest,
    event::{Event, Role},
    identity::Keypair,
    manifest::Terms,
    real::Real,
    run::{Phase, RunState},
};
use talkoot_trainer::{huggingface, state::State};
use talkoot_verifier::audit;

use super::{
    cast::{Actor, wait_for_file},
    data::{self, Data},
    report::{NodeReport, Report, StageReport, Verdicts},
    screen::Screen,
    watch::{Happening, LedgerWatch},
};
use crate::commands::run::{NewFolder, create, export_model};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long a process may take to start. It is no bound on the run, only on a start that hangs.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Without any new entry for this long the run is stuck, and the demo says so rather than waiting for ever.
const STUCK: Duration = Duration::from_secs(400);

/// Number of training nodes.
const NODES: usize = 3;

/// Round in whose middle `--kill` kills a node, and then, one round later, the coordinator.
const KILL_ROUND: u64 = 3;

/// Share of the contributions that the demo's audit executes again.
const AUDIT_SHARE: f64 = 0.05;

/// What is to be played.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) cheat: Option<Cheat>,
    pub(crate) kill: bool,
    pub(crate) short: bool,
    pub(crate) threads: Option<usize>,
}

/// Plays the demo.
pub(crate) fn play(script: &Script) -> Result<ExitCode> {
    let start = Instant::now();
    let mut screen = Screen::new();
    let dir = script.folder()?;
    screen.headline("Talkoot demo");
    screen.line(format!("  everything is kept in {}", dir.display()));
    let terms = script.terms()?;

    let publisher = Keypair::from_seed(script.secret("publisher"));
    let data = data::make(&dir.join("data"), &terms, &script.synth(), &publisher)?;
    screen.line(format!("  data: {}", data.summary));
    let run_dir = dir.join("run");
    let made = create(&NewFolder {
        dir: &run_dir,
        terms,
        datasets: &data.manifests,
        tokenizer: &data.tokenizer,
        model: None,
        operator_seed: Some(script.secret("operator")),
    })?;
    screen.line(format!("  run:  {}", made.run));

    let mut stage = Stage::set(script, &dir, &run_dir, &mut screen)?;
    screen.curtain_up();
    let mut watch = LedgerWatch::new(&run_dir.join("ledger"));
    let history = stage.perform(&screen, &mut watch, script.kill)?;
    screen.curtain_down();
    let state = watch.state().context("the ledger is empty")?;

    let model = dir.join("model");
    export_model(&run_dir, &model)?;
    for log in ["checkpoint", "log.vkey"] {
        ensure!(run_dir.join("ledger").join(log).exists(), "the ledger has no {log}");
    }
    let report = conclude(&Finale {
        script,
        start,
        dir: &dir,
        run_dir: &run_dir,
        model: &model,
        data: &data,
        stage: &stage,
        state,
        history: &history,
        screen: &screen,
    })?;
    screen.headline("report");
    for line in report.lines() {
        screen.line(format!("  {line}"));
    }
    screen.headline("audit, from the files alone");
    for line in report.audit.lines() {
        screen.line(format!("  {line}"));
    }
    screen.line(format!(
        "\n  model   {}\n  again   talkoot audit {}\n  ask     talkoot chat --model {} --image PICTURE --question TEXT",
        model.display(),
        run_dir.display(),
        model.display()
    ));
    if let Some(path) = &script.json {
        let json = serde_json::to_vec_pretty(&report)?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(script.verdict(&report, &screen))
}

impl Script {
    fn folder(&self) -> Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("talkoot-demo-{}", std::process::id())),
        };
        if dir.join("run").exists() {
            bail!("{} already holds a demo; choose another folder or remove it", dir.display());
        }
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        fs::canonicalize(&dir).with_context(|| format!("finding {}", dir.display()))
    }

    fn terms(&self) -> Result<Terms> {
        let mut terms = Terms::from_toml(include_str!("terms.toml"))?;
        terms.seed = self.seed;
        if self.short {
            // So few rounds leave little room for chance: everything is checked.
            terms.verification.rate = Real::new(1.0);
            for stage in &mut terms.stages {
                stage.rounds = 3;
                stage.inner_steps = 3;
                stage.packs_per_step = 1;
            }
        }
        terms.validate()?;
        Ok(terms)
    }

    fn synth(&self) -> SynthOptions {
        let full = SynthOptions { seed: self.seed, ..SynthOptions::default() };
        if self.short { SynthOptions { train_pictures: 120, heldout_pictures: 20, ..full } } else { full }
    }

    /// A secret that follows from the seed. Only a demo may do this: a run that can be repeated has no secrets.
    fn secret(&self, whose: &str) -> [u8; 32] {
        *Digest::of(format!("talkoot demo {} {whose}", self.seed).as_bytes()).as_bytes()
    }

    /// Whether everything went as it should, and the exit code that says so.
    fn verdict(&self, report: &Report, screen: &Screen) -> ExitCode {
        let liar = format!("node-{NODES}");
        let expected: Vec<String> = self.cheat.iter().map(|_| liar.clone()).collect();
        let mut wrong = Vec::new();
        if report.accused != expected {
            wrong.push(format!("excluded were {:?} instead of {expected:?}", report.accused));
        }
        if report.audit_verdict != audit::Verdict::Sound {
            wrong.push("the audit does not find the run sound".to_owned());
        }
        if wrong.is_empty() {
            screen.line("\n  demo passed");
            ExitCode::SUCCESS
        } else {
            screen.line(format!("\n  demo FAILED: {}", wrong.join("; ")));
            ExitCode::FAILURE
        }
    }
}

/// The processes.
struct Stage {
    coordinator: Actor,
    nodes: Vec<Actor>,
    node_dirs: Vec<PathBuf>,
    verifier: Actor,
    verifier_started: bool,
}

/// What the demo remembers of the run for its report.
#[derive(Default)]
struct History {
    stages: Vec<StageReport>,
    contribution_bytes: u64,
    trained_bytes: u64,
}

impl Stage {
    /// Starts the coordinator and the nodes.
    fn set(script: &Script, dir: &Path, run_dir: &Path, screen: &mut Screen) -> Result<Self> {
        let text = |path: &Path| path.display().to_string();
        // Five processes share this machine: one thread each, unless told otherwise.
        let threads = script.threads.unwrap_or(1);
        let local = ["--listen", "127.0.0.1:0", "--bulk-listen", "127.0.0.1:0"].map(str::to_owned);
        // The coordinator's port has to be known beforehand: it is killed and has to be found again.
        let port = free_port()?;
        let mut arguments = vec!["coordinator".to_owned()];
        arguments.extend([
            "--dir".to_owned(),
            text(run_dir),
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
        ]);
        arguments.extend(["--bulk-listen".to_owned(), "127.0.0.1:0".to_owned()]);
        let mut coordinator = Actor::new(dir, "coordinator", threads, arguments);
        coordinator.start()?;
        let link_file = run_dir.join("link.txt");
        let link = wait_for_file(&link_file, &mut coordinator, START_LIMIT)?;
        screen.line(format!("  join: {link}"));

        let mut nodes = Vec::new();
        let mut node_dirs = Vec::new();
        for i in 1..=NODES {
            let name = format!("node-{i}");
            let node_dir = dir.join(&name);
            let key = Keypair::from_seed(script.secret(&name));
            keyfile::write(&node_dir.join("keys/node.key"), &key)?;
            screen.name(key.id(), &name);
            let mut arguments = vec!["node".to_owned()];
            arguments.extend(["--dir".to_owned(), text(&node_dir), "--join".to_owned(), link.clone()]);
            arguments.extend(local.clone());
            if i == NODES
                && let Some(cheat) = script.cheat
            {
                arguments.extend(["--cheat".to_owned(), cheat.to_string()]);
            }
            let mut node = Actor::new(dir, &name, threads, arguments);
            node.start()?;
            nodes.push(node);
            node_dirs.push(node_dir);
        }
        let verifier_dir = dir.join("verifier");
        let key = Keypair::from_seed(script.secret("verifier"));
        keyfile::write(&verifier_dir.join("keys/verifier.key"), &key)?;
        screen.name(key.id(), "verifier");
        let mut arguments = vec!["verifier".to_owned()];
        arguments.extend(["--dir".to_owned(), text(&verifier_dir), "--join".to_owned(), link]);
        arguments.extend(local);
        let verifier = Actor::new(dir, "verifier", threads, arguments);
        Ok(Self { coordinator, nodes, node_dirs, verifier, verifier_started: false })
    }

    /// Follows the run to its end.
    fn perform(&mut self, screen: &Screen, watch: &mut LedgerWatch, kill: bool) -> Result<History> {
        let mut history = History::default();
        let mut last_news = Instant::now();
        let mut kills = if kill { vec![Kill::Coordinator, Kill::Node] } else { Vec::new() };
        loop {
            let news = watch.read_new(|happening, state| {
                screen.tell(happening, state);
                history.note(happening, state);
            })?;
            if news > 0 {
                last_news = Instant::now();
            }
            let Some(state) = watch.state() else { continue };
            // No round opens without a verifier: it comes last, so that the first round has all nodes in it.
            if !self.verifier_started && state.active(Role::Trainer).count() == NODES {
                self.verifier.start()?;
                self.verifier_started = true;
            }
            screen.progress(state, &self.doing(state));
            if let Some(next) = kills.last().copied()
                && next.is_due(state)
            {
                kills.pop();
                self.kill_and_restart(next, screen)?;
            }
            if state.phase() == Phase::Ended {
                break;
            }
            self.check_alive(state)?;
            if last_news.elapsed() > STUCK {
                bail!("nothing has happened for {} s; see the logs", STUCK.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        self.coordinator.wait()?;
        for node in &mut self.nodes {
            node.wait()?;
        }
        self.verifier.wait()?;
        Ok(history)
    }

    fn doing(&self, state: &RunState) -> String {
        let steps: Vec<String> = self
            .node_dirs
            .iter()
            .filter_map(|dir| Status::read(&dir.join("status.json")).ok())
            .map(|status| match (state.phase(), status.loss) {
                (Phase::Training, Some(loss)) => format!("{}/{} {loss:.2}", status.step, status.steps),
                _ => "-".to_owned(),
            })
            .collect();
        format!("{}, round {}: {}", state.phase(), state.progress().next_round, steps.join("  "))
    }

    fn kill_and_restart(&mut self, kill: Kill, screen: &Screen) -> Result<()> {
        let actor = match kill {
            Kill::Node => &mut self.nodes[0],
            Kill::Coordinator => &mut self.coordinator,
        };
        screen.line(format!("  {} is killed (SIGKILL) and started again", actor.name));
        actor.kill()?;
        actor.start()
    }

    fn check_alive(&mut self, state: &RunState) -> Result<()> {
        let excluded = state.members().values().any(|member| member.excluded.is_some());
        if let Some(status) = self.coordinator.ended()? {
            bail!("the coordinator ended ({status}): {}", self.coordinator.last_words());
        }
        for node in &mut self.nodes {
            // An excluded node stops, as it should.
            if let Some(status) = node.ended()?
                && !excluded
            {
                bail!("{} ended ({status}): {}", node.name, node.last_words());
            }
        }
        if let Some(status) = self.verifier.ended()? {
            bail!("the verifier ended ({status}): {}", self.verifier.last_words());
        }
        Ok(())
    }
}

/// Whom `--kill` kills.
#[derive(Debug, Clone, Copy)]
enum Kill {
    Node,
    Coordinator,
}

impl Kill {
    /// In the middle of a round: it is open, and nobody has committed yet.
    fn is_due(self, state: &RunState) -> bool {
        let round = match self {
            Self::Node => KILL_ROUND,
            Self::Coordinator => KILL_ROUND + 1,
        };
        state.phase() == Phase::Training && state.round().is_some_and(|open| open.open.round >= round)
    }
}

impl History {
    /// Notes what an entry adds.
    fn note(&mut self, happening: &Happening, state: &RunState) {
        match &happening.event {
            Event::RoundOpen(open) => {
                let known = self.stages.len() as u64 > u64::from(open.stage);
                if !known && let Some((stage, _)) = state.manifest().stage(open.stage) {
                    self.stages.push(StageReport {
                        name: stage.name.clone(),
                        rounds: 0,
                        loss_first: 0.0,
                        loss_last: 0.0,
                        tokens: 0,
                    });
                }
            }
            Event::RoundClose(_) => self.close(state),
            Event::Commit(commit) => {
                self.contribution_bytes += commit.contribution.bytes;
                // The error-feedback buffer is one f32 for each trained parameter and a small header.
                self.trained_bytes += commit.feedback_out.bytes;
            }
            _ => {}
        }
    }

    fn close(&mut self, state: &RunState) {
        let (Some(round), Some(stage)) = (state.round(), self.stages.last_mut()) else { return };
        let included = round.included();
        if included.is_empty() {
            return;
        }
        let count = included.len() as f64;
        let mean = |value: fn(&talkoot_protocol::event::Commit) -> u64| {
            included.iter().map(|(_, record)| value(&record.commit) as f64).sum::<f64>() / count / 1e6
        };
        if stage.rounds == 0 {
            stage.loss_first = mean(|commit| commit.loss_first_micronats);
        }
        stage.loss_last = mean(|commit| commit.loss_last_micronats);
        stage.rounds += 1;
        stage.tokens += included.iter().map(|(_, record)| record.commit.tokens).sum::<u64>();
    }
}

/// What the end of the demo needs.
struct Finale<'a> {
    script: &'a Script,
    start: Instant,
    dir: &'a Path,
    run_dir: &'a Path,
    model: &'a Path,
    data: &'a Data,
    stage: &'a Stage,
    state: &'a RunState,
    history: &'a History,
    screen: &'a Screen,
}

fn conclude(finale: &Finale<'_>) -> Result<Report> {
    let state = finale.state;
    let tokenizer = fs::read(&finale.data.tokenizer)?;
    let exam = Exam::load(&finale.data.heldout, &finale.data.pictures, &tokenizer)?;
    let (config, weights) = huggingface::read_folder(finale.model)?;
    ensure!(
        weights.digest() == state.state().digest,
        "the exported model does not hash to the state that the ledger ends with"
    );
    let trained = exam.sit(&config, &weights)?;
    let untrained = exam.sit(&config, &State::initial(&config, finale.script.seed))?;
    let (ledger, blobs) = audit::folders_of(finale.run_dir);
    let options = audit::Options {
        ledger: audit::LogPlace::Folder(ledger),
        blobs: audit::Blobs::in_folder(&blobs),
        log_key: None,
        replay: AUDIT_SHARE,
        seed: finale.script.seed,
        seen: Vec::new(),
        trail: None,
        now_ms: audit::now_ms(),
    };
    let audit = audit::audit(&options, &mut |_| ())?;
    let nodes = finale
        .stage
        .nodes
        .iter()
        .zip(&finale.stage.node_dirs)
        .map(|(node, dir)| {
            let status = Status::read(&dir.join("status.json"))
                .with_context(|| format!("the status of {}", node.name))?;
            Ok(NodeReport {
                name: node.name.clone(),
                member: status.member,
                sent_bytes: status.rounds.iter().map(|round| round.sent_bytes).sum(),
                received_bytes: status.rounds.iter().map(|round| round.received_bytes).sum(),
                rounds: status.rounds,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let totals = state.totals();
    Ok(Report {
        stages: finale.history.stages.clone(),
        accuracy: trained.accuracy,
        accuracy_untrained: untrained.accuracy,
        accuracy_constant: exam.best_constant(),
        accuracy_by_kind: trained.by_kind,
        example: trained.example,
        nodes,
        compression: finale.history.trained_bytes as f64 / finale.history.contribution_bytes.max(1) as f64,
        verdicts: Verdicts {
            checked: totals.passed + totals.failed + totals.inconclusive,
            passed: totals.passed,
            failed: totals.failed,
            inconclusive: totals.inconclusive,
        },
        accused: state
            .members()
            .iter()
            .filter(|(_, member)| member.excluded.is_some())
            .map(|(id, _)| finale.screen.name_of(id))
            .collect(),
        parameters: weights.parameter_count(),
        rounds: state.progress().next_round,
        state_hash: state.state().digest.to_string(),
        ledger_size: state.size(),
        ledger_root: state.root().to_string(),
        audit_verdict: audit.verdict(),
        audit,
        wall_s: finale.start.elapsed().as_secs_f64(),
        dir: finale.dir.display().to_string(),
    })
}

/// A UDP port of the loopback that nobody uses at the moment.
fn free_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind("127.0.0.1:0").context("looking for a free port")?.local_addr()?.port())
}
