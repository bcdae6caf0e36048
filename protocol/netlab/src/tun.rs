//! TUN devices inside network namespaces.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

use nix::{
    libc,
    sched::{CloneFlags, setns},
};

/// The device that makes TUN devices.
pub(crate) const DOOR: &str = "/dev/net/tun";

mod set_interface {
    #![allow(
        unsafe_code,
        reason = "the one system call that makes a TUN device has no safe wrapper small enough"
    )]
    #![allow(missing_docs, reason = "the macro writes them")]

    use nix::libc;

    nix::ioctl_write_ptr_bad!(
        /// Makes the open file a network device.
        tunsetiff,
        libc::TUNSETIFF,
        libc::ifreq
    );

    pub(super) fn make(door: i32, request: &libc::ifreq) -> nix::Result<()> {
        // SAFETY: the descriptor is open for the time of the call, and the kernel reads one `ifreq`, which we lend it
        unsafe { tunsetiff(door, request) }.map(drop)
    }
}

/// An interface request by name.
fn request(name: &str) -> io::Result<libc::ifreq> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= ifr_name.len() || !name.is_ascii() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no device name")));
    }
    for (slot, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte.cast_signed();
    }
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    Ok(libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } })
}

/// Makes a device in the namespace with this file; each read and each write of it is one IP packet.
///
/// A thread of its own enters the namespace, and ends in it.
pub(crate) fn open(namespace: &Path, name: &'static str) -> io::Result<File> {
    let namespace = File::open(namespace)?;
    let make = move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        let door = File::options().read(true).write(true).open(DOOR)?;
        set_interface::make(door.as_raw_fd(), &request(name)?)?;
        Ok(door)
    };
    std::thread::spawn(make)
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}
