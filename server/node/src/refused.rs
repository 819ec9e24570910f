//! Requests that wait for slots and are refused instead: a script has begun to run for long, or a copy to replace the data.

use protocol::{Refusal, Resp};

use crate::mail::Ticket;
use crate::service::NodeService;
use crate::table::Row;
use crate::transaction::{Guests, Job, Tx};

impl NodeService {
    /// A transaction that has all its slots, unless they are being filled by a copy that has begun while it waited: then it is refused.
    pub(crate) fn unless_loading(
        &mut self,
        number: u64,
        tx: Tx,
        guests: Guests,
    ) -> Option<(Tx, Guests)> {
        if !self.core.lacks_data() || !self.needs_data(&tx) {
            return Some((tx, guests));
        }
        let by = (tx.ticket.core, tx.ticket.conn);
        self.core.finish_tx(number, guests, by);
        match &tx.job {
            // It goes on waiting: see `Waiting::look_at_all`.
            Job::Again(waiter, _) => waiter.give_back(),
            _ => self.refuse_tx(tx, &Refusal::Loading),
        }
        None
    }

    /// Whether it is not run while data is being read. (Of a script that was found long nothing has been done yet.)
    fn needs_data(&mut self, tx: &Tx) -> bool {
        let core = &self.core;
        match &tx.job {
            Job::One { request, .. } | Job::Script { request, .. } | Job::Again(_, request) => {
                core.waits_for_data(request.row)
            }
            Job::Block(attempt) => core.waits_for_data(attempt.request.row),
            Job::Wide(batch) => {
                let head = batch.heads.first();
                head.is_some_and(|head| core.waits_for_data(head.row))
            }
            Job::Exec => self.clients.get_mut(tx.ticket.conn).is_some_and(|client| {
                let queued = client.multi.as_deref().map(|multi| &multi.queued);
                let mut queued = queued.into_iter().flatten();
                queued.any(|request| core.waits_for_data(request.row))
            }),
            _ => false,
        }
    }

    /// Refuses all requests of clients that wait for slots.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal) {
        for batch in self.core.locks.take_parked() {
            if let Some(head) = batch.heads.first() {
                self.refuse_request(head.ticket, head.row, head.resp, refusal);
            }
        }
        for walk in core::mem::take(&mut self.core.walks) {
            let (ticket, row, resp) = walk.whose();
            self.refuse_request(ticket, row, resp, refusal);
        }
        let txs = self.core.txs.iter();
        let waiting = txs.filter(|(_, tx)| tx.job.can_be_refused());
        let mut waiting: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        waiting.sort_unstable();
        for number in waiting {
            if let Some(tx) = self.core.withdraw(number) {
                self.refuse_tx(tx, refusal);
            }
        }
    }

    fn refuse_tx(&mut self, tx: Tx, refusal: &Refusal) {
        let ticket = tx.ticket;
        match tx.job {
            Job::One { request, resp, .. } => {
                self.refuse_request(ticket, request.row, resp, refusal)
            }
            Job::Script {
                request, caller, ..
            } => self.refuse_request(ticket, request.row, caller.resp, refusal),
            Job::Block(attempt) => {
                self.refuse_request(ticket, attempt.request.row, attempt.resp, refusal);
            }
            Job::Wide(batch) => {
                if let Some(head) = batch.heads.first() {
                    self.refuse_request(ticket, head.row, head.resp, refusal);
                }
            }
            Job::Exec => self.refuse_exec(ticket, refusal),
            // INVARIANT: neither `Job::can_be_refused` nor `needs_data` names another.
            _ => {}
        }
    }

    pub(crate) fn refuse_request(
        &mut self,
        ticket: Ticket,
        row: &Row,
        resp: Resp,
        refusal: &Refusal,
    ) {
        let mut out = Vec::new();
        self.core.tally.rejected(row.index);
        self.core.refuse(refusal, resp, &mut out);
        self.reply(ticket, &out);
    }

    /// EXEC that is refused ends its MULTI.
    fn refuse_exec(&mut self, ticket: Ticket, refusal: &Refusal) {
        let mut current = self.clients.take(ticket.conn);
        let mut out = Vec::new();
        if let Some(client) = &mut current {
            if let Some(row) = client.last {
                self.core.tally.rejected(row.index);
            }
            self.core.end_multi(client);
            let refusal = Refusal::exec_abort(refusal);
            self.core.refuse(&refusal, client.resp, &mut out);
        }
        self.put_back(&mut current);
        self.reply(ticket, &out);
    }
}
