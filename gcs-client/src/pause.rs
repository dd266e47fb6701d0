//! When a process that has lost its attachment attaches again.

use svc_kit::dial::Backoff;

use crate::Loss;

/// Paces the attachments of one process.
#[derive(Debug, Default)]
pub struct Pause(Backoff);

impl Pause {
    /// Waits until it makes sense to attach again. A command that was refused is likely to be said again at once, and
    /// refused again; after any other loss there is no time to lose.
    pub async fn after(&mut self, loss: &Loss) {
        match loss {
            Loss::Refused(reason) => {
                tracing::error!(reason, "the daemon refuses what this process says");
                self.0.pause().await;
            }
            Loss::Draining | Loss::Evicted(_) | Loss::Broken(_) => self.0.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_again_and_again_waits_longer_and_longer() {
        let mut pause = Pause::default();
        let mut waits = async |loss: Loss| {
            let start = tokio::time::Instant::now();
            pause.after(&loss).await;
            start.elapsed().as_millis()
        };
        let refused = || Loss::Refused("commands[0].multicast.payload: is too long".into());
        for millis in [5, 10, 20] {
            assert_eq!(waits(refused()).await, millis);
        }
        for other in [Loss::Draining, Loss::Evicted("too slow".into()), Loss::Broken("reset".into())] {
            assert_eq!(waits(other).await, 0);
        }
        assert_eq!(waits(refused()).await, 5);
    }
}
