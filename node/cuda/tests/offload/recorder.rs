//! Devices that only take notes, and play them later in an order that their lanes and events allow.
//!
//! Each lane of each device is a queue. What stands first in one may happen at any time, unless it waits for an event whose note has not been
//! played. A call that waits on a GPU for the kernels before it plays until their queue is empty, and no further; so what is
//! under way in the other lanes, and on the other devices, stays under way, as on GPUs.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use talkoot_cuda::{
    device::{Argument, Device, DeviceError, Lane, Shape},
    kernels::Kernel,
};
use talkoot_emulator::{Emulator, Order};

pub(crate) type Memory = Arc<<Emulator as Device>::Memory>;
pub(crate) type Pinned = Arc<Mutex<Vec<u8>>>;
/// The last note of it, if any.
pub(crate) type Event = Arc<Mutex<Option<u64>>>;

/// Which lane goes first where several could.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Preference {
    /// Always in this order.
    Lanes([Lane; 3]),
    /// Any, from this seed.
    Random(u64),
}

impl Preference {
    /// Every order of the lanes, and some that are none.
    pub(crate) fn all() -> Vec<Self> {
        use Lane::{Kernels, ToDevice, ToHost};
        let orders = [
            [Kernels, ToDevice, ToHost],
            [Kernels, ToHost, ToDevice],
            [ToDevice, Kernels, ToHost],
            [ToDevice, ToHost, Kernels],
            [ToHost, Kernels, ToDevice],
            [ToHost, ToDevice, Kernels],
        ];
        orders.map(Self::Lanes).into_iter().chain((1..=10).map(Self::Random)).collect()
    }
}

/// An argument that lives as long as its note.
#[derive(Debug)]
enum Owned {
    Memory(Memory, usize),
    Null,
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
}

#[derive(Debug)]
enum Note {
    Launch(Kernel, Shape, Vec<Owned>),
    ToDevice { from: Pinned, from_at: usize, to: Memory, to_at: usize, bytes: usize },
    ToHost { from: Memory, from_at: usize, to: Pinned, to_at: usize, bytes: usize },
    Record(u64),
    Wait(u64),
}

/// The queues of a device, by lane.
type Lanes = [VecDeque<Note>; 3];

#[derive(Debug)]
struct Notes {
    /// Of every device.
    lanes: Vec<Lanes>,
    below: Vec<Arc<Emulator>>,
    played: BTreeSet<u64>,
    records: u64,
    random: u64,
    /// Lanes of copies that were played past a kernel that was noted before: how much overlap there was.
    overlaps: usize,
}

/// One of devices whose notes are played together.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Its place among them.
    device: usize,
    below: Arc<Emulator>,
    preference: Preference,
    notes: Arc<Mutex<Notes>>,
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Kernels => 0,
        Lane::ToDevice => 1,
        Lane::ToHost => 2,
    }
}

impl Recorder {
    /// None where kernels cannot be emulated.
    pub(crate) fn new(preference: Preference) -> Option<Self> {
        Self::several(1, preference).map(|mut one| one.remove(0))
    }

