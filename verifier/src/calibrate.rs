//! What a run's tolerance has to be: honest pairs and lies, measured on the run's own model, data and stage.
//!
//! ```text
//! members of two rounds, each executed in the exact arithmetic       what a verifier computes
//!   the same work in other arithmetics, tensor cores among them      how far honest members are apart
//!   lies: half of the steps, other data, an old start, ...           how far liars are
//! limit = the worst honest number x margin; every lie has to be beyond one limit x margin
//! ```
//! The second round goes on from the first: with error feedback carried over and, where the run has them, public moments.

mod lies;
mod report;
mod rounds;

use std::{fmt, ops::ControlFlow};

use talkoot_execution::{Executed, ExecutionError, Job, Learnt, Packs, Yardstick, execute_with};
use talkoot_protocol::manifest::{Manifest, Tolerance};
use talkoot_trainer::{
    config::ModelConfig,
    cpu::{Cpu, Isa, Level, Products},
    state::State,
};

pub use lies::Lie;
pub use report::{Report, Sample, Unseparated};

use rounds::{Rehearsal, Seat};

/// Does a member's work on tensor cores.
pub type OnTensorCores<'a> = &'a dyn Fn(&Job<'_>, &Packs) -> Result<Executed, ExecutionError>;

/// What is to be measured.
pub struct Calibration<'a> {
    /// The run's rules; its verification class does not matter here.
    pub manifest: &'a Manifest,
    /// The model.
    pub config: &'a ModelConfig,
    /// The weights to start from: better trained ones than untrained ones, where there are some.
    pub start: &'a State,
    /// The stage.
    pub stage: u32,
    /// Its data.
    pub packs: &'a Packs,
    /// Members of each round; each has packs of its own.
    pub members: u32,
    /// Numbers of threads that a library's products are tried with.
    pub threads: &'a [usize],
    /// Tensor cores, where there are some: where members are to train on them, limits have to have seen them.
    pub tensor_cores: Option<OnTensorCores<'a>>,
    /// What the worst honest number is multiplied with.
    pub margin: f64,
}

impl fmt::Debug for Calibration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, members, threads, margin, .. } = self;
        let tensor_cores = self.tensor_cores.is_some();
        write!(
            f,
            "Calibration of stage {stage}: {members} members, {threads:?} threads, tensor cores {tensor_cores}, x {margin}"
        )
    }
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// The manifest has no such stage.
    #[error("the terms have no stage {stage}")]
    NoSuchStage {
        /// Its place.
        stage: u32,
    },
    /// A round cannot be executed.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
    /// Threads could not be started.
    #[error("{threads} threads cannot be started: {reason}")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}

/// An honest way to do the work on a processor.
struct Way {
    name: String,
    isa: Isa,
    products: Products,
    threads: Option<usize>,
}

/// What the way of tensor cores is called in a report.
pub const TENSOR_CORES: &str = "tensor cores";

impl Way {
    /// A library's products on several numbers of threads, and the exact arithmetic with narrower instructions, which is to be
    /// no distance away.
    fn all(threads: &[usize]) -> Vec<Self> {
        let library = |threads: &usize| Self {
            name: format!("library, {threads} threads"),
            isa: Isa::best(),
            products: Products::GemmCrate,
            threads: Some(*threads),
        };
        let exact = Level::ALL.into_iter().filter_map(Isa::new).filter(|isa| *isa != Isa::best());
        let exact = exact.map(|isa| Self {
            name: format!("exact, {}", isa.level().name()),
            isa,
            products: Products::FixedOrder,
            threads: None,
        });
        threads.iter().map(library).chain(exact).collect()
    }

    fn execute(&self, job: &Job<'_>, packs: &Packs) -> Result<Executed, CalibrationError> {
        let cpu = Cpu::new(self.isa, self.products);
        let work = || -> Result<Executed, CalibrationError> {
            Ok(execute_with(&cpu, job, packs, &mut |_, _| ControlFlow::Continue(()))?)
        };
        let Some(threads) = self.threads else { return work() };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| CalibrationError::Threads { threads, reason: error.to_string() })?;
        pool.install(work)
    }
}

impl Calibration<'_> {
    /// Measures honest pairs and lies, and draws the limits. `progress` hears what is being done.
    ///
    /// # Errors
    ///
    /// [`CalibrationError`] when the work cannot be done at all. That limits do not separate is in the report.
    pub fn run(&self, progress: &mut dyn FnMut(&str)) -> Result<Report, CalibrationError> {
        let yardstick = Yardstick::of(self.manifest, self.config, self.stage)?;
        let mut rehearsal = Rehearsal::new(self)?;
        let mut report = Report::new(self.margin, self.manifest, self.stage);
        for _ in 0..rounds::ROUNDS {
            progress(&format!("round {}: what members should have done", rehearsal.number()));
            let seats = rehearsal.seats()?;
            for way in Way::all(self.threads) {
                progress(&format!("round {}: {}", rehearsal.number(), way.name));
                for seat in &seats {
                    let executed = rehearsal.with_job(seat, |job| way.execute(job, self.packs))?;
                    report.honest.push(sample(&yardstick, &way.name, seat, &executed, rehearsal.number())?);
                }
            }
            if let Some(on_tensor_cores) = self.tensor_cores {
                progress(&format!("round {}: {TENSOR_CORES}", rehearsal.number()));
                for seat in &seats {
                    let executed = rehearsal.with_job(seat, |job| on_tensor_cores(job, self.packs))?;
                    report.honest.push(sample(
                        &yardstick,
                        TENSOR_CORES,
                        seat,
                        &executed,
                        rehearsal.number(),
                    )?);
                }
            }
            for lie in Lie::ALL {
                progress(&format!("round {}: {}", rehearsal.number(), lie.name()));
                for (at, seat) in seats.iter().enumerate() {
                    let Some(claimed) = rehearsal.lie(lie, &seats, at)? else { continue };
                    report.lies.push(sample(&yardstick, lie.name(), seat, &claimed, rehearsal.number())?);
                    let signals = rehearsal.look(&seats, at, &claimed)?;
                    report.signals.push((Some(lie), signals));
                }
            }
            progress(&format!("round {}: second signals", rehearsal.number()));
            for (at, seat) in seats.iter().enumerate() {
                report.signals.push((None, rehearsal.look(&seats, at, &seat.exact)?));
            }
            rehearsal.advance(seats)?;
        }
        report.draw();
        Ok(report)
    }
}

fn sample(
    yardstick: &Yardstick,
    what: &str,
    seat: &Seat,
    claimed: &Executed,
    round: u64,
) -> Result<Sample, CalibrationError> {
    let distances = yardstick.distances(learnt(claimed), learnt(&seat.exact), seat.feedback_in.as_deref())?;
    Ok(Sample { what: what.to_owned(), round, distances })
}

fn learnt(executed: &Executed) -> Learnt<'_> {
    Learnt {
        contribution: &executed.contribution,
        feedback_out: &executed.feedback_out,
        steps: &executed.trace.steps,
    }
}

/// The tolerance of these limits, in the order of the manifest's fields.
fn tolerance(limits: [f64; 7]) -> Tolerance {
    let [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments] =
        limits.map(talkoot_protocol::real::Real::new);
    Tolerance { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments }
}
