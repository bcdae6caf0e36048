//! Several devices of one host that take the steps of one member together.
//!
//! ```text
//!             batch 0      batch 1      batch 2      batch 3
//! device 1    forward, backward         forward, backward                    gradients go from batch to batch,
//! device 0                 forward, backward         forward, backward       see `relay`
//!                                                            |
//!                                             norm and AdamW on device 0 --> weights to device 1
//! ```
//! Each device has a copy of the weights and does every so many-th batch of a step. The last batch is the first device's,
//! which so ends with the gradients; it alone has moments. In the class exact the bits are those of one device, since each
//! gradient's chain goes through the same rows in the same order. In every class they are when the batches are the same.
//!
//! Each device has a thread of its own during a step. A device that fails ends the step on all of them.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::{
    backend::{Backend, BackendError, Done},
    config::ModelConfig,
    model::{Batch, Board, Gradients, Keep, Model, ModelError, Sample, Turns},
    state::State,
};

/// Samples that go through the model together.
#[derive(Debug, Clone)]
pub struct Part<'s> {
    /// The samples, in order.
    pub samples: Vec<&'s Sample>,
    /// Factor on the gradient of every position that they learn.
    pub scales: Vec<f32>,
}

impl Part<'_> {
    /// Losses of every learned position, in nats; adds to the gradients.
    fn differentiate<B: Backend>(
        &self,
        model: &Model<'_, B>,
        gradients: &mut Gradients<B>,
    ) -> Result<Vec<f32>, ModelError> {
        let batch = Batch::new(self.samples.iter().copied(), model.config());
        model.differentiate(&batch, &self.scales, gradients)
    }
}

/// What a step's parts gave.
#[derive(Debug)]
pub struct Differentiated<B: Backend> {
    /// Of every part, the losses of its learned positions, in nats.
    pub losses: Vec<Vec<f32>>,
    /// Finished, on the first device.
    pub gradients: Gradients<B>,
}

/// Devices with a copy of the weights each.
#[derive(Debug)]
pub struct Team<'b, B: Backend> {
    first: Model<'b, B>,
    others: Vec<Model<'b, B>>,
    /// What is trained.
    names: Vec<String>,
    /// What gradients and weights travelled in, by their place.
    parcels: Vec<Option<B::Parcel>>,
}

/// Numbers of a team's member as an error says them.
fn of_member<T>(index: usize, of: usize, result: Result<T, ModelError>) -> Result<T, ModelError> {
    result.map_err(|error| match error {
        ModelError::Backend(source) if of > 1 => {
            ModelError::Backend(BackendError::Member { index, of, source: Box::new(source) })
        }
        other => other,
    })
}

impl<'b, B: Backend> Team<'b, B> {
    /// Puts the weights of `state` on a backend and on all that work with it. `names` are the trained parameters.
    ///
    /// # Errors
    ///
    /// As [`Model::new`]; a failure of one of several devices is a [`BackendError::Member`].
    pub fn new(
        backend: &'b B,
        config: &ModelConfig,
        state: &State,
        keep: Keep,
        names: &[String],
    ) -> Result<Self, ModelError> {
        let of = 1 + backend.others().len();
        let model = |(index, backend)| {
            let model = of_member(index, of, Model::to_train(backend, config, state, names))?;
            Ok::<_, ModelError>(model.with_keep(keep))
        };
        let others = backend.others().iter().enumerate().map(|(i, other)| model((i + 1, other)));
        let others = others.collect::<Result<_, _>>()?;
        Ok(Self { first: model((0, backend))?, others, names: names.to_vec(), parcels: Vec::new() })
    }

