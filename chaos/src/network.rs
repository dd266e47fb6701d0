//! A network of the computer's own make: a namespace for each node, wired to one bridge by a pair of interfaces, and
//! what gets through from whom to whom.
//!
//! Everything that goes from node to node crosses the bridge, so one set of rules there, replaced in one step, decides
//! on all of it. A packet that is to be late is given to a class of little bandwidth at the port of its receiver,
//! where others overtake it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::plan::{Fault, Node};

const BRIDGE: &str = "lan";
const TABLE: &str = "chaos";

/// What becomes of packets, as counters are called.
const FATES: [&str; 3] = ["cut", "lost", "late"];

/// The bridge is where this program is.
const BRIDGE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// What late packets share, for each node.
const SLOW_ROAD: &str = "300kbit";

/// Where a node is.
pub fn address(node: Node) -> Ipv4Addr {
    match node {
        Node::Machine(number) => Ipv4Addr::new(10, 77, 1, number),
        Node::Server(number) => Ipv4Addr::new(10, 77, 2, number),
    }
}

/// A command that runs where a node is.
pub fn command_at(node: Node, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &node.to_string()]).arg(program);
    command
}

/// Wires up the nodes. Everything gets through.
pub async fn lay(nodes: &[Node]) -> anyhow::Result<()> {
    ip("link set lo up").await?;
    ip(&format!("link add {BRIDGE} type bridge")).await?;
    ip(&format!("address add {BRIDGE_ADDRESS}/16 dev {BRIDGE}")).await?;
    ip(&format!("link set {BRIDGE} up")).await?;
    for node in nodes {
        ip(&format!("netns add {node}")).await?;
        ip(&format!("link add {node} type veth peer name eth0 netns {node}")).await?;
        ip(&format!("link set {node} master {BRIDGE} up")).await?;
        ip(&format!("-n {node} address add {}/16 dev eth0", address(*node))).await?;
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
                Fault::Stop(_) | Fault::Kill(_) => {}
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
            format!("    ip saddr {} ip daddr {} counter name cut drop\n", address(*from), address(*to))
        });
        let some = |of: &BTreeMap<Node, u8>, fate: &str| {
            let rule = |(node, percent): (&Node, &u8)| {
                format!("    ip daddr {} numgen random mod 100 < {percent} {fate}\n", address(*node))
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

/// How many packets met each fate so far.
pub async fn packets() -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let mut packets = BTreeMap::new();
    for fate in FATES {
        let shown = run("nft", &format!("list counter bridge {TABLE} {fate}")).await?;
        let count = shown.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        packets.insert(fate, count.with_context(|| format!("nft does not count: {shown}"))?);
    }
    Ok(packets)
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
