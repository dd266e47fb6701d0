//! A membership server with Moshe: rows and links go to all others, and so do votes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use model::{ServerId, Time};

use crate::message::{CLAIM_MAX, Fault, Kind, Message, NAMES_MAX, Neighbours, Proposal, Row};
use crate::port::Output;
use crate::protocol::Agreeing;
use crate::server::Server;

impl Server {
    pub(super) fn moshe_up(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        self.vitals.link(now, server);
        let Agreeing::Moshe(moshe) = &mut self.agreeing else { return };
        moshe.agreement.forget_before(server);
        if moshe.links.forget_before(now, server) {
            self.tell_links(Some(server), out);
        }
        let Agreeing::Moshe(moshe) = &self.agreeing else { return };
        let row = Message::Row(self.attachments.row());
        let links = Message::Links(moshe.links.known().clone());
        let proposal = moshe.agreement.proposal_for(server).cloned().map(Message::Proposal);
        let messages = [row, links].into_iter().chain(proposal);
        out.extend(messages.map(|message| Output::Send { to: server, message }));
    }

    pub(super) fn moshe_down(&mut self, now: Time, server: ServerId, out: &mut Vec<Output>) {
        if self.agreeing.moshe().is_ok_and(|moshe| moshe.links.down(now, server)) {
            self.tell_links(None, out);
        }
    }

    pub(super) fn moshe_row(&mut self, now: Time, from: ServerId, row: Row, out: &mut Vec<Output>) {
        self.network.announce(from, row);
        if self.agreeing.moshe().is_ok_and(|moshe| moshe.links.up(now, from)) {
            self.tell_links(None, out);
        }
    }

    pub(super) fn hear_links(
        &mut self,
        now: Time,
        from: ServerId,
        links: &BTreeMap<ServerId, Neighbours>,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        self.agreeing.moshe()?;
        if links.len() > NAMES_MAX || links.values().any(|neighbours| neighbours.linked.len() > NAMES_MAX) {
            return Err(Fault::TooManyNames);
        }
        if links.values().any(|neighbours| neighbours.version >= CLAIM_MAX) {
            return Err(Fault::OutOfRange);
        }
        self.hang_up_on_earlier_lives(now, links.keys(), out);
        let moshe = self.agreeing.moshe()?;
        if self.network.is_up(from) && moshe.links.merge(now, from, links) {
            self.tell_links(Some(from), out);
        }
        Ok(())
    }

    /// A link to a server of which a later life is heard of is about to break, and its daemons are to have their grace
    /// from now on.
    fn hang_up_on_earlier_lives<'a>(
        &mut self,
        now: Time,
        known: impl Iterator<Item = &'a ServerId>,
        out: &mut Vec<Output>,
    ) {
        let earlier: Vec<_> = known.filter_map(|later| self.network.earlier_life(*later)).collect();
        for server in earlier {
            out.push(Output::HangUpOn { server });
            self.peer_down(now, server, out);
        }
    }

    fn tell_links(&self, except: Option<ServerId>, out: &mut Vec<Output>) {
        if let Agreeing::Moshe(moshe) = &self.agreeing {
            self.tell_all(except, &Message::Links(moshe.links.known().clone()), out);
        }
    }

    pub(super) fn hear_proposal(&mut self, from: ServerId, proposal: Proposal) -> Result<(), Fault> {
        let moshe = self.agreeing.moshe()?;
        let row = self.network.row(from).ok_or(Fault::NotUp)?;
        proposal.check(from, self.id, self.params.daemons_max)?;
        let told: Vec<_> = proposal
            .starts
            .keys()
            .filter_map(|daemon| Some((*daemon, row.daemons.get(daemon)?.since)))
            .collect();
        if moshe.agreement.store(from, proposal) {
            moshe.unanswered.insert(from);
            for (daemon, since) in told {
                self.standings.change(daemon, from, since);
            }
        }
        Ok(())
    }

    /// Does what votes ask for that came since this was done last, and changed nothing in what this server votes for.
    pub(super) fn answer_votes(&mut self, now: Time, out: &mut Vec<Output>) {
        let Agreeing::Moshe(moshe) = &mut self.agreeing else { return };
        for from in core::mem::take(&mut moshe.unanswered) {
            let answer = self.agreeing.moshe().ok().and_then(|moshe| moshe.agreement.answer(from));
            if let Some(kind) = answer {
                self.propose(now, kind, out);
            }
        }
        // Only then: rule D1 has to see first whether they have used mine.
        self.count_votes(now, out);
    }

    pub(super) fn propose(&mut self, now: Time, kind: Kind, out: &mut Vec<Output>) {
        let starts = self.start(out);
        let Agreeing::Moshe(moshe) = &mut self.agreeing else { return };
        let proposal = moshe.agreement.propose(kind, starts).clone();
        // Whoever is not linked gets it when it is.
        for to in proposal.target.servers.iter().filter(|server| self.network.is_up(**server)) {
            out.push(Output::Send { to: *to, message: Message::Proposal(proposal.clone()) });
        }
        self.count_votes(now, out);
    }

    fn count_votes(&mut self, now: Time, out: &mut Vec<Output>) {
        let Agreeing::Moshe(moshe) = &mut self.agreeing else { return };
        if let Some(agreed) = moshe.agreement.conclude() {
            self.conclude(now, agreed, out);
        }
    }
}
