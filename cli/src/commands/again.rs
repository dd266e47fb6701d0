//! Showing something again and again, as `watch` does.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::Duration;

/// From the upper left corner on, on an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Whether to show something more than once.
#[derive(Clone, Debug, clap::Args)]
pub struct Again {
    /// Show it anew each time so much has passed, such as 2s, until Ctrl-C
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    watch: Option<Duration>,
}

impl Again {
    /// Has `show` show it. What goes wrong the first time is the end of it; later, it is told, and may be better the next time.
    pub async fn show(&self, show: impl AsyncFn() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
        let code = show().await?;
        let Some(interval) = self.watch else { return Ok(code) };
        loop {
            tokio::time::sleep(interval).await;
            if stdout().is_terminal() {
                print!("{CLEAR}");
            }
            if let Err(error) = show().await {
                eprintln!("handover: {error:#}");
            }
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}
