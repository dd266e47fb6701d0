//! Where the nodes are, and what gets through from whom to whom.
//!
//! On the loopback network each has an address of its own, and nothing is ever wrong with it. Where there are namespaces,
//! each has one, wired to one bridge by a pair of interfaces. Everything that goes from node to node crosses the bridge, so one set of rules there, replaced in one step, decides
//! on all of it. A packet that is to be late is given to a class of little bandwidth at the port of its receiver,
//! where others overtake it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::plan::{Fault, Node};

const BRIDGE: &str = "lan";
const TABLE: &str = "chaos";

/// Who has this port at an address of the loopback network has all addresses that begin like it.
const CLAIM_PORT: u16 = 7399;

/// What becomes of packets, as counters are called.
const FATES: [&str; 3] = ["cut", "lost", "late"];

/// What late packets share, for each node.
const SLOW_ROAD: &str = "300kbit";

/// Where processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ground {
    /// On a network of their own, which is cut and slowed (Linux, as root)
    Namespaces,
    /// On the loopback network: processes are stopped, killed and drained, and no network is cut (Linux, anybody)
    Processes,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ground::Namespaces => "namespaces",
            Ground::Processes => "processes",
        })
    }
}

/// The network of a run.
#[derive(Debug)]
pub struct Network {
    /// How the addresses of all nodes begin.
    prefix: [u8; 2],
    /// On the loopback network, what keeps other runs from the same addresses.
    claim: Option<TcpListener>,
}

/// With namespaces, all addresses begin so.
const OWN: [u8; 2] = [10, 77];

/// The address with these last two numbers.
fn at(prefix: [u8; 2], kind: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(prefix[0], prefix[1], kind, number)
}

fn address(prefix: [u8; 2], node: Node) -> Ipv4Addr {
    match node {
        Node::Machine(number) => at(prefix, 1, number),
        Node::Server(number) => at(prefix, 2, number),
    }
}

impl Network {
    /// Makes the network of these nodes. Everything gets through.
    pub async fn lay(on: Ground, nodes: &[Node]) -> anyhow::Result<Network> {
        match on {
            Ground::Namespaces => {
                wire(nodes).await?;
                Weather::default().set().await?;
                Ok(Network { prefix: OWN, claim: None })
            }
            Ground::Processes => {
                let claim = |second| {
                    let claim = TcpListener::bind((at([127, second], 0, 1), CLAIM_PORT)).ok()?;
                    Some(Network { prefix: [127, second], claim: Some(claim) })
                };
                (1..=u8::MAX).find_map(claim).context("no addresses of the loopback network are free")
            }
        }
    }

    /// Where a node is.
    pub fn address(&self, node: Node) -> Ipv4Addr {
        address(self.prefix, node)
    }

    /// The beginning of a command that runs `program` where a node is.
    pub fn command_at(&self, node: Node, program: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = Vec::new();
        if self.claim.is_none() {
            command.extend(["ip", "netns", "exec", &node.to_string()].map(OsString::from));
        }
        command.push(program.into());
        command
    }

    /// How many packets met each fate so far.
    pub async fn packets(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let mut packets = BTreeMap::new();
        for fate in FATES.iter().copied().filter(|_| self.claim.is_none()) {
            let shown = run("nft", &format!("list counter bridge {TABLE} {fate}")).await?;
            let count = shown.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            packets.insert(fate, count.with_context(|| format!("nft does not count: {shown}"))?);
        }
        Ok(packets)
    }
}

/// Wires up namespaces. The bridge is where this program is.
async fn wire(nodes: &[Node]) -> anyhow::Result<()> {
    ip("link set lo up").await?;
    ip(&format!("link add {BRIDGE} type bridge")).await?;
    ip(&format!("address add {}/16 dev {BRIDGE}", at(OWN, 0, 1))).await?;
    ip(&format!("link set {BRIDGE} up")).await?;
    for node in nodes {
        ip(&format!("netns add {node}")).await?;
        ip(&format!("link add {node} type veth peer name eth0 netns {node}")).await?;
        ip(&format!("link set {node} master {BRIDGE} up")).await?;
        ip(&format!("-n {node} address add {}/16 dev eth0", address(OWN, *node))).await?;
        ip(&format!("-n {node} link set lo up")).await?;
        ip(&format!("-n {node} link set eth0 up")).await?;
        tc(&format!("qdisc add dev {node} root handle 1: htb default 10 r2q 1000")).await?;
        tc(&format!("class add dev {node} parent 1: classid 1:10 htb rate 10gbit quantum 60000")).await?;
        tc(&format!(
            "class add dev {node} parent 1: classid 1:20 htb rate {SLOW_ROAD} burst 1b cburst 1b quantum 1514"
        ))
        .await?;
    }
    Ok(())
}

