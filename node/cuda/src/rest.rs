//! Numbers that rest in the host's memory between their uses: gradients of blocks that backward has left, and what forward
//! left for backward.
//!
//! ```text
//! kernels         block 3   block 2   block 1          * the memory of what has left is used again when so much is under
//! to the host          out 3*    out 2*                  way, or when nobody needs to wait for it any more
//! to the device    in 2      in 1                      what block 1 needs comes while block 2 is computed
//! ```
//! Five waits for events make it right. The way out waits for the kernels that made the numbers; the way in for the kernels that
//! used its memory before, and for the way out of the same numbers. Kernels wait for a way out before its memory is handed out
//! again, and for a way in before its numbers are used, or given up. So whoever writes to memory of the host again, behind
//! kernels, is behind those who read it too. When memory is handed out again depends on the sequence of calls alone, so that a
//! plan can follow it. Numbers are the same wherever they rest: this is a choice of whoever lends the GPU, not of a run.
//!
//! **It has not run on a GPU yet**: tests play what is asked of a device in many orders that its events allow.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    buffer::{Lent, Pool},
    device::{Device, DeviceError, Lane},
};

/// Slices' worth of bytes that may be under way to the host while their memory on the device waits: of slices of 16 MiB
/// 512 MiB, what a layer of a model with 8 G parameters leaves for backward at 8,192 tokens.
const UNDER_WAY: usize = 32;

/// Parts of a slice below which numbers stay where they are: of slices of 16 MiB 16 KiB. What is so small is mostly the
/// starting of copies.
const SMALLEST: usize = 1024;

/// Where numbers rest.
#[derive(Debug)]
pub(crate) struct Rest<D: Device> {
    pool: Arc<Pool<D>>,
    /// Bytes below which numbers stay where they are.
    smallest: usize,
    /// Bytes that may be under way to the host.
    under_way: usize,
    berths: Mutex<Berths<D>>,
    leaving: Mutex<VecDeque<Leaving<D>>>,
}

/// Memory of the host for some numbers, and what happened to them last.
#[derive(Debug)]
struct Berth<D: Device> {
    pinned: D::Pinned,
    bytes: usize,
    /// Kernels had made the numbers, or were done with the memory that they come back to.
    ready: D::Event,
    /// They were here.
    left: Arc<D::Event>,
    /// They had come back to the device.
    arrived: D::Event,
}

/// Memory of the host that nobody uses at the moment, by size. Asking for it makes a GPU wait, and takes a second for a few GiB.
#[derive(Debug)]
struct Berths<D: Device> {
    idle: BTreeMap<usize, Vec<Berth<D>>>,
    idle_bytes: usize,
    used_bytes: usize,
    most_used_bytes: usize,
}

/// Memory of the device that is read by a copy.
#[derive(Debug)]
struct Leaving<D: Device> {
    memory: Vec<Lent<D>>,
    bytes: usize,
    left: Arc<D::Event>,
}

/// Numbers that rest.
pub(crate) struct Away<D: Device> {
    /// There until it is dropped.
    berth: Option<Berth<D>>,
    bytes: usize,
    /// Bytes of the sums of squares that stand behind the numbers.
    squares: usize,
    /// Where they are on their way to.
    coming: Option<Lent<D>>,
    rest: Arc<Rest<D>>,
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Device> Rest<D> {
    /// Where what is asked of a device fits slices of `words` words.
    pub(crate) fn new(pool: &Arc<Pool<D>>, words: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            smallest: words * size_of::<f32>() / SMALLEST,
            under_way: words * size_of::<f32>() * UNDER_WAY,
            berths: Mutex::new(Berths {
                idle: BTreeMap::new(),
                idle_bytes: 0,
                used_bytes: 0,
                most_used_bytes: 0,
            }),
            leaving: Mutex::default(),
        })
    }

    /// Whether so many bytes are worth it.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        bytes > 0 && bytes >= self.smallest
    }

    /// Starts the way out of `bytes` bytes, and of the sums of squares of these numbers if there are any.
    pub(crate) fn copy_out(
        self: &Arc<Self>,
        numbers: &Lent<D>,
        bytes: usize,
        squares: Option<(&Lent<D>, usize)>,
    ) -> Result<Away<D>, DeviceError> {
        let device = self.pool.device();
        let more = squares.map_or(0, |(_, bytes)| bytes);
        let berth = self.berth(bytes + more)?;
        device.record(&berth.ready, Lane::Kernels)?;
        device.wait(Lane::ToHost, &berth.ready)?;
        device.copy_to_host(numbers.memory(), 0, &berth.pinned, 0, bytes)?;
        if let Some((squares, more)) = squares {
            device.copy_to_host(squares.memory(), 0, &berth.pinned, bytes, more)?;
        }
        device.record(&berth.left, Lane::ToHost)?;
        Ok(Away { berth: Some(berth), bytes, squares: more, coming: None, rest: Arc::clone(self) })
    }

    /// Keeps memory whose way out was started until it is used again by nobody too early.
    pub(crate) fn hold(&self, away: &Away<D>, memory: Vec<Lent<D>>) -> Result<(), DeviceError> {
        let leaving = &mut *open(&self.leaving);
        leaving.push_back(Leaving { memory, bytes: away.bytes, left: Arc::clone(&away.berth().left) });
        let mut bytes: usize = leaving.iter().map(|leaving| leaving.bytes).sum();
        while bytes > self.under_way {
            let Some(first) = leaving.pop_front() else { break };
            bytes -= first.bytes;
            self.give_back(first)?;
        }
        Ok(())
    }

    /// Has kernels wait for all that is under way to the host, so that its memory is there again.
    pub(crate) fn settle(&self) -> Result<(), DeviceError> {
        let leaving = std::mem::take(&mut *open(&self.leaving));
        leaving.into_iter().try_for_each(|leaving| self.give_back(leaving))
    }

    /// Has nothing under way, and gives memory of the host back that nobody uses.
    pub(crate) fn trim(&self) {
        // a device that is lost runs nothing any more that could meet what is still under way
        let _lost = self.settle();
        let berths = &mut *open(&self.berths);
        while berths.drop_one() {}
    }

    fn give_back(&self, Leaving { memory, left, .. }: Leaving<D>) -> Result<(), DeviceError> {
        self.pool.device().wait(Lane::Kernels, &left)?;
        drop(memory);
        Ok(())
    }

    /// Memory of the host for so many bytes.
    fn berth(&self, bytes: usize) -> Result<Berth<D>, DeviceError> {
        let berths = &mut *open(&self.berths);
        if let Some(berth) = berths.take(bytes) {
            return Ok(berth);
        }
        // sizes change with the packs of a step: what no longer fits anything goes, before it is twice what was ever used
        berths.most_used_bytes = berths.most_used_bytes.max(berths.used_bytes + bytes);
        while berths.used_bytes + bytes + berths.idle_bytes > 2 * berths.most_used_bytes && berths.drop_one()
        {
        }
        let device = self.pool.device();
        let berth = Berth {
            pinned: device.pin(bytes)?,
            bytes,
            ready: device.event()?,
            left: Arc::new(device.event()?),
            arrived: device.event()?,
        };
        berths.used_bytes += bytes;
        Ok(berth)
    }
}

