//! Network namespaces for daemons that are to be apart, joined by a bridge in one more namespace, so that nothing of the
//! host's network is touched.

use std::process::Command as Blocking;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};

/// Where a namespace is.
pub fn address(number: usize) -> String {
    format!("10.91.0.{number}")
}

/// Network namespaces, and a bridge between them in one more. They are removed when this is dropped.
pub struct Namespaces {
    prefix: String,
    count: usize,
}

impl Namespaces {
    /// So many, wired to one bridge.
    pub fn create(count: usize) -> anyhow::Result<Namespaces> {
        static USED: AtomicUsize = AtomicUsize::new(0);
        let set = USED.fetch_add(1, Ordering::Relaxed);
        let namespaces = Namespaces { prefix: format!("bench-{}-{set}-", std::process::id()), count };
        let bridge = namespaces.name(0);
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "bridge", "up"])?;
        for number in 1..=count {
            let (name, port) = (namespaces.name(number), format!("port{number}"));
            ip(&["netns", "add", &name])?;
            ip(&[
                "-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])?;
            ip(&["-n", &bridge, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &name, "address", "add", &format!("{}/24", address(number)), "dev", "eth0"])?;
        }
        Ok(namespaces)
    }

    /// Drops every packet between the first and each of the others, from now on.
    pub fn cut(&self, one: usize, others: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        let nft = |rule: &[&str]| {
            let bridge = self.name(0);
            let mut command = Blocking::new("ip");
            succeeds(command.args(["netns", "exec", &bridge, "nft", "add"]).args(rule))
        };
        nft(&["table", "bridge", "bench"])?;
        nft(&["chain", "bridge", "bench", "forward", "{ type filter hook forward priority 0; }"])?;
        for other in others {
            for (from, to) in [(one, other), (other, one)] {
                let (from, to) = (address(from), address(to));
                nft(&[
                    "rule", "bridge", "bench", "forward", "ip", "saddr", &from, "ip", "daddr", &to, "drop",
                ])?;
            }
        }
        Ok(())
    }

    /// What one is called; the bridge is in number 0.
    pub fn name(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for number in 0..=self.count {
            // What was not created is not there to be removed.
            let _ = ip(&["netns", "delete", &self.name(number)]);
        }
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    succeeds(Blocking::new("ip").args(args))
}

/// Runs a program that is to succeed.
pub fn succeeds(command: &mut Blocking) -> anyhow::Result<()> {
    let said = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(())
}
