//! Hosts a machine: one task owns it, facts come in through a bounded inbox, orders go out to [`Effects`].
//!
//! The task takes a letter of one or many facts, then whatever else is queued (up to [`BATCH_MAX`] facts), wakes the
//! machine if something is due, and hands over all the orders of this batch at once: under load, one wake-up serves
//! many facts. When the inbox is full, [`Handle::send`] waits: that is the back-pressure of the whole process.

use model::{Machine, Time};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// So many facts, and the rest of the letter in hand, are told to a machine before what is due is done and its orders
/// are performed.
pub const BATCH_MAX: usize = 256;

/// A task that gives way so often comes after all that is to be read by then: the first time, sockets are looked at, and
/// the tasks of connections that have something to read come before it; the second time, those that are given what was
/// read.
const HOPS: usize = 2;

/// Performs the orders of a machine.
pub trait Effects<O>: Send + 'static {
    /// Performs and removes all `orders` of one batch, in order. It must not wait: a queue that is full is a fact to
    /// be told to the machine, or the end of whoever does not drain it.
    fn perform(&mut self, now: Time, orders: &mut Vec<O>);
}

/// Time for machines: the wall clock when the process started, and the monotonic clock from there on.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_time: Time,
}

impl Clock {
    /// Reads the wall clock, for the only time.
    pub fn start() -> Clock {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Clock { start: Instant::now(), start_time: Time::ZERO + since_epoch.unwrap_or_default() }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.start_time + self.start.elapsed()
    }

    /// When it is, or was, `time`.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.since(self.start_time)
    }
}

/// The machine has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Why a fact was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<I> {
    /// The inbox is full. Here is the fact.
    #[error("the inbox is full")]
    Full(I),
    /// The machine has stopped.
    #[error("stopped")]
    Stopped,
}

type Question<M> = Box<dyn FnOnce(&M) + Send>;

enum Letter<M: Machine> {
    Fact(M::Input),
    Facts(Vec<M::Input>),
    Question(Question<M>),
}

/// Tells facts to a machine and asks it questions. Letters of one handle arrive in their order.
pub struct Handle<M: Machine> {
    inbox: mpsc::Sender<Letter<M>>,
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Handle<M> {
        Handle { inbox: self.inbox.clone() }
    }
}

impl<M: Machine> Handle<M> {
    /// Tells a fact, waiting for room in the inbox.
    pub async fn send(&self, fact: M::Input) -> Result<(), Stopped> {
        self.room().await?.send(Letter::Fact(fact));
        Ok(())
    }

    /// Tells facts that came together, waiting for room for one letter in the inbox.
    pub async fn send_all(&self, facts: Vec<M::Input>) -> Result<(), Stopped> {
        self.room().await?.send(Letter::Facts(facts));
        Ok(())
    }

    /// Tells a fact if there is room.
    pub fn try_send(&self, fact: M::Input) -> Result<(), TrySendError<M::Input>> {
        match self.inbox.try_reserve() {
            Ok(place) => {
                place.send(Letter::Fact(fact));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) => Err(TrySendError::Full(fact)),
            Err(mpsc::error::TrySendError::Closed(())) => Err(TrySendError::Stopped),
        }
    }

    /// Tells a fact when everything else has been told that has come by now, what lies unread in sockets as well.
    pub fn send_after_all(&self, fact: M::Input)
    where
        M: 'static,
        M::Input: Send,
    {
        let handle = self.clone();
        tokio::spawn(async move {
            for _ in 0..HOPS {
                tokio::task::yield_now().await;
            }
            // A machine that has stopped wants to know no more.
            let _ = handle.send(fact).await;
        });
    }

    /// Has `then` done once the orders that follow from every fact told before have been performed. Waits for room in
    /// the inbox, not for that.
    pub async fn afterwards(&self, then: impl FnOnce() + Send + 'static) -> Result<(), Stopped> {
        self.room().await?.send(Letter::Question(Box::new(move |_| then())));
        Ok(())
    }

