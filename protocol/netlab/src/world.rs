//! Network namespaces with lines between them, taken away when they are dropped.

use std::{io, net::Ipv4Addr, process::Command};

use crate::access::{Access, Counters};

/// The device that each member has.
#[cfg(target_os = "linux")]
const DEVICE: &str = "line0";
/// The first half of the members' addresses, which exist nowhere but in their namespaces.
const NET: [u8; 2] = [10, 98];
/// Most members of a world.
const MAX_MEMBERS: usize = 250;

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlabError {
    /// This machine cannot do it.
    #[error("an emulated line needs {lacking}")]
    Impossible {
        /// What is missing.
        lacking: String,
    },
    /// The number of members is out of bounds.
    #[error("{got} members, 1 to {MAX_MEMBERS} are possible")]
    Members {
        /// What was asked for.
        got: usize,
    },
    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// A device could not be made.
    #[error("making the device of {namespace}: {source}")]
    Device {
        /// In which namespace.
        namespace: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Namespaces that see one another through their lines.
#[derive(Debug)]
pub struct World {
    namespaces: Vec<String>,
    #[cfg(target_os = "linux")]
    carriers: Vec<crate::carry::Carrier>,
}

/// Runs a command to its end.
#[cfg(target_os = "linux")]
fn run(program: &str, arguments: &[&str]) -> Result<(), NetlabError> {
    let fail = |reason: String| NetlabError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        reason,
    };
    let output = Command::new(program).args(arguments).output().map_err(|error| fail(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(fail(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

impl World {
    /// What is missing for a world on this machine.
    ///
    /// # Errors
    ///
    /// [`NetlabError::Impossible`] naming it.
    #[cfg(target_os = "linux")]
    pub fn possible() -> Result<(), NetlabError> {
        let lacking = |lacking: &str| Err(NetlabError::Impossible { lacking: lacking.to_owned() });
        if !nix::unistd::geteuid().is_root() {
            return lacking("root, for network namespaces");
        }
        if !std::path::Path::new(crate::tun::DOOR).exists() {
            return lacking("/dev/net/tun");
        }
        if run("ip", &["netns", "list"]).is_err() {
            return lacking("iproute2 (the program `ip`) and a kernel with network namespaces");
        }
        Ok(())
    }

    /// What is missing for a world on this machine: another system.
    ///
    /// # Errors
    ///
    /// [`NetlabError::Impossible`].
    #[cfg(not(target_os = "linux"))]
    pub fn possible() -> Result<(), NetlabError> {
        Err(NetlabError::Impossible { lacking: "Linux".to_owned() })
    }

    /// Builds namespaces called `<name>-<number>`, one for each access line; the seed says which packets are lost.
    ///
    /// # Errors
    ///
    /// [`NetlabError`]; what was built by then is taken away.
    #[cfg(target_os = "linux")]
    pub fn build(name: &str, accesses: &[Access], seed: u64) -> Result<Self, NetlabError> {
        Self::possible()?;
        if accesses.is_empty() || accesses.len() > MAX_MEMBERS {
            return Err(NetlabError::Members { got: accesses.len() });
        }
        let mut world = Self { namespaces: Vec::new(), carriers: Vec::new() };
        let mut devices = Vec::new();
        for number in 0..accesses.len() {
            let namespace = format!("{name}-{number}");
            run("ip", &["netns", "add", &namespace])?;
            world.namespaces.push(namespace.clone());
            let file = std::path::Path::new("/var/run/netns").join(&namespace);
            let device = crate::tun::open(&file, DEVICE)
                .map_err(|source| NetlabError::Device { namespace: namespace.clone(), source })?;
            devices.push(device);
            let address = format!("{}/16", world.address(number));
            run("ip", &["-n", &namespace, "addr", "add", &address, "dev", DEVICE])?;
            run(
                "ip",
                &["-n", &namespace, "link", "set", DEVICE, "mtu", "1500", "txqueuelen", "20000", "up"],
            )?;
            run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
            // whatever this machine prefers, so that figures of two machines can be compared
            let (net, own) = (format!("{}.{}.0.0/16", NET[0], NET[1]), world.address(number).to_string());
            let route = ["route", "change", &net, "dev", DEVICE, "src", &own, "congctl", "cubic"];
            run("ip", &[&["-n", &namespace], &route[..]].concat())?;
        }
        let index_of =
            |[a, b, c, d]: [u8; 4]| ([a, b, c] == [NET[0], NET[1], 0] && d > 0).then(|| usize::from(d) - 1);
        world.carriers = crate::carry::start(devices, accesses, seed, index_of)
            .map_err(|source| NetlabError::Device { namespace: name.to_owned(), source })?;
        Ok(world)
    }

    /// There is no world on this system.
    ///
    /// # Errors
    ///
    /// [`NetlabError::Impossible`].
    #[cfg(not(target_os = "linux"))]
    pub fn build(_name: &str, _accesses: &[Access], _seed: u64) -> Result<Self, NetlabError> {
        Self::possible().map(|()| Self { namespaces: Vec::new() })
    }

    /// A member's address.
    pub fn address(&self, member: usize) -> Ipv4Addr {
        let [a, b] = NET;
        Ipv4Addr::new(a, b, 0, u8::try_from(member + 1).unwrap_or(u8::MAX))
    }

    /// A command that runs a program as a member.
    pub fn command(&self, member: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces[member]]).arg(program);
        command
    }

    /// What went up a member's line, and what came down.
    #[cfg(target_os = "linux")]
    pub fn counters(&self, member: usize) -> (Counters, Counters) {
        self.carriers[member].counters()
    }

    /// What went up a member's line, and what came down.
    #[cfg(not(target_os = "linux"))]
    pub fn counters(&self, _member: usize) -> (Counters, Counters) {
        (Counters::default(), Counters::default())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // what cannot be taken away now is named by `ip netns`, and holds nothing of value; the device goes first, so
            // that the threads notice
            #[cfg(target_os = "linux")]
            let _ = run("ip", &["-n", namespace, "link", "del", DEVICE]);
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}
