//! The node's side of a migration: its session with the source, the front, and its own replicas, each where it is at home.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use migration::{Authority, Place, Position, ReplId, Server, Slots};
use protocol::Flags;

use super::locked;
use super::parts::{Kept, LinkNow, Parts, Sharded};
use super::shards::together;
use super::written::{self, There, WrittenNow};
use crate::front::{self, Routes, Upstream};
use crate::node::Node;
use crate::replicas::{self, State};
use crate::source::{self, Followed, From, Line, Link, Login, Target};

/// How long it may take until what is changed here is said to replicas, and the rest between two looks.
const FEED_MAX: Duration = Duration::from_secs(5);
const FEED_LOOK: Duration = Duration::from_millis(2);

/// This node.
pub(super) struct OfNode {
    node: &'static Node,
    /// The old Redis, as a source and as a replica.
    old: Mutex<Option<Server>>,
    /// Where it is told of who asks for this node's history...
    asks: Mutex<Option<Receiver<replicas::Asked>>>,
    /// ...and what was asked for last.
    asked: Mutex<Option<Place>>,
    /// The lines to those of the old side that are written to, by their numbers.
    written: Mutex<BTreeMap<u16, written::Line>>,
}

fn place_of(position: Position) -> Place {
    Place::new(position.replid.text(), position.offset)
}

/// The same as a position. (Who becomes a primary, or is written to no longer, says the database anew.)
fn position_of(place: &Place) -> Result<Position, String> {
    let replid = ReplId::of(place.history.as_bytes());
    Ok(Position {
        replid: replid.ok_or("a history has forty digits")?,
        offset: place.offset,
        db: 0,
    })
}

impl OfNode {
    /// `goes_on`: a migration was found on the disk. Then nobody is given a copy of this node's data before it is known what that is.
    pub(super) fn new(node: &'static Node, goes_on: bool) -> OfNode {
        let parts = OfNode {
            node,
            old: Mutex::default(),
            asks: Mutex::default(),
            asked: Mutex::default(),
            written: Mutex::default(),
        };
        if goes_on {
            *locked(&parts.asks) = Some(node.replicas.expect("", 0));
        }
        parts
    }

    fn target(&self, server: &Server) -> Target {
        let config = self.node.config();
        Target {
            host: server.host.clone(),
            port: server.port,
            login: Login::As {
                user: config.master_user.clone(),
                password: config.master_auth.clone(),
                tls: server.tls,
            },
        }
    }

    fn upstream(&self, server: &Server) -> Result<Arc<Upstream>, String> {
        let config = self.node.config();
        let password = core::str::from_utf8(config.master_auth.as_bytes())
            .map_err(|_| "masterauth is no text")?;
        Ok(Arc::new(Upstream {
            host: server.host.clone(),
            port: server.port,
            user: config.master_user.clone(),
            password: password.to_owned(),
            tls: server.tls,
        }))
    }

    fn followed(&self, shard: &Sharded) -> Followed {
        Followed {
            number: shard.number,
            target: self.target(&shard.server),
            share: shard.share(),
        }
    }

    fn has_keys(&self) -> bool {
        let mut dbs = self.node.published.iter().flat_map(|core| &core.dbs);
        dbs.any(|(keys, _)| keys.load(Relaxed) > 0)
    }

    /// The old Redis among the replicas: the one that listens to its port, or the only one.
    fn old_link(&self) -> Option<Arc<replicas::Link>> {
        let links = self.node.replicas.links();
        let port = locked(&self.old).as_ref().map_or(0, |old| old.port);
        let mut online = links.iter().filter(|link| link.state() == State::Online);
        let named = links.iter().find(|link| link.said.port == port);
        let only = online.next().filter(|_| online.next().is_none());
        named.or(only).map(Arc::clone)
    }
}

fn link_of(line: &Line) -> LinkNow {
    let status = line.status();
    let scan = line.scan.is_on().then(|| line.scan.shown());
    let is_here = match &scan {
        Some(_) => line.scan.is_current(),
        None => status.position.is_some(),
    };
    let copying = status.copying.unwrap_or_default();
    LinkNow {
        state: match status.link {
            Link::Sync if copying.is_loading => "loading",
            Link::Sync => "copying",
            Link::Connected => "connected",
            Link::None => "none",
            Link::Connect | Link::Connecting | Link::Handshake => "connecting",
        },
        follows: status.link == Link::Connected && is_here,
        at: status.position.map(place_of).unwrap_or_default(),
        lag_bytes: match &scan {
            Some(scan) => scan.waiting_bytes,
            None => line.read_offset().saturating_sub(line.applied()),
        },
        copied_bytes: copying.received_bytes,
        copy_bytes: copying.total_bytes,
        copied_keys: copying.keys,
        silent_s: status.silent_s.unwrap_or_default(),
        error: status.error,
        copies: status.copies,
        resumes: status.resumes,
        scan,
    }
}

impl Parts for OfNode {
    fn now_ms(&self) -> u64 {
        crate::start::unix_ms()
    }