/// What the weather is, as all faults that go on make it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    cut: BTreeSet<(Node, Node)>,
    lost: BTreeMap<Node, u8>,
    late: BTreeMap<Node, u8>,
}

impl Weather {
    /// What these faults make together.
    pub fn of<'a>(faults: impl IntoIterator<Item = &'a Fault>) -> Weather {
        let mut weather = Weather::default();
        for fault in faults {
            match fault {
                Fault::Cut(pairs) => weather.cut.extend(pairs),
                Fault::Loss(nodes, percent) => worsen(&mut weather.lost, nodes, *percent),
                Fault::Delay(nodes, percent) => worsen(&mut weather.late, nodes, *percent),
                Fault::Stop(_) | Fault::Kill(_) | Fault::Drain(_) => {}
            }
        }
        weather
    }

    /// Makes it so, for all packets from here on.
    pub async fn set(&self) -> anyhow::Result<()> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nft = command.kill_on_drop(true).spawn().context("cannot run nft")?;
        let rules = self.rules();
        nft.stdin.take().context("nft has no input")?.write_all(rules.as_bytes()).await?;
        let ended = nft.wait_with_output().await?;
        if !ended.status.success() {
            bail!("nft refuses\n{rules}\n{}", String::from_utf8_lossy(&ended.stderr));
        }
        Ok(())
    }

    /// The rules in the language of `nft`: all of them are replaced in one step, and what was counted stays.
    fn rules(&self) -> String {
        let cut = self.cut.iter().map(|(from, to)| {
            let (from, to) = (address(OWN, *from), address(OWN, *to));
            format!("    ip saddr {from} ip daddr {to} counter name cut drop\n")
        });
        let some = |of: &BTreeMap<Node, u8>, fate: &str| {
            let rule = |(node, percent): (&Node, &u8)| {
                let to = address(OWN, *node);
                format!("    ip daddr {to} numgen random mod 100 < {percent} {fate}\n")
            };
            of.iter().map(rule).collect::<String>()
        };
        let rules = cut.collect::<String>()
            + &some(&self.lost, "counter name lost drop")
            + &some(&self.late, "counter name late meta priority set 1:20");
        let counters: String =
            FATES.iter().map(|fate| format!("add counter bridge {TABLE} {fate}\n")).collect();
        format!(
            "add table bridge {TABLE}\n{counters}\
             add chain bridge {TABLE} forward {{ type filter hook forward priority 0; policy accept; }}\n\
             flush chain bridge {TABLE} forward\n\
             table bridge {TABLE} {{\n  chain forward {{\n{rules}  }}\n}}\n"
        )
    }
}

fn worsen(of: &mut BTreeMap<Node, u8>, nodes: &[Node], percent: u8) {
    for node in nodes {
        let now = of.entry(*node).or_default();
        *now = percent.max(*now);
    }
}

async fn ip(arguments: &str) -> anyhow::Result<()> {
    run("ip", arguments).await.map(drop)
}

async fn tc(arguments: &str) -> anyhow::Result<()> {
    run("tc", arguments).await.map(drop)
}

/// Runs a program, and returns what it says.
async fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let ended = Command::new(program).args(arguments.split(' ')).output().await;
    let ended = ended.with_context(|| format!("cannot run {program}"))?;
    if !ended.status.success() {
        bail!("`{program} {arguments}`: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_add_up_and_the_worst_counts() {
        let (a, b) = (Node::Machine(1), Node::Server(2));
        let faults = [
            Fault::Cut([(a, b)].into()),
            Fault::Loss(vec![a, b], 5),
            Fault::Cut([(b, a)].into()),
            Fault::Loss(vec![a], 3),
            Fault::Delay(vec![b], 40),
            Fault::Kill(Vec::new()),
        ];
        let rules = Weather::of(&faults).rules();
        let expected = "    ip saddr 10.77.2.2 ip daddr 10.77.1.1 counter name cut drop
    ip saddr 10.77.1.1 ip daddr 10.77.2.2 counter name cut drop
    ip daddr 10.77.2.2 numgen random mod 100 < 5 counter name lost drop
    ip daddr 10.77.1.1 numgen random mod 100 < 5 counter name lost drop
    ip daddr 10.77.2.2 numgen random mod 100 < 40 counter name late meta priority set 1:20
  }";
        assert!(rules.contains(expected), "{rules}");
    }

    #[test]
    fn in_good_weather_everything_gets_through() {
        let rules = Weather::default().rules();
        assert!(rules.ends_with("chain forward {\n  }\n}\n"), "{rules}");
    }
}
