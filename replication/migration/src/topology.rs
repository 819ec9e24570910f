//! What a cluster of Redis says of itself (`CLUSTER NODES`), and what has changed since it was asked before.
//!
//! ```text
//!  <id> <host>:<port>@<bus>[,<name>…] <flags> <primary's id or -> <ping> <pong> <epoch> <link> [<slots> …]
//!  slots: 5   0-5460   [93->-<id>] on its way to another   [77-<-<id>] on its way here; a node says so of its own only
//! ```
//! A shard keeps its number for as long as the migration lasts: it is known again by the id of its primary, and after a failover by its slots.

use core::fmt;

use storage::Slot;

use crate::{Server, Slots, is_host};

/// Lines of an answer: a cluster has no more nodes.
const NODES_MAX: usize = 4096;

/// A primary that owns slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its id, forty hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub server: Server,
    /// Its slots.
    pub slots: Slots,
}

/// A cluster, as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Its primaries that own slots and are up, by their first slots.
    pub primaries: Vec<Primary>,
    /// Slots of the node that was asked which are being moved, in either direction.
    pub moving: Slots,
}

/// Why an answer is no topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyError {
    /// This line means nothing.
    Line(usize),
    /// No primary that is up owns these.
    Uncovered(Slots),
    /// It has more nodes than a cluster can.
    Long,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::Line(line) => write!(f, "line {line} of CLUSTER NODES cannot be read"),
            TopologyError::Uncovered(slots) => {
                write!(f, "no primary that is up owns the slots {slots}")
            }
            TopologyError::Long => write!(f, "CLUSTER NODES has more than {NODES_MAX} lines"),
        }
    }
}

impl core::error::Error for TopologyError {}

impl Topology {
    /// Reads an answer. `asked`: the host that was asked, for a node that does not know its own; `tls`: how its servers are spoken to.
    ///
    /// # Errors
    /// [`TopologyError`]
    pub fn read(text: &str, asked: &str, tls: bool) -> Result<Topology, TopologyError> {
        let mut found = Topology::default();
        for (at, line) in text.lines().enumerate() {
            if at >= NODES_MAX {
                return Err(TopologyError::Long);
            }
            let line = line.trim_end_matches('\r');
            if !line.is_empty() {
                found
                    .take(line, asked, tls)
                    .ok_or(TopologyError::Line(at + 1))?;
            }
        }
        let first = |primary: &Primary| primary.slots.iter().next();
        found.primaries.sort_by_key(first);
        let mut covered = Slots::default();
        found
            .primaries
            .iter()
            .for_each(|primary| covered.add(&primary.slots));
        let missing = Slots::all().without(&covered);
        match missing.is_empty() {
            true => Ok(found),
            false => Err(TopologyError::Uncovered(missing)),
        }
    }

    fn take(&mut self, line: &str, asked: &str, tls: bool) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, _, _, _, _, _, slots @ ..] = words.as_slice() else {
            return None;
        };
        let flags: Vec<&str> = flags.split(',').collect();
        let has = |flag: &str| flags.contains(&flag);
        let mut owned = Slots::default();
        for word in slots.iter().filter(|word| !word.is_empty()) {
            match word.strip_prefix('[') {
                None => owned.add_range(word)?,
                Some(mark) => {
                    let slot = mark.split_once('-')?.0.parse().ok()?;
                    if has("myself") {
                        self.moving.insert(Slot(slot));
                    }
                }
            }
        }
        // (One that may have failed is asked itself; one that has is nobody any more.)
        if !has("master") || has("fail") || owned.is_empty() {
            return Some(());
        }
        let id_is_good = id.len() == 40 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        let (host, port) = address
            .split_once('@')
            .unwrap_or((address, ""))
            .0
            .rsplit_once(':')?;
        let host = if host.is_empty() { asked } else { host };
        if !id_is_good || !is_host(host) {
            return None;
        }
        self.primaries.push(Primary {
            id: (*id).to_owned(),
            server: Server {
                host: host.to_owned(),
                port: port.parse().ok().filter(|port| *port != 0)?,
                tls,
            },
            slots: owned,
        });
        Some(())
    }
}