    /// Asks a question. It sees the machine as it is after every fact that was told before, and is answered once the
    /// orders that follow from those facts have been performed.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone away meanwhile; then nobody wants the answer.
        let question = Box::new(|machine: &M| drop(answer.send(question(machine))));
        self.room().await?.send(Letter::Question(question));
        answered.await.map_err(|_| Stopped)
    }

    /// Room for one letter. It is waited for without the letter, which would be in the waiting future several times, and in
    /// each of thousands of calls.
    async fn room(&self) -> Result<mpsc::Permit<'_, Letter<M>>, Stopped> {
        self.inbox.reserve().await.map_err(|_| Stopped)
    }
}

/// Where facts and questions for a machine wait until it is driven.
pub struct Inbox<M: Machine>(mpsc::Receiver<Letter<M>>);

/// An inbox with room for `max` letters, and the handle that fills it. The handle exists before the machine runs, so
/// that its effects can have it.
pub fn inbox<M: Machine>(max: usize) -> (Handle<M>, Inbox<M>) {
    let (sender, receiver) = mpsc::channel(max);
    (Handle { inbox: sender }, Inbox(receiver))
}

/// Hosts `machine` on a task of its own until `stop` is cancelled or no handle is left; then performs what follows
/// from the facts already in the inbox, and ends.
pub fn drive<M, E>(
    machine: M,
    inbox: Inbox<M>,
    effects: E,
    clock: Clock,
    stop: CancellationToken,
) -> JoinHandle<()>
where
    M: Machine + Send + 'static,
    M::Input: Send,
    M::Output: Send,
    E: Effects<M::Output>,
{
    let mut host =
        Host { machine, effects, clock, inbox: inbox.0, orders: Vec::new(), questions: Vec::new() };
    tokio::spawn(async move { host.run(&stop).await })
}

/// A machine together with what hosts it.
struct Host<M: Machine, E> {
    machine: M,
    effects: E,
    clock: Clock,
    inbox: mpsc::Receiver<Letter<M>>,
    orders: Vec<M::Output>,
    questions: Vec<Question<M>>,
}

