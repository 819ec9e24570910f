//! Which cues a scene has. They depend on the seed alone: who waits at a cue is not known here, so waiters and writers are
//! different connections, and what a waiter says while it waits is pipelined behind.

use std::rc::Rc;

use super::{Cue, Scene};
use crate::differential::catalogue::{Catalogue, Op, Place};
use crate::differential::few::{self, Few};
use crate::differential::rule::Rule;
use crate::differential::values::Draft;
use crate::differential::{generate, scenarios};
use crate::rng::Rng;

/// Groups that are played in lock step.
pub(crate) const GROUPS: [&str; 5] = [
    "blocking",
    "pubsub",
    "notifications",
    "tracking",
    "interleaving",
];
/// Connections that write for those that wait.
const WRITERS: usize = 2;
/// Connections that hear of keyspace events, and the one that says which.
const LISTENERS: usize = 2;
const CHOOSER: usize = LISTENERS;
/// Requests of one write, where events are listened to.
const WRITES_MAX: usize = 14;

/// A random scene of the chosen groups.
pub(crate) fn draw(catalogue: &Catalogue, rng: &mut Rng) -> Option<Scene> {
    let chosen: Vec<&str> = GROUPS
        .into_iter()
        .filter(|group| catalogue.has_group(group))
        .collect();
    let group = rng.pick(&chosen).copied()?;
    let (least, most, cues) = match group {
        "blocking" => (3, 4, (14, 34)),
        "pubsub" => (3, 5, (25, 50)),
        "notifications" => (2, 3, (12, 24)),
        "tracking" => (3, 5, (25, 45)),
        _ => (3, 5, (40, 80)),
    };
    let some = least + rng.below(most - least + 1);
    let extra = match group {
        "blocking" => WRITERS,
        "notifications" => LISTENERS,
        _ => 0,
    };
    let speaks_three = (0..some + extra).map(|_| rng.percent(50)).collect();
    let mut scene = Scene {
        group,
        speaks_three,
        is_tagged: group == "blocking" && rng.percent(50),
        cues: Vec::new(),
    };
    if group == "notifications" {
        listeners(rng, &mut scene);
    }
    for _ in 0..cues.0 + rng.below(cues.1 - cues.0) {
        let cue = match group {
            "blocking" => blocking(catalogue, rng, some, scene.is_tagged),
            "pubsub" => pubsub(catalogue, rng, some),
            "notifications" => notifications(catalogue, rng, some + extra),
            "tracking" => tracking(catalogue, rng, some),
            _ => interleaving(catalogue, rng, some),
        };
        scene.cues.extend(cue);
    }
    if group == "notifications" {
        scene.cues.push(events(CHOOSER, b""));
    }
    if scene.is_tagged {
        scene.cues.iter_mut().for_each(tag);
    }
    Some(scene)
}

/// A unit of a place, said by one connection.
fn one(catalogue: &Catalogue, rng: &mut Rng, place: Place, actor: usize) -> Option<Cue> {
    let unit = catalogue.draw(place, rng)?;
    Some(Cue {
        actor,
        ops: unit.expand(rng).into_iter().map(Rc::new).collect(),
        brief: place == Place::Brief,
    })
}

/// Puts a tag before the keys: all are in one slot then.
fn tag(cue: &mut Cue) {
    for op in &mut cue.ops {
        let mut words = op.words.clone();
        for at in &op.keys {
            if let Some(word) = words.get_mut(*at) {
                *word = [few::TAG.as_bytes(), word].concat();
            }
        }
        *op = Rc::new(Op {
            name: op.name.clone(),
            words,
            keys: op.keys.clone(),
            marks: op.marks.clone(),
            rule: op.rule,
            queued: op.queued.clone(),
        });
    }
}

/// Requests for several keys wait where these are in one slot: the subject runs them as a whole only if they are at hand.
fn blocking(catalogue: &Catalogue, rng: &mut Rng, waiters: usize, is_tagged: bool) -> Option<Cue> {
    let (waiter, writer) = (rng.below(waiters), waiters + rng.below(WRITERS));
    match rng.below(100) {
        0..16 if is_tagged && catalogue.has_place(Place::WaitsForMany) => {
            one(catalogue, rng, Place::WaitsForMany, waiter)
        }
        0..38 => {
            let mut cue = one(catalogue, rng, Place::Waits, waiter)?;
            // What is pipelined behind waits of several clients runs in any order, if they are served at once on several cores.
            if cue.ops.len() > 1 {
                cue.actor = 0;
            }
            Some(cue)
        }
        38..46 => one(catalogue, rng, Place::Brief, waiter),
        46..56 => one(catalogue, rng, Place::Unblocks, writer),
        56..64 => one(catalogue, rng, Place::Acts, waiter),
        64..76 => transaction(catalogue, rng, writer),
        _ => one(catalogue, rng, Place::Acts, writer),
    }
}