    fn mono_us(&self) -> u64 {
        runtime::mono_us()
    }

    fn rest(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn is_loaded(&self) -> bool {
        self.node.handle().is_some() && self.node.loading.has_started()
    }

    fn kept(&self) -> Kept {
        match self.node.source.position() {
            Some(position) => Kept::At(place_of(position)),
            None if self.has_keys() => Kept::Own,
            None => Kept::Nothing,
        }
    }

    fn follow(&self, server: &Server, place: Option<&Place>) -> Result<(), String> {
        let target = self.target(server);
        let status = self.node.source.status();
        let is_followed = status.target.as_ref() == Some(&target);
        if place.is_none() && is_followed && !self.node.source.is_by_scan() {
            return Ok(());
        }
        let from = match place {
            Some(place) => From::At(position_of(place)?),
            // (Said as such: who decides may have been this node until now.)
            None => status.position.map_or(From::Kept, From::At),
        };
        if let (Some(_), From::At(position)) = (place, from)
            && self.node.write_log.is_on()
        {
            // A start goes on from there.
            source::stand(self.node, position);
        }
        source::follow(self.node, target, from).map_err(|error| error.to_string())
    }

    fn follow_by_scan(&self, server: &Server) -> Result<(), String> {
        let (target, source) = (self.target(server), &self.node.source);
        if source.is_by_scan() && source.status().target.as_ref() == Some(&target) {
            return Ok(());
        }
        source::follow_by_scan(self.node, target).map_err(|error| error.to_string())
    }

    fn sweep(&self) {
        if let Some(desk) = self.node.source.scanned() {
            desk.ask_sweep();
        }
    }

    fn swept(&self) -> Option<Result<(), String>> {
        match self.node.source.scanned() {
            Some(desk) => desk.swept(),
            None => Some(Err("the source is not followed by scan".to_owned())),
        }
    }

    fn unfollow(&self) {
        source::stop(self.node);
    }

    fn leave(&self) {
        source::take_over(self.node);
    }

    fn follow_all(&self, shards: &[Sharded], is_anew: bool) -> Result<(), String> {
        let followed: Vec<Followed> = shards.iter().map(|shard| self.followed(shard)).collect();
        source::follow_all(self.node, &followed, is_anew)
    }

    fn follow_shard(&self, shard: &Sharded, copies: bool) -> Result<(), String> {
        let from = if copies { From::Nothing } else { From::Kept };
        source::follow_line(self.node, &self.followed(shard), from)
    }

    fn follow_others(&self, shards: &[Sharded]) -> Result<(), String> {
        let followed: Vec<Followed> = shards.iter().map(|shard| self.followed(shard)).collect();
        source::follow_others(self.node, &followed)
    }

    fn follow_shard_at(&self, shard: &Sharded, place: &Place) -> Result<(), String> {
        let from = From::At(position_of(place)?);
        source::follow_line(self.node, &self.followed(shard), from)
    }

    fn unfollow_shard(&self, number: u16) {
        source::end_line(self.node, number);
    }

    fn own_shard(&self, number: u16, all: bool) {
        source::own_line(self.node, number);
        if all {
            source::take_over(self.node);
        }
    }

    fn drop_shard(&self, number: u16) {
        source::drop_line(self.node, number);
    }

    fn links(&self) -> Vec<LinkNow> {
        let lines = self.node.source.lines();
        lines.iter().map(|line| link_of(line)).collect()
    }

    fn link(&self) -> LinkNow {
        let source = &self.node.source;
        if source.is_many() {
            let lines = source.lines();
            let followed = lines.iter().filter(|line| line.status().target.is_some());
            let links: Vec<LinkNow> = followed.map(|line| link_of(line)).collect();
            return together(&links);
        }
        if let Some(position) = source.position() {
            self.node.front.set_history(position.replid.text());
        }
        let lines = source.lines();
        lines
            .first()
            .map_or(LinkNow::default(), |line| link_of(line))
    }

    fn set_upstreams(&self, shards: &[Sharded]) -> Result<(), String> {
        let most = shards.iter().map(|shard| usize::from(shard.number) + 1);
        let mut upstreams = vec![None; most.max().unwrap_or(0)];
        for shard in shards {
            upstreams[usize::from(shard.number)] = Some(self.upstream(&shard.server)?);
        }
        let slots = shards
            .iter()
            .filter_map(|shard| Some((shard.number, shard.slots.as_ref()?)));
        let rule = shards.first().and_then(|shard| shard.rule.clone());
        let ours = shards.iter().filter(|shard| shard.is_ours);
        let routes = Routes::new(upstreams, self.node.source.lines(), slots)
            .with_rule(rule)
            .with_ours(ours.map(|shard| shard.number));
        self.node.front.set_routes(Some(Arc::new(routes)));
        Ok(())
    }

    fn unsettle(&self, slots: &Slots) {
        self.node.front.unsettle(slots.iter());
    }

    fn set_upstream(&self, server: Option<&Server>) -> Result<(), String> {
        let upstream = server.map(|server| self.upstream(server)).transpose()?;
        self.node.front.set_routes(None);
        self.node.front.set_upstream(upstream);
        *locked(&self.old) = server.cloned();
        Ok(())
    }

    fn authority(&self) -> Authority {
        self.node.source.authority()
    }

    fn hold(&self) {
        // (The stream's end is to stand still on the way back.)
        self.node.replicas.keep_still(true);
        front::hold(self.node);
    }

    fn in_flight(&self) -> usize {
        front::in_flight(self.node)
    }

    fn unblock(&self) {
        front::unblock(self.node);
    }

    fn release(&self, authority: Authority) {
        self.node.replicas.keep_still(false);
        front::release(self.node, authority);
    }

    fn prepare_flip(&self) -> Result<(), String> {
        self.node.replicas.turn_on(self.node);
        let mut waited = Duration::ZERO;
        while !self.node.write_log.feeds() {
            if waited >= FEED_MAX {
                return Err("what is changed here is not recorded for replicas yet".to_owned());
            }
            self.rest(FEED_LOOK);
            waited += FEED_LOOK;
        }
        Ok(())
    }

    fn tell_as(&self, version: Option<(u64, u64)>) {
        let reader = version.map(migration::Reader::of_redis);
        self.node.replicas.tell_as(reader);
    }

    fn expect(&self, place: &Place) {
        // Who asked before is held as well, and does not ask again.
        let held = self.asked();
        let asks = self.node.replicas.expect(&place.history, place.offset);
        *locked(&self.asks) = Some(asks);
        *locked(&self.asked) = held.filter(|held| held.history == place.history);
    }

    fn asked(&self) -> Option<Place> {
        if let Some(asks) = &*locked(&self.asks) {
            for ask in asks.try_iter() {
                // (It names the first byte that it lacks.)
                let offset = u64::try_from(ask.offset - 1).unwrap_or(0);
                *locked(&self.asked) = Some(Place::new(&ask.replid, offset));
            }
        }
        locked(&self.asked).clone()
    }

    fn answer(&self, grants: bool) {
        if !grants {
            self.node.replicas.refuse(&self.node.write_log);
        }
        // Granted: `take_over` has judged whoever waited.
        *locked(&self.asks) = None;
        *locked(&self.asked) = None;
    }

    fn take_over(&self, place: &Place, to_replica: bool) -> Result<(), String> {
        let node = self.node;
        // (Without a stream there is no replica that could have another.)
        if !to_replica && !node.write_log.feeds() {
            source::take_over(node);
            return Ok(());
        }
        node.replicas
            .take_over(&node.write_log, &place.history, place.offset)
            .map_err(|error| error.to_string())?;
        source::take_over(node);
        Ok(())
    }

    fn end(&self) -> Place {
        let replicas = &self.node.replicas;
        Place::new(&replicas.history().id, replicas.stream().end)
    }

    fn acknowledged(&self) -> Option<u64> {
        let link = self.old_link()?;
        (link.state() == State::Online).then(|| link.acked())
    }

    fn said_all(&self) -> Option<Place> {
        let (history, offset) = self.node.replicas.said_all(&self.node.write_log)?;
        Some(Place { history, offset })
    }

    fn write_there(&self, there: There) {
        let number = there.number();
        self.stop_writing(number);
        match written::Line::begin(self.node, there) {
            Ok(line) => drop(locked(&self.written).insert(number, line)),
            Err(error) => self.note(&format!(
                "migration: nothing is written to the old Redis: {error}"
            )),
        }
    }

    fn stop_writing(&self, number: u16) {
        let line = locked(&self.written).remove(&number);
        if let Some(line) = line {
            line.end();
        }
    }

    fn drop_queue(&self, number: u16) {
        self.node.write_log.hold_from(number, u64::MAX);
    }

    fn written(&self, number: u16) -> WrittenNow {
        locked(&self.written)
            .get(&number)
            .map(written::Line::now)
            .unwrap_or_default()
    }

    fn log_end(&self) -> Option<u64> {
        let log = &self.node.write_log;
        log.is_on().then(|| log.queued())
    }

    fn end_keys(&self, until_ms: u64, of: Option<&Sharded>) -> Result<(), String> {
        written::end_keys(self.node, until_ms, of.map(Sharded::share))
    }

    fn stand(&self, place: &Place, of: Option<u16>) -> Result<(), String> {
        written::stand(self.node, position_of(place)?, of)
    }

    fn sync_log(&self, sequence: u64) -> Result<(), String> {
        written::await_sync(self.node, sequence)
    }

    fn writes(&self, name: &str) -> bool {
        let row = self.node.table().find(name.as_bytes());
        row.is_some_and(|row| row.spec.flags.contains(Flags::WRITE))
    }

    fn requests(&self) -> (u64, u64) {
        (
            self.node.sum(|core| &core.commands),
            self.node.sum(|core| &core.errors_total),
        )
    }

    fn note(&self, text: &str) {
        self.node.log(|log| log.notice(text));
    }
}