    /// The model on the first device.
    pub fn first(&self) -> &Model<'b, B> {
        &self.first
    }

    /// The same, for the optimiser; [`Self::spread`] tells the others.
    pub fn first_mut(&mut self) -> &mut Model<'b, B> {
        &mut self.first
    }

    /// Devices.
    fn members(&self) -> usize {
        1 + self.others.len()
    }

    fn models(&self) -> impl Iterator<Item = &Model<'b, B>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Losses of a step's parts and the gradients of all together, added in the order of the parts. All devices have done
    /// what they were asked when this returns.
    ///
    /// # Errors
    ///
    /// [`ModelError`] of the first device that failed; the work of the others is of no use then.
    pub fn differentiate(&mut self, parts: &[Part<'_>]) -> Result<Differentiated<B>, ModelError> {
        let of = self.members();
        let taking_part = of.min(parts.len());
        let done = if taking_part > 1 {
            self.together(parts, taking_part)?
        } else {
            of_member(0, of, alone(&self.first, &self.names, parts))?
        };
        if of > 1 {
            // what goes on from here may write what copies were still reading; they end with the last gradient anyway
            for (index, model) in self.models().enumerate() {
                of_member(index, of, model.backend().settle().map_err(ModelError::from))?;
            }
        }
        Ok(done)
    }

    fn together(&mut self, parts: &[Part<'_>], taking_part: usize) -> Result<Differentiated<B>, ModelError> {
        let of = self.members();
        let mut all = Vec::with_capacity(taking_part);
        for (index, model) in self.models().take(taking_part).enumerate() {
            let gradients = model.gradients(&self.names);
            all.push(of_member(index, of, gradients.and_then(|found| found.reserved(model.backend())))?);
        }
        let mut parcels = std::mem::take(&mut self.parcels);
        parcels.resize_with(all[0].slots(), || None);
        let board = Arc::new(Board::new(parcels));
        let losses = Mutex::new(vec![Vec::new(); parts.len()]);
        let failure = Mutex::new(None);
        let panic = thread::scope(|scope| {
            let start = |(index, (model, gradients))| {
                // the last part is the first device's
                let first = (parts.len() - 1 - index) % taking_part;
                let turns = Turns { first, stride: taking_part, of: parts.len() };
                let worker = Worker { model, parts, turns, board: &board, losses: &losses };
                let failure = &failure;
                scope.spawn(move || {
                    let _guard = GivesUp(worker.board);
                    if let Err(error) = worker.run(gradients) {
                        // those that only waited for the one that failed come later
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        failure.get_or_insert((index, error));
                        worker.board.give_up();
                    }
                })
            };
            let workers: Vec<_> = self.models().zip(&mut all).enumerate().map(start).collect();
            let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.into_iter().find_map(Result::err)
        });
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() || panic.is_some() {
            // before memory is given back that is still copied from and to; a device that is gone copies no more
            self.settle_what_can();
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        all.iter_mut().for_each(Gradients::leave);
        self.parcels = Arc::into_inner(board).map(Board::into_parcels).unwrap_or_default();
        if let Some((index, error)) = failure {
            return of_member(index, of, Err(error));
        }
        let finished = all[0].finish(self.first.backend());
        // the first device's last gradient comes behind all that was copied from the others
        let finished = finished.and_then(|()| Ok(self.first.backend().settle()?));
        if finished.is_err() {
            self.settle_what_can();
        }
        of_member(0, of, finished)?;
        let losses = losses.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Differentiated { losses, gradients: all.swap_remove(0) })
    }

    fn settle_what_can(&self) {
        for model in self.models() {
            let _gone: Done = model.backend().settle();
        }
    }

    /// Copies the trained parameters from the first device to all others.
    ///
    /// # Errors
    ///
    /// [`ModelError`] when a device fails.
    pub fn spread(&mut self) -> Result<(), ModelError> {
        let (of, backend) = (self.members(), self.first.backend());
        if self.others.is_empty() {
            return Ok(());
        }
        if self.parcels.len() < self.names.len() {
            self.parcels.resize_with(self.names.len(), || None);
        }
        for (name, parcel) in self.names.iter().zip(&mut self.parcels) {
            let numbers = self.first.parameter(name);
            let packed = (|| {
                let parcel = match parcel {
                    Some(parcel) => parcel,
                    none => none.insert(backend.parcel(backend.len(numbers))?),
                };
                backend.pack(numbers, parcel)?;
                Ok(parcel)
            })();
            let parcel = of_member(0, of, packed.map_err(ModelError::Backend))?;
            for (i, other) in self.others.iter_mut().enumerate() {
                let to = other.backend();
                let come = other.parameter_mut(name).and_then(|into| {
                    to.unpack(parcel, into)?;
                    Ok(to.arrived(parcel)?)
                });
                of_member(i + 1, of, come)?;
            }
        }
        Ok(())
    }
}

/// Losses and gradients of parts on one device.
pub(crate) fn alone<B: Backend>(
    model: &Model<'_, B>,
    names: &[String],
    parts: &[Part<'_>],
) -> Result<Differentiated<B>, ModelError> {
    let mut gradients = model.gradients(names)?;
    let losses = parts.iter().map(|part| part.differentiate(model, &mut gradients));
    let losses = losses.collect::<Result<_, _>>()?;
    gradients.finish(model.backend())?;
    Ok(Differentiated { losses, gradients })
}

/// Copies under way end before what they read and write is given back.
impl<B: Backend> Drop for Team<'_, B> {
    fn drop(&mut self) {
        if !self.others.is_empty() {
            self.settle_what_can();
        }
    }
}

/// A device's share of a step.
struct Worker<'a, 'b, B: Backend> {
    model: &'a Model<'b, B>,
    parts: &'a [Part<'a>],
    turns: Turns,
    board: &'a Arc<Board<B::Parcel>>,
    losses: &'a Mutex<Vec<Vec<f32>>>,
}

impl<B: Backend> Worker<'_, '_, B> {
    fn run(&self, gradients: &mut Gradients<B>) -> Result<(), ModelError> {
        let Turns { first, stride, of } = self.turns;
        gradients.join(Arc::clone(self.board), self.turns);
        for index in (first..of).step_by(stride) {
            let losses = self.parts[index].differentiate(self.model, gradients)?;
            gradients.end_of_batch(self.model.backend())?;
            self.losses.lock().unwrap_or_else(PoisonError::into_inner)[index] = losses;
        }
        Ok(())
    }
}

/// Lets nobody wait for a thread that panicked.
struct GivesUp<'a, P>(&'a Board<P>);

impl<P> Drop for GivesUp<'_, P> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.give_up();
        }
    }
}
