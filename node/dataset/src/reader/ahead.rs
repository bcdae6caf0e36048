//! Reading ahead: packs are read, decoded and resized on threads of their own before they are asked for.
//!
//! ```text
//! plan   7 3 9 4 …      what will be asked for, in order
//!        | `-`-- being read, by a thread each
//!        `-- ready: taken at once
//! ```
//!
//! What is given is what [`PackReader::read`] gives, whoever reads it and whenever: reading ahead changes times, never a
//! bit. A pack that is not in the plan is read when it is asked for.
//!
//! Memory is bounded by [`AheadOptions`]: a thread begins another pack only while fewer packs than allowed are ready or
//! being read, and the ready ones have fewer bytes than allowed. So it goes beyond the bytes by one pack a thread.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use super::{PackReader, ReadError, lock};
use crate::sequence::PackedSequence;

/// How far to read ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadOptions {
    /// Threads that read; without any, packs are read when they are asked for.
    pub threads: usize,
    /// Most packs that are ready or being read.
    pub packs: usize,
    /// Bytes of ready packs from which on no other is begun.
    pub bytes: u64,
}

impl Default for AheadOptions {
    /// Half the cores, at least one and at most eight; 64 packs; 512 MiB.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { threads: (cores / 2).clamp(1, 8), packs: 64, bytes: 512 << 20 }
    }
}

/// Reads packs ahead of whoever takes them. May be shared between threads; dropping it ends its own.
pub struct ReadAhead {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    reader: PackReader,
    options: AheadOptions,
    queue: Mutex<Queue>,
    /// There may be something to read, or it is over.
    work: Condvar,
    /// A pack became ready, or will not.
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    /// What is left of the plan, in order, with ascending ids.
    slots: VecDeque<Slot>,
    next_id: u64,
    ready_bytes: u64,
    closed: bool,
}

struct Slot {
    id: u64,
    pack: u64,
    state: State,
}

enum State {
    Planned,
    Reading,
    Ready(Result<PackedSequence, ReadError>),
}

impl State {
    /// Bytes that a ready pack keeps in memory.
    fn bytes(&self) -> u64 {
        let Self::Ready(Ok(pack)) = self else { return 0 };
        let pictures: usize = pack.images.iter().map(|picture| picture.rgb.len()).sum();
        (pictures + pack.tokens.len() * 12) as u64
    }
}

impl fmt::Debug for ReadAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadAhead").field("reader", &self.shared.reader).finish_non_exhaustive()
    }
}

impl ReadAhead {
    /// Packs of `reader`, with no plan yet. Threads start with the first plan.
    pub fn new(reader: PackReader, options: AheadOptions) -> Self {
        let (queue, work, ready) = Default::default();
        Self { shared: Arc::new(Shared { reader, options, queue, work, ready }), threads: Mutex::default() }
    }

    /// The reader underneath.
    pub fn reader(&self) -> &PackReader {
        &self.shared.reader
    }

    /// Says which packs will be asked for next, in order; an earlier plan is forgotten.
    ///
    /// Packs whose shards are not here yet are tried again when they are asked for.
    pub fn plan(&self, packs: &[u64]) {
        let mut queue = lock(&self.shared.queue);
        queue.slots.clear();
        queue.ready_bytes = 0;
        for &pack in packs {
            let id = queue.next_id;
            queue.next_id += 1;
            queue.slots.push_back(Slot { id, pack, state: State::Planned });
        }
        drop(queue);
        self.shared.work.notify_all();
        self.shared.ready.notify_all();
        self.start_threads();
    }

    fn start_threads(&self) {
        let mut threads = lock(&self.threads);
        while threads.len() < self.shared.options.threads {
            let shared = Arc::clone(&self.shared);
            let name = format!("talkoot-read-{}", threads.len());
            match thread::Builder::new().name(name).spawn(move || shared.read_planned()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // Packs are then read when they are asked for.
                    tracing::warn!(%error, "no thread to read ahead");
                    return;
                }
            }
        }
    }

    /// The pack, which was read ahead if it was planned.
    ///
    /// # Errors
    ///
    /// [`ReadError`] as [`PackReader::read`].
    pub fn take(&self, pack: u64) -> Result<PackedSequence, ReadError> {
        match self.shared.take_ready(pack) {
            Some(Ok(sequence)) => Ok(sequence),
            // What failed ahead of time may have been mended since.
            Some(Err(_)) | None => self.shared.reader.read(pack),
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn wait<'a>(condition: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condition.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// The next pack to read, if there is room for it.
    fn begin(&mut self, options: &AheadOptions) -> Option<(u64, u64)> {
        if self.ready_bytes >= options.bytes {
            return None;
        }
        // Slots are begun in order, so those under way are in front.
        let slots = self.slots.iter_mut().take(options.packs);
        let slot = slots.into_iter().find(|slot| matches!(slot.state, State::Planned))?;
        slot.state = State::Reading;
        Some((slot.id, slot.pack))
    }

    fn find(&mut self, id: u64) -> Option<&mut Slot> {
        let at = self.slots.binary_search_by_key(&id, |slot| slot.id).ok()?;
        self.slots.get_mut(at)
    }

    fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(slot.state.bytes());
        Some(slot)
    }
}

impl Shared {
    /// The planned pack, waited for if it is being read; none when nobody has begun it.
    fn take_ready(&self, pack: u64) -> Option<Result<PackedSequence, ReadError>> {
        let mut queue = lock(&self.queue);
        let at = queue.slots.iter().position(|slot| slot.pack == pack)?;
        // What was passed over is not asked for in order any more.
        for _ in 0..at {
            queue.pop();
        }
        let id = queue.slots.front()?.id;
        while matches!(queue.slots.front(), Some(Slot { id: front, state: State::Reading, .. }) if *front == id)
        {
            queue = wait(&self.ready, queue);
        }
        if queue.slots.front()?.id != id {
            return None;
        }
        let slot = queue.pop()?;
        drop(queue);
        self.work.notify_all();
        match slot.state {
            State::Ready(outcome) => Some(outcome),
            State::Planned | State::Reading => None,
        }
    }

    /// What a reading thread does.
    fn read_planned(&self) {
        loop {
            let (id, pack) = {
                let mut queue = lock(&self.queue);
                loop {
                    if queue.closed {
                        return;
                    }
                    match queue.begin(&self.options) {
                        Some(begun) => break begun,
                        None => queue = wait(&self.work, queue),
                    }
                }
            };
            let begun = Begun { shared: self, id };
            let outcome = self.reader.read(pack);
            begun.done(outcome);
        }
    }
}

/// A pack that a thread has begun. When the thread panics over it, whoever waits is let go to read it alone.
struct Begun<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Begun<'_> {
    fn done(self, outcome: Result<PackedSequence, ReadError>) {
        let mut queue = lock(&self.shared.queue);
        let state = State::Ready(outcome);
        let bytes = state.bytes();
        // The plan may have changed meanwhile.
        if let Some(slot) = queue.find(self.id) {
            slot.state = state;
            queue.ready_bytes += bytes;
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(slot) = lock(&self.shared.queue).find(self.id)
        {
            slot.state = State::Planned;
        }
        self.shared.ready.notify_all();
    }
}
