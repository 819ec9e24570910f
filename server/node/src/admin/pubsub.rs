//! SUBSCRIBE and its kin, PUBSUB; PUBLISH is routed by its channel (`table.rs`).

use commands::Refused;
use commands::key::glob;
use protocol::{Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec};
use storage::Slot;

use super::{Context, Done, NodeCommand, help};
use crate::core::Core;
use crate::pubsub::Topic;

pub(super) const COMMANDS: &[NodeCommand] = &[
    NodeCommand {
        spec: Spec {
            name: "psubscribe",
            summary: "Listens to all channels whose names match patterns.",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(psubscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "punsubscribe",
            summary: "Stops listening to patterns.",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::at_least(1),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(punsubscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "ssubscribe",
            summary: "Listens to shard channels.",
            group: Group::PubSub,
            since: "7.0.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::NOT_KEY,
            }],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(ssubscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "subscribe",
            summary: "Listens to channels.",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(subscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "sunsubscribe",
            summary: "Stops listening to shard channels.",
            group: Group::PubSub,
            since: "7.0.0",
            arity: Arity::at_least(1),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: -1,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::NOT_KEY,
            }],
            range: (1, -1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(sunsubscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "unsubscribe",
            summary: "Stops listening to channels.",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::at_least(1),
            flags: Flags::LOADING
                .and(Flags::NOSCRIPT)
                .and(Flags::PUBSUB)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(unsubscribe),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub",
            summary: "A container of commands that tell about channels.",
            group: Group::PubSub,
            since: "2.8.0",
            arity: Arity::at_least(2),
            flags: Flags::NONE,
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: None,
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|channels",
            summary: "Channels that somebody listens to.",
            group: Group::PubSub,
            since: "2.8.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING.and(Flags::PUBSUB).and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(pubsub_channels),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|help",
            summary: "Tells the subcommands.",
            group: Group::PubSub,
            since: "6.2.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::STALE),
            acl: Acl::SLOW,
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(help),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|numpat",
            summary: "How many patterns are listened to.",
            group: Group::PubSub,
            since: "2.8.0",
            arity: Arity::exactly(2),
            flags: Flags::LOADING.and(Flags::PUBSUB).and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(pubsub_numpat),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|numsub",
            summary: "How many listen to channels.",
            group: Group::PubSub,
            since: "2.8.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING.and(Flags::PUBSUB).and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(pubsub_numsub),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|shardchannels",
            summary: "Shard channels that somebody listens to.",
            group: Group::PubSub,
            since: "7.0.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING.and(Flags::PUBSUB).and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(pubsub_shardchannels),
    },
    NodeCommand {
        spec: Spec {
            name: "pubsub|shardnumsub",
            summary: "How many listen to shard channels.",
            group: Group::PubSub,
            since: "7.0.0",
            arity: Arity::at_least(2),
            flags: Flags::LOADING.and(Flags::PUBSUB).and(Flags::STALE),
            acl: Acl::PUBSUB.and(Acl::SLOW),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        run: Some(pubsub_shardnumsub),
    },
];

fn subscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    join(cx, args, Topic::Channel)
}

fn psubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    join(cx, args, Topic::Pattern)
}

fn ssubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    let mut slots = args.rest().map(Slot::of);
    let first = slots.next();
    if cx.core.config.cluster_enabled && slots.any(|slot| Some(slot) != first) {
        return Err(Refusal::CrossSlot.into());
    }
    join(cx, args, Topic::Shard)
}

fn unsubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    leave(cx, args, Topic::Channel)
}

fn punsubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    leave(cx, args, Topic::Pattern)
}

fn sunsubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    leave(cx, args, Topic::Shard)
}

fn join(cx: &mut Context<'_>, args: Args<'_>, topic: Topic) -> Result<Done, Refused> {
    let verb = match topic {
        Topic::Channel => "subscribe",
        Topic::Pattern => "psubscribe",
        Topic::Shard => "ssubscribe",
    };
    for name in args.rest() {
        cx.core.subscribe(cx.conn, topic, name);
        confirm(cx, verb, Some(name), topic);
    }
    Ok(Done::Replied)
}