/// Several changes at once.
fn transaction(catalogue: &Catalogue, rng: &mut Rng, actor: usize) -> Option<Cue> {
    let mut ops = vec![plain(&[b"MULTI"])];
    for _ in 0..2 + rng.below(4) {
        let unit = catalogue.draw(Place::Acts, rng)?;
        ops.extend(unit.expand(rng).into_iter().map(Rc::new));
    }
    ops.push(plain(&[b"EXEC"]));
    Some(Cue {
        actor,
        ops,
        brief: false,
    })
}

fn pubsub(catalogue: &Catalogue, rng: &mut Rng, connections: usize) -> Option<Cue> {
    let actor = rng.below(connections);
    one(catalogue, rng, Place::Hears, actor)
}

fn interleaving(catalogue: &Catalogue, rng: &mut Rng, connections: usize) -> Option<Cue> {
    let actor = rng.below(connections);
    let acts = catalogue.has_place(Place::Acts) && rng.percent(45);
    let place = if acts { Place::Acts } else { Place::Meets };
    one(catalogue, rng, place, actor).filter(|cue| !cue.ops.iter().any(|op| is_quiet(op)))
}

/// Redis does not tell those who watch or track a stream of its groups; the subject does.
fn is_quiet(op: &Op) -> bool {
    op.name.starts_with("XGROUP")
}

/// Keys of one database: Redis tracks a name in all databases at once, the subject in each.
fn tracking(catalogue: &Catalogue, rng: &mut Rng, connections: usize) -> Option<Cue> {
    let actor = rng.below(connections);
    if rng.percent(60) || !catalogue.has_place(Place::Acts) {
        return one(catalogue, rng, Place::Tracks, actor);
    }
    let stays = |op: &Rc<Op>| {
        let leaves = |word: &Vec<u8>| matches!(word.as_slice(), b"11" | b"12");
        !op.words.iter().any(leaves) && !is_quiet(op)
    };
    one(catalogue, rng, Place::Acts, actor).filter(|cue| cue.ops.iter().all(stays))
}

fn listeners(rng: &mut Rng, scene: &mut Scene) {
    for actor in 0..LISTENERS {
        let pattern = rng.text(&["__key*__:*", "__keyspace@*", "__keyevent@11__:*"]);
        scene.cues.push(Cue {
            actor,
            ops: vec![plain(&[b"PSUBSCRIBE", &pattern])],
            brief: false,
        });
    }
    scene.cues.push(events(CHOOSER, b"KEA"));
}

/// Chooses which events are told.
fn events(actor: usize, which: &[u8]) -> Cue {
    let words: [&[u8]; 4] = [b"CONFIG", b"SET", b"notify-keyspace-events", which];
    Cue {
        actor,
        ops: vec![plain(&words)],
        brief: false,
    }
}

fn notifications(catalogue: &Catalogue, rng: &mut Rng, connections: usize) -> Option<Cue> {
    let writer = LISTENERS + rng.below(connections - LISTENERS);
    let mut ops = Vec::new();
    match rng.below(100) {
        0..10 => {
            let mut draft = Draft::default();
            Few::Events.write(rng, &mut draft);
            return Some(events(CHOOSER, draft.words.first()?));
        }
        10..30 if catalogue.has_place(Place::Acts) => {
            return one(catalogue, rng, Place::Acts, writer);
        }
        30..45 if catalogue.has_group("transactions") => {
            ops = scenarios::transaction(catalogue, rng);
        }
        45..60 => ops = generate::anywhere(catalogue, rng),
        _ => {
            for _ in 0..2 + rng.below(WRITES_MAX) {
                ops.extend(generate::anywhere(catalogue, rng));
            }
        }
    }
    Some(Cue {
        actor: writer,
        ops,
        brief: false,
    })
}

fn plain(words: &[&[u8]]) -> Rc<Op> {
    let name = words.first().copied().unwrap_or_default();
    Rc::new(Op {
        name: String::from_utf8_lossy(name).into_owned(),
        words: words.iter().map(|word| word.to_vec()).collect(),
        keys: Vec::new(),
        marks: Vec::new(),
        rule: Rule::Exact,
        queued: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::{GROUPS, Rng, draw};
    use crate::differential::catalogue::{self, Catalogue};
    use crate::differential::coverage::Coverage;

    #[test]
    fn every_group_has_scenes() {
        let groups: Vec<_> = catalogue::GROUPS.map(str::to_owned).to_vec();
        let catalogue = Catalogue::new(&groups, true, &mut Coverage::default()).unwrap();
        let mut rng = Rng::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let scene = draw(&catalogue, &mut rng).unwrap();
            assert!(scene.cues.len() > 10, "{}", scene.group);
            for cue in &scene.cues {
                assert!(cue.actor < scene.speaks_three.len());
            }
            seen.insert(scene.group);
        }
        assert_eq!(seen.len(), GROUPS.len());
    }
}
