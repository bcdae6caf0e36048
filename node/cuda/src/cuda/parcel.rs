//! Numbers on their way from one GPU to another, by way of pinned memory of the host.
//!
//! ```text
//! GPU 1   kernels: add --.
//!         to host         `-> copy, event --.
//! GPU 0   to device                          `-> copy, event --.
//!         kernels                                               `-> add
//! ```
//! Nobody on the host waits: each arrow is an event that the next lane waits for, also one of another GPU. Copies between
//! GPUs that reach one another without the host would be shorter; this way works between any two.
//!
//! **It has not run on GPUs yet**: tests play what is asked of several devices in many orders that their events allow.

use talkoot_trainer::backend::{BackendError, Done};

use super::{Cuda, launch::during};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Device, DeviceError, Lane},
};

/// Numbers in the host's memory.
#[derive(Debug)]
pub struct Parcel<D: Device> {
    pinned: D::Pinned,
    len: usize,
    /// Where they were complete.
    packed: Option<D::Event>,
    /// Where copies out of it end, since then; the last is that of the device that unpacked it last.
    unpacked: Vec<D::Event>,
}

const NAME: &str = "a copy between devices";

impl<D: Device, C: Class> Cuda<D, C> {
    pub(super) fn new_parcel(&self, len: usize) -> Done<Parcel<D>> {
        let bytes = len * size_of::<f32>();
        let pinned = self.device().pin(bytes).map_err(|error| match error {
            // no device is lost; one of them alone needs no parcels
            DeviceError::OutOfHostMemory { bytes } => BackendError::OutOfMemory { bytes: bytes as u64 },
            other => during(NAME)(other),
        })?;
        Ok(Parcel { pinned, len, packed: None, unpacked: Vec::new() })
    }

    pub(super) fn pack_parcel(&self, from: &Buffer<D>, parcel: &mut Parcel<D>) -> Done {
        assert_eq!(from.len, parcel.len, "a parcel is made for so many numbers");
        let (device, failed) = (self.device(), during(NAME));
        self.after_kernels(Lane::ToHost)?;
        for event in parcel.unpacked.drain(..).chain(parcel.packed.take()) {
            device.wait(Lane::ToHost, &event).map_err(&failed)?;
        }
        if from.len > 0 {
            let bytes = from.len * size_of::<f32>();
            device.copy_to_host(from.memory(), 0, &parcel.pinned, 0, bytes).map_err(&failed)?;
        }
        parcel.packed = Some(self.recorded(Lane::ToHost)?);
        Ok(())
    }

    pub(super) fn unpack_parcel(&self, parcel: &mut Parcel<D>, into: &Buffer<D>) -> Done {
        assert_eq!(into.len, parcel.len, "a parcel has so many numbers");
        let (device, failed) = (self.device(), during(NAME));
        // kernels may still use what the buffer's memory was before
        self.after_kernels(Lane::ToDevice)?;
        if let Some(packed) = &parcel.packed {
            device.wait(Lane::ToDevice, packed).map_err(&failed)?;
        }
        if into.len > 0 {
            let bytes = into.len * size_of::<f32>();
            device.copy_to_device(&parcel.pinned, 0, into.memory(), 0, bytes).map_err(&failed)?;
        }
        parcel.unpacked.push(self.recorded(Lane::ToDevice)?);
        Ok(())
    }

    /// Kernels from here on come after the last copy out of the parcel, which has to have been to this device.
    pub(super) fn parcel_arrived(&self, parcel: &Parcel<D>) -> Done {
        match parcel.unpacked.last() {
            Some(unpacked) => self.device().wait(Lane::Kernels, unpacked).map_err(during(NAME)),
            None => Ok(()),
        }
    }

    /// What comes into a lane from here on waits for the kernels so far.
    fn after_kernels(&self, lane: Lane) -> Done {
        let kernels = self.recorded(Lane::Kernels)?;
        self.device().wait(lane, &kernels).map_err(during(NAME))
    }

    /// An event behind what is in a lane now.
    fn recorded(&self, lane: Lane) -> Done<D::Event> {
        let event = self.device().event().map_err(during(NAME))?;
        self.device().record(&event, lane).map_err(during(NAME))?;
        Ok(event)
    }
}
