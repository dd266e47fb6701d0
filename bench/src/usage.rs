//! What a process has used, as the system counts it.

use std::time::Duration;

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time, its own and that of the system for it.
    pub cpu: Duration,
    /// Memory that is resident, in KiB.
    pub resident_kib: u64,
}

impl Usage {
    /// Of a process that is running.
    pub fn of(pid: u32) -> anyhow::Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the system does not say how it counts time")?;
        let cpu_ticks = cpu_ticks(&read("stat")?).context("/proc/PID/stat has another form")?;
        let resident_kib = resident_kib(&read("status")?).context("/proc/PID/status has another form")?;
        Ok(Usage { cpu: Duration::from_secs_f64(cpu_ticks as f64 / ticks as f64), resident_kib })
    }
}

/// Fields 14 and 15; the second field, the name, is in parentheses and may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194560 2001 0 0 0 17 4 0 0 20 0 3 0 888 1 2";
        assert_eq!(cpu_ticks(stat), Some(21));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    9208 kB\nThreads:\t3\n"), Some(9208));
        let this = Usage::of(std::process::id()).unwrap();
        assert!(this.resident_kib > 100, "{this:?}");
    }
}
