//! Several sources followed at once: those of a cluster, each with its slots, or those among which an application spreads its keys itself.
//!
//! Lines keep their numbers for as long as the data is theirs: the log and snapshots name them by those. What a copy may remove here follows from
//! the line's [`Share`]. Of [`Share::Hand`] nobody can say afterwards whose a key was: so when one of these has to be copied, all are, from nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

use migration::{Authority, Position, ReplId};
use storage::Effect;
use storage::log::FrameKind;

use super::{From, Line, Share, Target, apply, end, lock, session};
use crate::node::Node;
use crate::start::unix_ms;

/// Sources that are followed at once.
pub const LINES_MAX: usize = 256;
/// How often it is looked whether the cores heed the authority.
const LOOK: Duration = Duration::from_millis(1);

/// One of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its number; it is never another's while the data here is theirs.
    pub number: u16,
    /// Where it is.
    pub target: Target,
    /// Its keys.
    pub share: Share,
}

/// Follows these from now on, whoever was followed before, each from where its data here is. `is_anew`: from nothing; then all that is here goes.
/// Who decides is set before, by the caller, and is not this node.
///
/// # Errors
/// What cannot be begun; then nobody is followed.
pub fn follow_all(node: &'static Node, wanted: &[Followed], is_anew: bool) -> Result<(), String> {
    let _one_at_a_time = lock(&node.source.anew);
    begin_all(node, wanted, (is_anew, false))
}

/// The same where this node decides for others that were followed: their keys stay, whatever is not known of these.
///
/// # Errors
/// As [`follow_all`].
pub fn follow_others(node: &'static Node, wanted: &[Followed]) -> Result<(), String> {
    let _one_at_a_time = lock(&node.source.anew);
    begin_all(node, wanted, (false, true))
}

fn begin_all(
    node: &'static Node,
    wanted: &[Followed],
    (is_anew, owns_some): (bool, bool),
) -> Result<(), String> {
    let source = &node.source;
    if source.authority() == Authority::Own {
        return Err("this node decides what keys hold".to_owned());
    }
    if wanted.len() > LINES_MAX {
        return Err(format!(
            "{} sources are to be followed, and {LINES_MAX} can be",
            wanted.len()
        ));
    }
    end(node);
    source.first.scan.set(false);
    let most = wanted.iter().map(|one| one.number + 1).max().unwrap_or(1);
    let lines = source.make_lines(most);
    let was_many = source.is_many.swap(true, AcqRel);
    let lacks = |one: &Followed| {
        let line = lines.get(usize::from(one.number));
        one.share == Share::Hand && line.is_none_or(|line| line.position().is_none())
    };
    if !owns_some && (is_anew || !was_many || wanted.iter().any(lacks)) {
        source.set_all_positions(None);
        clear(node)?;
    }
    for one in wanted {
        let line = lines.get(usize::from(one.number));
        let line = line.ok_or("a source has no line")?;
        let told = (one.target.clone(), one.share.clone());
        if let Err(error) = super::begin(node, line, told, From::Kept) {
            end(node);
            return Err(error.to_string());
        }
    }
    super::tell_cores(node)
}

/// Follows one of the sources that are followed already anew: at another place, or with other slots. `From::Nothing`: its keys are copied again.
///
/// # Errors
/// When it cannot be begun; then this one is not followed.
pub fn follow_line(node: &'static Node, one: &Followed, from: From) -> Result<(), String> {
    let _one_at_a_time = lock(&node.source.anew);
    node.source.is_many.store(true, Release);
    let lines = node.source.make_lines(one.number + 1);
    let line = lines.get(usize::from(one.number));
    let line = line.ok_or("a source has no line")?;
    let told = (one.target.clone(), one.share.clone());
    super::begin(node, line, told, from).map_err(|error| error.to_string())?;
    super::tell_cores(node)
}

/// Nothing of a line is executed any more when this has returned; what is here of it goes up to where it did.
pub fn end_line(node: &Node, number: u16) {
    let lines = node.source.lines();
    if let Some(line) = lines.get(usize::from(number)) {
        line.end();
    }
    node.source.recount();
}

