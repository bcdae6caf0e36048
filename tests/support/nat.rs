//! Two homes behind routers and a public host, in network namespaces: real kernels' address translation, real packets.
//!
//! ```text
//!   a 10.1.0.2 --- na (NAT) --- pub 198.51.100.1, 198.51.100.2 --- nb (NAT) --- b 10.2.0.2
//! ```
//! Needs root, `ip` and `nft`. The namespaces are taken away when the world is dropped, and those of a killed run of the same
//! name when it is built again.

use std::process::{Command, Stdio};

/// How a router treats its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Router {
    /// Port-restricted: one port for all destinations, unsolicited packets dropped. Most home routers.
    Restricted,
    /// As that, but unsolicited packets reach the router itself, which may take a port for them.
    Open,
    /// Symmetric: a random port for each destination.
    Symmetric,
}

/// Bytes that the public host has handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Addressed to it or sent by it.
    pub(crate) own: u64,
    /// Passed between the homes' lines, as any backbone does.
    pub(crate) forwarded: u64,
}

/// The namespaces.
#[derive(Debug)]
pub(crate) struct Internet {
    name: String,
}

const ROOMS: [&str; 5] = ["pub", "na", "nb", "a", "b"];

fn shell(command: &str) -> Result<String, String> {
    let output =
        Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Whether this machine lets us build one; says why not.
pub(crate) fn possible() -> bool {
    let reason = if shell("test \"$(id -u)\" = 0").is_err() {
        "not root"
    } else if shell("command -v ip && command -v nft").is_err() {
        "no `ip` or no `nft` (packages iproute2 and nftables)"
    } else if shell("ip netns add talkoot-try && ip netns del talkoot-try").is_err() {
        "network namespaces cannot be made"
    } else {
        return true;
    };
    eprintln!("SKIPPED: {reason}; what this test would show is not shown");
    false
}

impl Internet {
    /// Builds one; `loss` in percent of the packets on each line, each way.
    pub(crate) fn new(name: &str, routers: [Router; 2], loss: u32) -> Self {
        let world = Self { name: format!("tk{}{name}", std::process::id() % 100_000) };
        world.take_away();
        world.build(routers, loss).unwrap_or_else(|error| panic!("{error}"));
        world
    }

    fn build(&self, routers: [Router; 2], loss: u32) -> Result<(), String> {
        let p = &self.name;
        for room in ROOMS {
            shell(&format!("ip netns add {p}{room} && ip -n {p}{room} link set lo up"))?;
        }
        for room in ["pub", "na", "nb"] {
            shell(&format!("ip netns exec {p}{room} sysctl -qw net.ipv4.ip_forward=1"))?;
        }
        for address in ["198.51.100.1", "198.51.100.2"] {
            shell(&format!("ip -n {p}pub addr add {address}/32 dev lo"))?;
        }
        for (index, (home, router)) in ["a", "b"].iter().zip(routers).enumerate() {
            let (net, lan) = (4 * index + 1, index + 1);
            let (here, there) = (format!("203.0.113.{net}"), format!("203.0.113.{}", net + 1));
            shell(&format!(
                "ip link add wan netns {p}n{home} type veth peer name line{home} netns {p}pub &&
                 ip -n {p}pub addr add {here}/30 dev line{home} && ip -n {p}pub link set line{home} up &&
                 ip -n {p}n{home} addr add {there}/30 dev wan && ip -n {p}n{home} link set wan up &&
                 ip -n {p}n{home} route add default via {here} &&
                 ip link add lan netns {p}n{home} type veth peer name eth0 netns {p}{home} &&
                 ip -n {p}n{home} addr add 10.{lan}.0.1/24 dev lan && ip -n {p}n{home} link set lan up &&
                 ip -n {p}{home} addr add 10.{lan}.0.2/24 dev eth0 && ip -n {p}{home} link set eth0 up &&
                 ip -n {p}{home} route add default via 10.{lan}.0.1"
            ))?;
            self.rules(&format!("n{home}"), &router_rules(router))?;
        }
        let drop = if loss == 0 { String::new() } else { format!("numgen random mod 100 lt {loss} drop\n") };
        self.rules(
            "pub",
            &format!(
                "table inet count {{
                   chain came {{ type filter hook input priority 0; iifname \"line*\" counter
                   }}
                   chain went {{ type filter hook output priority 0; oifname \"line*\" counter
                   }}
                   chain passed {{ type filter hook forward priority 0; counter
                   }}
                   chain line {{ type filter hook prerouting priority -300; iifname \"line*\" {drop}
                   }}
                   chain out {{ type filter hook postrouting priority 300; oifname \"line*\" {drop}
                   }}
                 }}\n"
            )
            .replace("iifname \"line*\" \n", "")
            .replace("oifname \"line*\" \n", ""),
        )
    }

    fn rules(&self, room: &str, rules: &str) -> Result<(), String> {
        shell(&format!("ip netns exec {}{room} nft -f - <<'RULES'\n{rules}\nRULES", self.name)).map(drop)
    }

    /// The start of a command that runs in a room: `pub`, `a` or `b`.
    pub(crate) fn within(&self, room: &str, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{room}", self.name)]).arg(program);
        command
    }

    /// What the public host has handled so far.
    pub(crate) fn counters(&self) -> Counters {
        let listing =
            shell(&format!("ip netns exec {}pub nft list table inet count", self.name)).expect("counters");
        let bytes = |chain: &str| -> u64 {
            let (_, rest) = listing.split_once(&format!("chain {chain} {{")).expect("the chain");
            let (_, number) = rest.split_once("bytes ").expect("a counter");
            number
                .split(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|text| text.parse().ok())
                .expect("a number")
        };
        Counters { own: bytes("came") + bytes("went"), forwarded: bytes("passed") }
    }

    /// Cuts a home off, or mends its line.
    pub(crate) fn cut(&self, home: &str, cut: bool) {
        let state = if cut { "down" } else { "up" };
        shell(&format!("ip -n {p}pub link set line{home} {state}", p = self.name)).expect("the line");
        if !cut {
            // a line that comes up again has lost its router's way out
            let net = if home == "a" { 1 } else { 5 };
            let _ = shell(&format!("ip -n {}n{home} route replace default via 203.0.113.{net}", self.name));
        }
    }

    fn take_away(&self) {
        for room in ROOMS {
            let _ = shell(&format!("ip netns del {}{room} 2>/dev/null", self.name));
        }
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.take_away();
    }
}

fn router_rules(router: Router) -> String {
    let masquerade = if router == Router::Symmetric { "masquerade fully-random" } else { "masquerade" };
    let unsolicited = if router == Router::Open { "accept" } else { "ct state new drop" };
    format!(
        "table ip nat {{
           chain post {{ type nat hook postrouting priority 100; oifname \"wan\" {masquerade}
           }}
         }}
         table ip guard {{
           chain through {{ type filter hook forward priority 0; policy drop; iifname \"lan\" accept
             ct state established,related accept
           }}
           chain inward {{ type filter hook input priority 0; iifname \"wan\" {unsolicited}
           }}
         }}"
    )
}