/// One of the servers that a migration follows together with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    /// Its slots; None where the application shards by hand. Empty: it has none any more, and is not followed.
    pub slots: Option<Slots>,
    /// Where the application shards by hand: patterns of its keys, as KEYS takes them. A key is that server's whose patterns are the first, in the
    /// order of the servers, that it matches. None: whose a key is nobody can tell by its name.
    pub patterns: Vec<String>,
    /// The id of its primary in the cluster; empty where there is none.
    pub id: String,
}

/// What has become of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another server is its primary, and has its data; some of its slots may be another's.
    Elsewhere,
    /// Some of its slots are another's.
    Fewer,
    /// It has got these slots: its data here is not all of its data.
    More(Slots),
    /// It has no slots any more.
    Gone,
}

/// Shards as they are, and what has changed, by number.
pub type Changed = (Vec<(Server, Shard)>, Vec<(usize, Change)>);

/// What has changed since shards were as they are known: all of them as they are now, and the changes by number. Nothing has if it is the same.
pub fn changes(servers: &[Server], shards: &[Shard], seen: &Topology) -> Changed {
    let mut now: Vec<(Server, Shard)> = servers
        .iter()
        .cloned()
        .zip(shards.iter().cloned())
        .collect();
    let is_there = |id: &str| seen.primaries.iter().any(|primary| primary.id == id);
    let (mut found, mut taken) = (Vec::new(), vec![false; shards.len()]);
    let known: Vec<Option<usize>> = seen
        .primaries
        .iter()
        .map(|primary| shards.iter().position(|shard| shard.id == primary.id))
        .collect();
    known.iter().flatten().for_each(|at| taken[*at] = true);
    for (primary, known) in seen.primaries.iter().zip(known) {
        let heir = || {
            let left = (0..shards.len()).filter(|at| !taken[*at] && !is_there(&shards[*at].id));
            let shared = |at: &usize| {
                let slots = shards[*at].slots.as_ref();
                slots.map_or(0, |slots| slots.len() - slots.without(&primary.slots).len())
            };
            left.max_by_key(shared).filter(|at| shared(at) > 0)
        };
        let shard = Shard {
            slots: Some(primary.slots.clone()),
            id: primary.id.clone(),
            ..Shard::default()
        };
        let Some(at) = known.or_else(heir) else {
            found.push((now.len(), Change::More(primary.slots.clone())));
            now.push((primary.server.clone(), shard));
            continue;
        };
        taken[at] = true;
        let (server, before) = &now[at];
        let before_slots = before.slots.clone().unwrap_or_default();
        let more = primary.slots.without(&before_slots);
        if !more.is_empty() {
            found.push((at, Change::More(more)));
        } else if *server != primary.server {
            found.push((at, Change::Elsewhere));
        } else if before_slots != primary.slots {
            found.push((at, Change::Fewer));
        }
        now[at] = (primary.server.clone(), shard);
    }
    for at in (0..shards.len()).filter(|at| !taken[*at]) {
        let shard = &mut now[at].1;
        if shard.slots.as_ref().is_some_and(|slots| !slots.is_empty()) {
            shard.slots = Some(Slots::default());
            found.push((at, Change::Gone));
        }
    }
    (now, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn nodes(lines: &[(char, u16, &str, &str)]) -> String {
        let line = |(digit, port, flags, slots): &(char, u16, &str, &str)| {
            format!(
                "{} 10.0.0.1:{port}@1{port},name {flags} - 0 0 1 connected {slots}\n",
                id(*digit)
            )
        };
        lines.iter().map(line).collect()
    }

    fn read(text: &str) -> Result<Topology, TopologyError> {
        Topology::read(text, "asked", false)
    }

    const THREE: [(char, u16, &str, &str); 4] = [
        ('a', 7000, "myself,master", "0-5460"),
        ('b', 7001, "master", "5461-10922"),
        ('c', 7002, "master,fail?", "10923-16383"),
        ('d', 7003, "slave", ""),
    ];

    fn followed(topology: &Topology) -> (Vec<Server>, Vec<Shard>) {
        let (now, _) = changes(&[], &[], topology);
        now.into_iter().unzip()
    }

    #[test]
    fn answers_are_read_or_their_line_is_named() {
        let three = read(&nodes(&THREE)).unwrap();
        let ports: Vec<u16> = three.primaries.iter().map(|one| one.server.port).collect();
        assert_eq!(ports, [7000, 7001, 7002]);
        assert!(three.moving.is_empty());
        let mut moving = THREE;
        moving[0].3 = "0-5460 [5->-bbb] [6-<-ccc]";
        assert_eq!(read(&nodes(&moving)).unwrap().moving.to_string(), "5-6");
        let alone = format!(
            "{} :7000@17000 myself,master - 0 0 1 connected 0-16383",
            id('a')
        );
        assert_eq!(read(&alone).unwrap().primaries[0].server.host, "asked");
        for (bad, line) in [
            ("hello", 1),
            ("a 10.0.0.1:7000@1 master - 0 0 1 connected 0-16383", 1),
            (&format!("{alone}-1"), 1),
            (&format!("\n{}", alone.replace("7000@", "0@")), 2),
            (&format!("{alone} [x->-y]"), 1),
        ] {
            assert_eq!(read(bad), Err(TopologyError::Line(line)), "{bad}");
        }
        let mut failed = THREE;
        failed[1].2 = "master,fail";
        let missing = Slots::of("5461-10922").unwrap();
        assert_eq!(
            read(&nodes(&failed)),
            Err(TopologyError::Uncovered(missing))
        );
        assert_eq!(read(&"\n".repeat(NODES_MAX + 1)), Err(TopologyError::Long));
    }

    #[test]
    fn shards_keep_their_numbers_through_failovers_and_moves() {
        let three = read(&nodes(&THREE)).unwrap();
        let (servers, shards) = followed(&three);
        let all = |seen: &[(char, u16, &str, &str)]| {
            changes(&servers, &shards, &read(&nodes(seen)).unwrap())
        };
        assert_eq!(all(&THREE).1, []);
        // The replica of the second one is its primary now.
        let mut failover = THREE;
        failover[1].2 = "master,fail";
        failover[1].3 = "";
        failover[3] = ('d', 7003, "master", "5461-10922");
        let (now, found) = all(&failover);
        assert_eq!(found, [(1, Change::Elsewhere)]);
        assert_eq!((now[1].0.port, &now[1].1.id), (7003, &id('d')));
        // Slots move, to a shard that is known and to a new one; one gives all away.
        let mut moved = THREE;
        (moved[0].3, moved[1].3) = ("0-99", "100-10922");
        let (_, found) = all(&moved);
        let more = Change::More(Slots::of("100-5460").unwrap());
        assert_eq!(found, [(0, Change::Fewer), (1, more)]);
        let mut grown = THREE;
        (grown[0].3, grown[3]) = ("", ('d', 7003, "master", "0-5460"));
        // (Its primary is still there, without slots: what it had is another's, who has all of it by a copy.)
        let (now, found) = all(&grown);
        assert_eq!(now.len(), 3);
        assert_eq!(found, [(0, Change::Elsewhere)]);
        let mut split = THREE;
        (split[0].3, split[3]) = ("0-99", ('d', 7003, "master", "100-5460"));
        let (now, found) = all(&split);
        let new = Change::More(Slots::of("100-5460").unwrap());
        assert_eq!(found, [(0, Change::Fewer), (3, new)]);
        assert_eq!(now[3].0.port, 7003);
        let mut merged = THREE;
        (merged[0].3, merged[1].3) = ("", "0-10922");
        let (now, found) = all(&merged);
        assert_eq!(found.len(), 2);
        assert!(found.contains(&(0, Change::Gone)));
        assert!(now[0].1.slots.as_ref().unwrap().is_empty());
        // Known as gone, it is told once.
        let (servers, shards): (Vec<_>, Vec<_>) = now.into_iter().unzip();
        let again = changes(&servers, &shards, &read(&nodes(&merged)).unwrap());
        assert_eq!(again.1, []);
    }
}