/// This node decides for the keys of a line from now on: it is followed no longer, and the log says that what is here of it is nobody's. Nobody
/// writes meanwhile.
pub fn own_line(node: &Node, number: u16) {
    drop_line(node, number);
    if let Some(line) = node.source.lines().get(usize::from(number)) {
        line.read.store(0, Relaxed);
    }
    if node.write_log.is_on() {
        push_position(node, number, None);
    }
}

/// The log says that what is here of a line goes up to this position, as a whole; the sequence of that frame.
pub fn stand_line(node: &Node, number: u16, position: Position) -> u64 {
    push_position(node, number, Some(position))
}

fn push_position(node: &Node, line: u16, position: Option<Position>) -> u64 {
    let (replid, offset) = position.map_or((ReplId::NONE, 0), |at| (at.replid, at.offset));
    let effect = Effect::LineAt {
        line,
        replid: replid.bytes(),
        offset,
    };
    let mut frame = Vec::new();
    storage::encode(position.map_or(0, |at| at.db), &effect, &mut frame);
    node.write_log
        .push(FrameKind::Effects, 0, unix_ms(), &frame)
}

/// All that is here goes, by an effect like any other, and the log says that it is nobody's.
fn clear(node: &'static Node) -> Result<(), String> {
    while !node.source.is_taken() {
        if node.stopping.load(Relaxed) {
            return Err("the server was stopped".to_owned());
        }
        super::tell_cores(node)?;
        std::thread::sleep(LOOK);
    }
    super::note_own(node);
    apply::with_all(node, |core| {
        core.shard.edit().flush_all();
        core.queue_effects();
    })
}

/// A session of a line that has no share of its own has found that it must be copied: all are. What ends that session.
pub(super) fn again(node: &'static Node, line: &Arc<Line>, number: u64, why: &str) -> String {
    let source = &node.source;
    let _one_at_a_time = lock(&source.anew);
    if *lock(&line.order) != number {
        return session::ENDED.to_owned();
    }
    let wanted = source.lines();
    let wanted = wanted.iter().filter_map(|line| {
        Some(Followed {
            number: line.number,
            target: line.status().target?,
            share: line.share(),
        })
    });
    let wanted: Vec<Followed> = wanted.collect();
    node.log(|log| {
        log.warning(&format!(
            "{why}: which keys are this source's cannot be told, so all sources are copied again"
        ));
    });
    match begin_all(node, &wanted, (true, false)) {
        Ok(()) => session::ENDED.to_owned(),
        Err(why) => why,
    }
}

/// A line that is no cluster's any more: it is followed no longer, and has nothing.
pub fn drop_line(node: &Node, number: u16) {
    let lines = node.source.lines();
    if let Some(line) = lines.get(usize::from(number)) {
        line.end();
        line.set_position(None);
    }
    node.source.recount();
}

/// What has been copied counts, or does not any more.
pub(super) fn recount(node: &Node) -> Result<(), String> {
    node.source.recount();
    super::tell_cores(node)
}

#[cfg(test)]
mod tests {
    use super::super::{LINES_MAX, Login};
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn no_more_are_followed_than_can_be_and_none_by_who_decides() {
        let bench = Bench::new(1);
        let node = bench.node();
        let one = |number| Followed {
            number,
            target: Target {
                host: "127.0.0.1".to_owned(),
                port: 1,
                login: Login::OfConfig,
            },
            share: Share::Hand,
        };
        let wanted: Vec<Followed> = (0..=LINES_MAX as u16).map(one).collect();
        let refused = |wanted: &[Followed]| follow_all(node, wanted, false).unwrap_err();
        assert!(refused(&wanted[..1]).contains("this node decides"));
        node.source.set_authority(Authority::Source);
        assert!(refused(&wanted).contains("257 sources are to be followed, and 256 can be"));
        assert!(!node.source.is_many());
    }
}
