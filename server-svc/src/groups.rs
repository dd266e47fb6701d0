//! The server's place in the group communication: each attachment is one life of it as a group member. When it is
//! lost, other servers take its sessions over, and it comes back as a new member. It is given up too when the machine
//! hangs in its service.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use gcs_client::{Attachment, Command, ConnectError, Event, Loss, Pause, Target};
use session_core::Server;
use session_core::server::Input;
use svc_kit::driver::{Handle, Stopped};
use svc_kit::serve::Health;
use tokio::sync::{Notify, mpsc};

use crate::Service;
use crate::metrics::Measures;

/// What the attachment is kept with.
pub(crate) struct Groups<S: Service> {
    pub(crate) target: Target,
    pub(crate) machine: Handle<Server<S>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Told when a command found no room.
    pub(crate) overflow: Arc<Notify>,
    /// How long the machine may take to answer.
    pub(crate) hang_timeout: Duration,
    pub(crate) health: Health,
    pub(crate) measures: Arc<Measures>,
}

impl<S: Service> Groups<S> {
    /// Keeps the server attached until the machine stops. It is healthy while it is.
    pub(crate) async fn keep(mut self) -> Result<(), ConnectError> {
        let mut pause = Pause::default();
        loop {
            let attachment = Attachment::connect(&self.target).await?;
            self.health.serving().await;
            let used = self.use_up(attachment).await;
            self.health.not_serving().await;
            match used {
                Ok(Some(loss)) => pause.after(&loss).await,
                Ok(None) => {}
                Err(Stopped) => return Ok(()),
            }
        }
    }

    /// Returns why the daemon is lost, unless this server gave it up.
    async fn use_up(&mut self, attachment: Attachment) -> Result<Option<Loss>, Stopped> {
        let Attachment { process, address, commands, events } = attachment;
        self.machine.send(Input::Attached(process)).await?;
        let (cause, reason, loss) = tokio::select! {
            loss = listen(&self.machine, events) => {
                let loss = loss?;
                ("lost", loss.to_string(), Some(loss))
            }
            () = pass_on(&mut self.commands, &commands) => return Err(Stopped),
            () = self.overflow.notified() => ("overflow", "it does not keep up".to_owned(), None),
            () = hangs(&self.machine, self.hang_timeout) => {
                tracing::error!("the service does not return: this server hangs, and leaves its groups until it does");
                ("hang", "this server hangs".to_owned(), None)
            }
        };
        self.measures.detachments.get_or_create(&[("reason", cause)]).inc();
        tracing::warn!(%process, daemon = %address, reason, "the daemon is lost");
        // The process is gone at the latest when its commands are dropped.
        drop(commands);
        self.machine.send(Input::Detached).await?;
        // Answered once the orders before are performed: from here on nothing is queued for this life.
        self.machine.ask(|_| ()).await?;
        while self.commands.try_recv().is_ok() {}
        self.overflow.notified().now_or_never();
        Ok(loss)
    }
}

/// Returns when the machine has not answered for so long. Whoever hangs in a group holds up the others when the group
/// changes: it is better for all that it is none of them.
async fn hangs<S: Service>(machine: &Handle<Server<S>>, timeout: Duration) {
    loop {
        match tokio::time::timeout(timeout, machine.ask(|_| ())).await {
            Ok(Ok(())) => tokio::time::sleep(timeout / 4).await,
            // One that has stopped is noticed elsewhere.
            Ok(Err(Stopped)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Passes commands on, as fast as the daemon reads them.
async fn pass_on(queued: &mut mpsc::Receiver<Command>, commands: &gcs_client::Commands) {
    while let Some(command) = queued.recv().await {
        commands.send(command).await;
    }
}

/// Turns events into facts until the attachment is lost, and says why it was.
async fn listen<S: Service>(
    machine: &Handle<Server<S>>,
    mut events: gcs_client::Events,
) -> Result<Loss, Stopped> {
    while let Some(event) = events.next().await {
        let fact = match event {
            Event::Primary(primary) => Input::Primary(primary),
            Event::Views(views) => Input::Views(views),
            Event::Message { group, id, payload, view: _, level } => {
                Input::Message { group, sender: id.sender(), payload, level }
            }
            Event::Lost(loss) => return Ok(loss),
            // A server asks for no outcomes, and its groups are of the plain kind.
            Event::Outcome { .. }
            | Event::Block(_)
            | Event::Unblock(_)
            | Event::StateWanted { .. }
            | Event::State { .. }
            | Event::UpToDate { .. } => continue,
        };
        machine.send(fact).await?;
    }
    Ok(Loss::Broken("the daemon ended the call".to_owned()))
}
