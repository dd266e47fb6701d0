//! Waiting: for a condition, with a deadline, and never for a while.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Everything that is awaited happens within a second or two; on a computer that has much else to do, within this time.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at that nobody announces.
const POLL: Duration = Duration::from_millis(10);

/// Waits for `future`.
///
/// # Panics
/// If it is not there in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(it) => it,
        Err(_) => panic!("waited {} s in vain for {what}", DEADLINE.as_secs()),
    }
}

/// Waits until `condition` holds; what it says instead is what is missing.
///
/// # Panics
/// If it does not hold in time, with what was missing last.
pub async fn until<T, E: Display>(what: &str, mut condition: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match condition().await {
            Ok(it) => return it,
            Err(missing) if Instant::now() > deadline => {
                panic!("waited {} s in vain for {what}: {missing}", DEADLINE.as_secs())
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