impl<M: Machine, E: Effects<M::Output>> Host<M, E> {
    async fn run(&mut self, stop: &CancellationToken) {
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        loop {
            let due = self.machine.next_wake().map(|(time, _)| self.clock.instant(time));
            if let Some(due) = due
                && alarm.deadline() != due
            {
                alarm.as_mut().reset(due);
            }
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                letter = self.inbox.recv() => match letter {
                    Some(letter) => Some(letter),
                    None => break,
                },
                () = &mut alarm, if due.is_some() => None,
            };
            self.batch(first);
            // Whoever reads from a socket has its turn after each batch, or what is said there would seem to be silence.
            tokio::task::yield_now().await;
        }
        self.inbox.close();
        while let Some(letter) = self.inbox.recv().await {
            self.batch(Some(letter));
        }
    }

    fn batch(&mut self, first: Option<Letter<M>>) {
        let now = self.clock.now();
        let mut next = first;
        let mut taken = 0;
        while let Some(letter) = next {
            match letter {
                Letter::Fact(fact) => self.machine.handle(now, fact, &mut self.orders),
                Letter::Facts(facts) => {
                    taken += facts.len();
                    for fact in facts {
                        self.machine.handle(now, fact, &mut self.orders);
                    }
                }
                Letter::Question(question) => self.questions.push(question),
            }
            taken += 1;
            next = if taken < BATCH_MAX { self.inbox.try_recv().ok() } else { None };
        }
        if self.machine.next_wake().is_some_and(|(time, _)| time <= now) {
            self.machine.wake(now, &mut self.orders);
        }
        if !self.orders.is_empty() {
            self.effects.perform(now, &mut self.orders);
            assert!(self.orders.is_empty(), "effects perform every order");
        }
        for question in self.questions.drain(..) {
            question(&self.machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Adds numbers up, and says the sum when woken: 10 ms after the first number of a sum.
    struct Adder {
        sum: u64,
        due: Option<Time>,
    }

    impl Machine for Adder {
        type Input = u64;
        type Output = u64;

        fn handle(&mut self, now: Time, number: u64, _: &mut Vec<u64>) {
            self.sum += number;
            self.due.get_or_insert(now + Duration::from_millis(10));
        }

        fn wake(&mut self, now: Time, out: &mut Vec<u64>) {
            if self.due.is_some_and(|due| due <= now) {
                self.due = None;
                out.push(std::mem::take(&mut self.sum));
            }
        }

        fn next_wake(&self) -> Option<(Time, &'static str)> {
            self.due.map(|due| (due, "sum"))
        }
    }

    struct Tell(mpsc::UnboundedSender<(Time, u64)>);

    impl Effects<u64> for Tell {
        fn perform(&mut self, now: Time, orders: &mut Vec<u64>) {
            orders.drain(..).for_each(|sum| self.0.send((now, sum)).unwrap());
        }
    }

    struct Bench {
        handle: Handle<Adder>,
        task: JoinHandle<()>,
        stop: CancellationToken,
        told: mpsc::UnboundedReceiver<(Time, u64)>,
        clock: Clock,
    }

    fn bench(inbox_max: usize) -> Bench {
        let (tell, told) = mpsc::unbounded_channel();
        let (stop, clock) = (CancellationToken::new(), Clock::start());
        let adder = Adder { sum: 0, due: None };
        let (handle, inbox) = inbox(inbox_max);
        let task = drive(adder, inbox, Tell(tell), clock, stop.clone());
        Bench { handle, task, stop, told, clock }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_is_woken_at_its_deadline() {
        let mut bench = bench(8);
        let start = bench.clock.now();
        bench.handle.send(3).await.unwrap();
        bench.handle.send(4).await.unwrap();
        let (at, sum) = bench.told.recv().await.unwrap();
        assert_eq!(sum, 7);
        let after = at.since(start);
        assert!((10..12).contains(&after.as_millis()), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_sees_every_fact_told_before() {
        let bench = bench(8);
        for number in 1..=4 {
            bench.handle.send(number).await.unwrap();
        }
        assert_eq!(bench.handle.ask(|adder| adder.sum).await, Ok(10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_after_the_orders_of_the_facts_before_it() {
        let mut bench = bench(8);
        bench.handle.send(1).await.unwrap();
        bench.handle.ask(|_| ()).await.unwrap();
        tokio::time::advance(Duration::from_millis(20)).await;
        bench.handle.send(2).await.unwrap();
        bench.handle.ask(|_| ()).await.unwrap();
        assert_eq!(bench.told.try_recv().map(|(_, sum)| sum), Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn no_fact_of_a_long_queue_is_lost() {
        let bench = bench(4 * BATCH_MAX);
        for _ in 0..4 * BATCH_MAX {
            bench.handle.try_send(1).unwrap();
        }
        assert_eq!(bench.handle.ask(|adder| adder.sum).await, Ok(4 * BATCH_MAX as u64));
    }

    #[tokio::test(start_paused = true)]
    async fn facts_that_came_together_are_told_in_their_order_and_take_one_place() {
        let bench = bench(1);
        bench.handle.send_all(vec![1; 2 * BATCH_MAX]).await.unwrap();
        bench.handle.send(1).await.unwrap();
        assert_eq!(bench.handle.ask(|adder| adder.sum).await, Ok(2 * BATCH_MAX as u64 + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_inbox_gives_the_fact_back() {
        let bench = bench(1);
        bench.handle.try_send(1).unwrap();
        assert_eq!(bench.handle.try_send(2), Err(TrySendError::Full(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_applies_what_is_queued_and_then_refuses() {
        let bench = bench(8);
        bench.handle.try_send(5).unwrap();
        let answer = tokio::spawn({
            let handle = bench.handle.clone();
            async move { handle.ask(|adder| adder.sum).await }
        });
        tokio::task::yield_now().await;
        bench.stop.cancel();
        bench.task.await.unwrap();
        assert_eq!(answer.await.unwrap(), Ok(5));
        assert_eq!(bench.handle.send(1).await, Err(Stopped));
        assert_eq!(bench.handle.try_send(1), Err(TrySendError::Stopped));
    }

    #[test]
    fn the_clock_and_the_timer_agree() {
        let clock = Clock::start();
        let later = clock.now() + Duration::from_secs(5);
        assert!(clock.instant(later) > clock.instant(clock.now()));
        assert_eq!(clock.instant(Time::ZERO), clock.start);
    }
}
