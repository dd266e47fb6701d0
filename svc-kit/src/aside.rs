//! A task on a thread of its own, beside those of the service.
//!
//! A service with one thread gets round to its tasks in turn, and a turn takes long when there is much to do and others
//! want the processor too. What must not wait for its turn, such as signs of life, runs here: a thread that does next to
//! nothing is given a processor at once, however many others want one.

use std::io;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::shutdown::Failure;

/// Runs `task` on a thread called `name`, to its end or until this future is dropped.
pub async fn run<T: Send + 'static>(
    name: &'static str,
    task: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, told) = oneshot::channel();
    let wanted = CancellationToken::new();
    let _wanted = wanted.clone().drop_guard();
    let thread = move || {
        if let Some(ended) = runtime.block_on(wanted.run_until_cancelled(task)) {
            // Whoever was to be told may be gone.
            drop(tell.send(ended));
        }
    };
    let started: io::Result<_> = std::thread::Builder::new().name(name.to_owned()).spawn(thread);
    started?;
    told.await.map_err(|_| Failure::Ended(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_goes_on_while_the_thread_that_waits_for_it_is_busy() {
        let (ask, asked) = std::sync::mpsc::channel();
        let (answer, answered) = oneshot::channel();
        let task = run("test", async move {
            ask.send(()).unwrap();
            answered.await.unwrap()
        });
        let busy = async {
            // This thread does nothing else until the task has spoken.
            asked.recv().unwrap();
            answer.send(7).unwrap();
        };
        let (answered, ()) = tokio::join!(task, busy);
        assert_eq!(answered.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_task_that_nobody_waits_for_any_more_is_dropped() {
        let (held, dropped) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let task = run("test", async move {
            begin.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        tokio::select! {
            _ = task => panic!("it never ends"),
            begun = begun => begun.unwrap(),
        }
        dropped.await.unwrap_err();
    }
}