fn leave(cx: &mut Context<'_>, args: Args<'_>, topic: Topic) -> Result<Done, Refused> {
    let verb = match topic {
        Topic::Channel => "unsubscribe",
        Topic::Pattern => "punsubscribe",
        Topic::Shard => "sunsubscribe",
    };
    if args.left() > 0 {
        for name in args.rest() {
            cx.core.unsubscribe(cx.conn, topic, name);
            confirm(cx, verb, Some(name), topic);
        }
        return Ok(Done::Replied);
    }
    let names = Core::subscribed(cx.conn, topic);
    for name in &names {
        cx.core.unsubscribe(cx.conn, topic, name);
        confirm(cx, verb, Some(name), topic);
    }
    if names.is_empty() {
        confirm(cx, verb, None, topic);
    }
    Ok(Done::Replied)
}

/// The confirmation of one name, with how many there are now: shard channels are counted by themselves.
fn confirm(cx: &mut Context<'_>, verb: &str, name: Option<&[u8]>, topic: Topic) {
    let count = cx.conn.subscriptions.as_ref().map_or(0, |subscriptions| {
        if topic == Topic::Shard {
            subscriptions.len(Topic::Shard)
        } else {
            subscriptions.len(Topic::Channel) + subscriptions.len(Topic::Pattern)
        }
    });
    cx.reply.push(3);
    cx.reply.bulk(verb.as_bytes());
    match name {
        Some(name) => cx.reply.bulk(name),
        None => cx.reply.null(),
    }
    cx.reply.int(count as i64);
}

fn pubsub_channels(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    names(cx, args, Topic::Channel)
}

fn pubsub_shardchannels(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    names(cx, args, Topic::Shard)
}

fn names(cx: &mut Context<'_>, mut args: Args<'_>, topic: Topic) -> Result<Done, Refused> {
    if args.left() > 1 {
        return Err(Refusal::subcommand_syntax(&args).into());
    }
    let pattern = args.bytes().ok();
    let all = cx.core.pubsub.names(topic);
    let found: Vec<&[u8]> = all
        .filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name)))
        .collect();
    cx.reply.array(found.len());
    found.into_iter().for_each(|name| cx.reply.bulk(name));
    Ok(Done::Replied)
}

fn pubsub_numsub(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    counts(cx, args, Topic::Channel)
}

fn pubsub_shardnumsub(cx: &mut Context<'_>, args: Args<'_>) -> Result<Done, Refused> {
    counts(cx, args, Topic::Shard)
}

fn counts(cx: &mut Context<'_>, args: Args<'_>, topic: Topic) -> Result<Done, Refused> {
    cx.reply.array(2 * args.left());
    for name in args.rest() {
        cx.reply.bulk(name);
        cx.reply.int(cx.core.pubsub.count(topic, name) as i64);
    }
    Ok(Done::Replied)
}

fn pubsub_numpat(cx: &mut Context<'_>, _: Args<'_>) -> Result<Done, Refused> {
    cx.reply.int(cx.core.pubsub.len(Topic::Pattern) as i64);
    Ok(Done::Replied)
}

/// PUBLISH and SPUBLISH run on the core of their channel's slot, or inside EXEC where that is.
pub(crate) const PUBLISH: &[(Spec, Topic)] = &[
    (
        Spec {
            name: "publish",
            summary: "Sends a message to those who listen to a channel.",
            group: Group::PubSub,
            since: "2.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST
                .and(Flags::LOADING)
                .and(Flags::MAY_REPLICATE)
                .and(Flags::PUBSUB)
                .and(Flags::SENTINEL)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::PUBSUB),
            keys: &[],
            range: (0, 0, 0),
            tips: &[],
            deprecated_since: None,
        },
        Topic::Channel,
    ),
    (
        Spec {
            name: "spublish",
            summary: "Sends a message to those who listen to a shard channel.",
            group: Group::PubSub,
            since: "7.0.0",
            arity: Arity::exactly(3),
            flags: Flags::FAST
                .and(Flags::LOADING)
                .and(Flags::MAY_REPLICATE)
                .and(Flags::PUBSUB)
                .and(Flags::STALE),
            acl: Acl::FAST.and(Acl::PUBSUB),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::NOT_KEY,
            }],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        Topic::Shard,
    ),
];
