//! WAIT and WAITAOF: who waits for replicas, or for the log, to have what was written.

use crate::node::Node;

/// A wait for acknowledgements, and the reply that it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckWait {
    /// The frame that replicas must have.
    pub frame: u64,
    /// So many of them.
    pub replicas: u64,
    /// WAITAOF: replicas must have it on their disks; None for WAIT.
    pub aof: Option<AofWait>,
}

/// What WAITAOF asks beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AofWait {
    /// How far the log must have come here.
    pub position: u64,
    /// That is waited for.
    pub local: bool,
}

impl AckWait {
    /// Whether the log of this node is waited for, but is off: there is nothing that would come.
    pub fn lacks_log(&self, node: &Node) -> bool {
        self.aof.is_some_and(|aof| aof.local) && !node.write_log.is_on()
    }

    fn is_synced(&self, node: &Node) -> bool {
        let log = &node.write_log;
        let position = self.aof.map_or(0, |aof| aof.position);
        log.is_on() && log.synced() >= position
    }

    /// How many replicas have acknowledged.
    fn acks(&self, node: &Node) -> u64 {
        node.replicas.count_acks(self.frame, self.aof.is_some())
    }

    /// Whether all that is waited for is there. The core is told when that may have changed.
    pub fn is_due(&self, node: &Node, core: usize) -> bool {
        let local = match self.aof.filter(|aof| aof.local) {
            None => true,
            Some(_) => {
                node.write_log.await_sync(core);
                self.is_synced(node)
            }
        };
        let acks = node
            .replicas
            .await_acks(core, self.frame, self.aof.is_some());
        local && acks >= self.replicas
    }

    /// The reply, as everything is now.
    pub fn reply(&self, node: &Node) -> Vec<u8> {
        let acks = self.acks(node);
        match self.aof {
            None => format!(":{acks}\r\n").into_bytes(),
            Some(_) => {
                let synced = u8::from(self.is_synced(node));
                format!("*2\r\n:{synced}\r\n:{acks}\r\n").into_bytes()
            }
        }
    }
}