    /// So many devices that can wait for one another's events.
    pub(crate) fn several(count: usize, preference: Preference) -> Option<Vec<Self>> {
        let random = match preference {
            Preference::Random(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            Preference::Lanes(_) => 1,
        };
        let below: Option<Vec<_>> = (0..count).map(|_| Emulator::new(Order::Forward).map(Arc::new)).collect();
        let below = below?;
        let notes = Arc::new(Mutex::new(Notes {
            lanes: below.iter().map(|_| Lanes::default()).collect(),
            below: below.clone(),
            played: BTreeSet::new(),
            records: 0,
            random,
            overlaps: 0,
        }));
        let device = |(device, below)| Self { device, below, preference, notes: Arc::clone(&notes) };
        Some(below.into_iter().enumerate().map(device).collect())
    }

    /// How often a copy was played while a kernel was waiting.
    pub(crate) fn overlaps(&self) -> usize {
        self.notes().overlaps
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    fn note(&self, lane: Lane, note: Note) {
        self.notes().lanes[self.device][index(lane)].push_back(note);
    }

    /// Plays until `done` of this device's lanes.
    fn play(&self, done: impl Fn(&Lanes) -> bool) -> Result<(), DeviceError> {
        let notes = &mut *self.notes();
        while !done(&notes.lanes[self.device]) {
            let ready = |&(device, lane): &(usize, usize)| match notes.lanes[device][lane].front() {
                Some(Note::Wait(record)) => notes.played.contains(record),
                Some(_) => true,
                None => false,
            };
            let all = (0..notes.lanes.len()).flat_map(|device| (0..3).map(move |lane| (device, lane)));
            let ready: Vec<(usize, usize)> = all.filter(ready).collect();
            assert!(!ready.is_empty(), "all lanes wait for one another: {:?}", notes.lanes);
            let (device, lane) = match self.preference {
                Preference::Lanes(order) => {
                    let of = |lane: usize| ready.iter().rev().find(|(_, ready)| *ready == lane);
                    *order.map(index).into_iter().find_map(of).unwrap()
                }
                Preference::Random(_) => {
                    notes.random ^= notes.random << 13;
                    notes.random ^= notes.random >> 7;
                    notes.random ^= notes.random << 17;
                    ready[(notes.random >> 33) as usize % ready.len()]
                }
            };
            let note = notes.lanes[device][lane].pop_front().unwrap();
            if lane != 0 && notes.lanes[device][0].iter().any(|note| matches!(note, Note::Launch(..))) {
                notes.overlaps += 1;
            }
            let below = &notes.below[device];
            match note {
                Note::Record(record) => _ = notes.played.insert(record),
                Note::Wait(_) => {}
                Note::Launch(kernel, shape, arguments) => launch_now(below, kernel, shape, &arguments)?,
                Note::ToDevice { from, from_at, to, to_at, bytes } => {
                    below.upload(&from.lock().unwrap()[from_at..from_at + bytes], &to, to_at)?;
                }
                Note::ToHost { from, from_at, to, to_at, bytes } => {
                    below.download(&from, from_at, &mut to.lock().unwrap()[to_at..to_at + bytes])?;
                }
            }
        }
        Ok(())
    }

    fn kernels_done(&self) -> Result<(), DeviceError> {
        self.play(|lanes| lanes[0].is_empty())
    }
}

fn launch_now(
    below: &Emulator,
    kernel: Kernel,
    shape: Shape,
    arguments: &[Owned],
) -> Result<(), DeviceError> {
    let arguments: Vec<_> = arguments.iter().map(Owned::lent).collect();
    // SAFETY: the promise of whoever asked for it.
    unsafe { below.launch(kernel, shape, &arguments) }
}

impl Owned {
    fn lent(&self) -> Argument<'_, <Emulator as Device>::Memory> {
        match self {
            Self::Memory(memory, at) => Argument::Memory(memory, *at),
            Self::Null => Argument::Null,
            Self::U32(value) => Argument::U32(*value),
            Self::U64(value) => Argument::U64(*value),
            Self::F32(value) => Argument::F32(*value),
            Self::F64(value) => Argument::F64(*value),
        }
    }
}

impl Device for Recorder {
    type Memory = Memory;
    type Pinned = Pinned;
    type Event = Event;

    fn name(&self) -> &str {
        "notes"
    }

    fn capability(&self) -> (u32, u32) {
        (7, 5)
    }

    fn keeps_memory(&self) -> bool {
        true
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        self.below.allocate(bytes).map(Arc::new)
    }

    fn clear(&self, memory: &Memory, at: usize, bytes: usize) -> Result<(), DeviceError> {
        self.kernels_done()?;
        self.below.clear(memory, at, bytes)
    }

    fn upload(&self, from: &[u8], to: &Memory, at: usize) -> Result<(), DeviceError> {
        self.kernels_done()?;
        self.below.upload(from, to, at)
    }

    fn download(&self, from: &Memory, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.kernels_done()?;
        self.below.download(from, at, to)
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), DeviceError> {
        let own = |argument: &Argument<'_, Memory>| match *argument {
            Argument::Memory(memory, at) => Owned::Memory(Arc::clone(memory), at),
            Argument::Null => Owned::Null,
            Argument::U32(value) => Owned::U32(value),
            Argument::U64(value) => Owned::U64(value),
            Argument::F32(value) => Owned::F32(value),
            Argument::F64(value) => Owned::F64(value),
        };
        self.note(Lane::Kernels, Note::Launch(kernel, shape, arguments.iter().map(own).collect()));
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.play(|lanes| lanes.iter().all(VecDeque::is_empty))
    }

    fn pin(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        Ok(Arc::new(Mutex::new(vec![0xff; bytes])))
    }

    fn read_pinned(&self, from: &Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.synchronise()?;
        to.copy_from_slice(&from.lock().unwrap()[at..at + to.len()]);
        Ok(())
    }

    fn write_pinned(&self, from: &[u8], to: &Pinned, at: usize) -> Result<(), DeviceError> {
        self.synchronise()?;
        to.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn copy_to_device(
        &self,
        from: &Pinned,
        from_at: usize,
        to: &Memory,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        self.note(Lane::ToDevice, Note::ToDevice { from, from_at, to, to_at, bytes });
        Ok(())
    }

    fn copy_to_host(
        &self,
        from: &Memory,
        from_at: usize,
        to: &Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        self.note(Lane::ToHost, Note::ToHost { from, from_at, to, to_at, bytes });
        Ok(())
    }

    fn event(&self) -> Result<Event, DeviceError> {
        Ok(Event::default())
    }

    fn record(&self, event: &Event, lane: Lane) -> Result<(), DeviceError> {
        let record = {
            let notes = &mut *self.notes();
            notes.records += 1;
            notes.records
        };
        *event.lock().unwrap() = Some(record);
        self.note(lane, Note::Record(record));
        Ok(())
    }

    /// Waits for the last record before this call; an event without one holds nobody up.
    fn wait(&self, lane: Lane, event: &Event) -> Result<(), DeviceError> {
        if let Some(record) = *event.lock().unwrap() {
            self.note(lane, Note::Wait(record));
        }
        Ok(())
    }
}