impl<D: Device> Berths<D> {
    /// The smallest that has room for so many bytes and at most as many again.
    fn take(&mut self, bytes: usize) -> Option<Berth<D>> {
        let (_, same) = self.idle.range_mut(bytes..=2 * bytes).find(|(_, same)| !same.is_empty())?;
        let berth = same.pop()?;
        self.idle_bytes -= berth.bytes;
        self.used_bytes += berth.bytes;
        self.most_used_bytes = self.most_used_bytes.max(self.used_bytes);
        Some(berth)
    }

    fn give(&mut self, berth: Berth<D>) {
        self.used_bytes -= berth.bytes;
        self.idle_bytes += berth.bytes;
        self.idle.entry(berth.bytes).or_default().push(berth);
    }

    /// Drops the largest of those that nobody uses; whether there was one.
    fn drop_one(&mut self) -> bool {
        let Some(mut entry) = self.idle.last_entry() else { return false };
        match entry.get_mut().pop() {
            Some(berth) => self.idle_bytes -= berth.bytes,
            None => _ = entry.remove(),
        }
        true
    }
}

impl<D: Device> Away<D> {
    fn berth(&self) -> &Berth<D> {
        self.berth.as_ref().expect("a berth is there until it is dropped")
    }

    /// The numbers, with sums of their squares behind them.
    pub(crate) fn pinned(&self) -> &D::Pinned {
        &self.berth().pinned
    }

    /// When they are there.
    pub(crate) fn left(&self) -> &D::Event {
        &self.berth().left
    }

    /// Sums of squares of their parts, when all lanes are done.
    pub(crate) fn squares(&self) -> Result<Vec<f64>, DeviceError> {
        let mut sums = vec![0.0f64; self.squares / size_of::<f64>()];
        let bytes = bytemuck::cast_slice_mut(&mut sums);
        self.rest.pool.device().read_pinned(self.pinned(), self.bytes, bytes)?;
        Ok(sums)
    }

    /// Starts their way in, unless it was started.
    pub(crate) fn send_for(&mut self) -> Result<(), DeviceError> {
        if self.coming.is_some() {
            return Ok(());
        }
        let lent = self.rest.pool.take(self.bytes)?;
        let (device, berth) = (self.rest.pool.device(), self.berth());
        device.record(&berth.ready, Lane::Kernels)?;
        device.wait(Lane::ToDevice, &berth.ready)?;
        device.wait(Lane::ToDevice, &berth.left)?;
        device.copy_to_device(&berth.pinned, 0, lent.memory(), 0, self.bytes)?;
        device.record(&berth.arrived, Lane::ToDevice)?;
        self.coming = Some(lent);
        Ok(())
    }

    /// Where they are, for kernels that come from now on.
    pub(crate) fn fetch(&mut self) -> Result<Lent<D>, DeviceError> {
        self.send_for()?;
        self.rest.pool.device().wait(Lane::Kernels, &self.berth().arrived)?;
        Ok(self.coming.take().expect("they were sent for"))
    }
}

impl<D: Device> Drop for Away<D> {
    fn drop(&mut self) {
        let Some(berth) = self.berth.take() else { return };
        if self.coming.is_some() {
            // a device that is lost runs nothing any more that could meet what is still under way
            let _lost = self.rest.pool.device().wait(Lane::Kernels, &berth.arrived);
        }
        open(&self.rest.berths).give(berth);
    }
}

impl<D: Device> fmt::Debug for Away<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes put away on the host", self.bytes)
    }
}
