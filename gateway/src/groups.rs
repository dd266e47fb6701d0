//! The gateway's place in the group communication: it is a member of no group, and multicasts to many. Any daemon
//! will do, so it goes to another one when it loses its own.

use gcs_client::{Attachment, Command, ConnectError, Event, Loss, Pause, Target};
use model::ProcessId;
use session_core::Gateway;
use session_core::gateway::Input;
use svc_kit::driver::{Handle, Stopped};
use svc_kit::serve::Health;
use tokio::sync::{mpsc, watch};

/// What the attachment is kept with.
pub(crate) struct Groups {
    pub(crate) target: Target,
    pub(crate) machine: Handle<Gateway>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) process: watch::Sender<Option<ProcessId>>,
    pub(crate) health: Health,
}

impl Groups {
    /// Keeps the gateway attached until the machine stops. Clients are served while it is.
    pub(crate) async fn keep(mut self) -> Result<(), ConnectError> {
        let mut pause = Pause::default();
        loop {
            let attachment = Attachment::connect(&self.target).await?;
            self.process.send_replace(Some(attachment.process));
            self.health.serving().await;
            let used = self.use_up(attachment).await;
            self.process.send_replace(None);
            self.health.not_serving().await;
            match used {
                Ok(loss) => pause.after(&loss).await,
                Err(Stopped) => return Ok(()),
            }
        }
    }

    /// Passes commands on for as long as the attachment lasts, and drops those that come too late: the machine
    /// repeats what is not answered. Returns why it is over.
    async fn use_up(&mut self, mut attachment: Attachment) -> Result<Loss, Stopped> {
        self.machine.send(Input::GroupsUp).await?;
        let loss = loop {
            tokio::select! {
                event = attachment.events.next() => match event {
                    Some(Event::Lost(loss)) => break loss,
                    // A gateway is in no group, and asks for nothing that is answered here.
                    Some(_) => {}
                    None => break Loss::Broken("the daemon ended the call".to_owned()),
                },
                command = self.commands.recv() => match command {
                    Some(command) => attachment.commands.send(command).await,
                    None => return Err(Stopped),
                },
            }
        };
        tracing::warn!(daemon = %attachment.address, %loss, "the daemon is lost");
        self.machine.send(Input::GroupsDown).await?;
        // Answered once the orders before are performed: from here on nothing is multicast.
        self.machine.ask(|_| ()).await?;
        while self.commands.try_recv().is_ok() {}
        Ok(loss)
    }
}
