//! Every effect and the requests that it is said in.

use super::*;
use storage::{Hash, StreamChange, StreamId, encode as record, write_value};

/// Requests as text: words apart by blanks, requests by `; `, a script by its name.
fn shown(mut bytes: &[u8]) -> String {
    fn number(bytes: &mut &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\r').unwrap();
        let text = core::str::from_utf8(&bytes[1..end]).unwrap();
        *bytes = &bytes[end + 2..];
        text.parse().unwrap()
    }
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], b'*');
        let mut words = Vec::new();
        for _ in 0..number(&mut bytes) {
            let len = number(&mut bytes);
            let word = &bytes[..len];
            words.push(match word {
                scripts::LIST_INSERT => "(insert)".to_owned(),
                scripts::LIST_INSERT_EARLY => "(insert early)".to_owned(),
                scripts::LIST_REMOVE_EARLY => "(remove early)".to_owned(),
                scripts::LIST_REMOVE => "(remove)".to_owned(),
                scripts::STRING_EXTEND => "(extend)".to_owned(),
                scripts::RESTORE_KEEPING => "(restore)".to_owned(),
                scripts::RESTORE_KEEPING_EARLY => "(restore early)".to_owned(),
                scripts::PUT_GROUP => "(group)".to_owned(),
                scripts::TRIM_THROUGH_EARLY => "(trim)".to_owned(),
                scripts::FLUSH_SLOTS => "(slots)".to_owned(),
                word => String::from_utf8_lossy(word).into_owned(),
            });
            bytes = &bytes[len + 2..];
        }
        requests.push(words.join(" "));
    }
    requests.join("; ")
}

/// What a frame is said as, to replicas that have selected database 0.
fn said(version: u16, effects: &[(u8, Effect<'_>)]) -> String {
    said_to(Reader::of_rdb(version), effects)
}

fn said_to(reader: Reader, effects: &[(u8, Effect<'_>)]) -> String {
    let (mut payload, mut out) = (Vec::new(), Vec::new());
    for (db, effect) in effects {
        record(*db, effect, &mut payload);
    }
    let mut feed = Feed::new(reader);
    feed.db = Some(0);
    feed.say(FrameKind::Effects, &payload, &mut out).unwrap();
    shown(&out)
}

const KEY: &[u8] = b"k";

#[test]
fn every_effect_is_a_request() {
    let id = StreamId::new(1, 2);
    let (field, member, value, key) = (&b"f"[..], &b"m"[..], &b"v"[..], KEY);
    let (group, consumer) = (&b"g"[..], &b"c"[..]);
    let stream = |change| Effect::Stream { key, change };
    let table = [
        (
            Effect::PutString {
                key,
                value,
                ttl: Ttl::Clear,
            },
            "SET k v",
        ),
        (
            Effect::PutString {
                key,
                value,
                ttl: Ttl::Keep,
            },
            "SET k v KEEPTTL",
        ),
        (
            Effect::PutInt {
                key,
                value: -5,
                ttl: Ttl::At(7),
            },
            "SET k -5 PXAT 7",
        ),
        (
            Effect::PutInt {
                key,
                value: 5,
                ttl: Ttl::At(0),
            },
            "SET k 5 PXAT 1",
        ),
        (
            Effect::WriteString {
                key,
                offset: 3,
                bytes: b"xy",
            },
            "SETRANGE k 3 xy",
        ),
        (
            Effect::WriteString {
                key,
                offset: 0,
                bytes: b"",
            },
            "APPEND k ",
        ),
        (
            Effect::WriteString {
                key,
                offset: 3,
                bytes: b"",
            },
            "EVAL (extend) 1 k 3",
        ),
        (Effect::Remove { key }, "UNLINK k"),
        (Effect::Expire { key }, "UNLINK k"),
        (
            Effect::ExpireAt {
                key,
                at_ms: u64::MAX,
            },
            "PEXPIREAT k 9223372036854775807",
        ),
        (Effect::Persist { key }, "PERSIST k"),
        (
            Effect::ListPush {
                key,
                side: Side::Left,
                value,
            },
            "LPUSH k v",
        ),
        (
            Effect::ListPop {
                key,
                side: Side::Right,
            },
            "RPOP k",
        ),
        (
            Effect::ListSet {
                key,
                index: 4,
                value,
            },
            "LSET k 4 v",
        ),
        (
            Effect::ListInsert {
                key,
                index: 0,
                value,
            },
            "LPUSH k v",
        ),
        (
            Effect::ListInsert {
                key,
                index: 4,
                value,
            },
            "EVAL (insert) 1 k 4 v",
        ),
        (Effect::ListRemove { key, index: 4 }, "EVAL (remove) 1 k 4"),
        (
            Effect::ListTrim {
                key,
                start: 1,
                end: 4,
            },
            "LTRIM k 1 3",
        ),
        (
            Effect::ListTrim {
                key,
                start: 4,
                end: 4,
            },
            "LTRIM k 1 0",
        ),
        (
            Effect::ListTrim {
                key,
                start: 0,
                end: 0,
            },
            "LTRIM k 1 0",
        ),
        (Effect::HashSet { key, field, value }, "HSET k f v"),
        (Effect::HashRemove { key, field }, "HDEL k f"),
        (Effect::SetAdd { key, member }, "SADD k m"),
        (Effect::SetRemove { key, member }, "SREM k m"),
        (
            Effect::ZsetAdd {
                key,
                member,
                score: f64::NEG_INFINITY,
            },
            "ZADD k -inf m",
        ),
        (
            Effect::ZsetAdd {
                key,
                member,
                score: -0.0,
            },
            "ZADD k -0.0 m",
        ),
        (Effect::ZsetRemove { key, member }, "ZREM k m"),
        (
            stream(StreamChange::Make),
            "MULTI; XGROUP CREATE k meridian 0 MKSTREAM; XGROUP DESTROY k meridian; EXEC",
        ),
        (
            stream(StreamChange::Add {
                id,
                words: &[1, b'f', 1, b'v'],
            }),
            "XADD k 1-2 f v",
        ),
        (stream(StreamChange::Remove { id }), "XDEL k 1-2"),
        (
            stream(StreamChange::RemoveThrough { id }),
            "XTRIM k MINID 1-3",
        ),
        (
            stream(StreamChange::RemoveThrough {
                id: StreamId::new(1, u64::MAX),
            }),
            "XTRIM k MINID 2-0",
        ),
        (
            stream(StreamChange::RemoveThrough { id: StreamId::MAX }),
            "XTRIM k MAXLEN 0",
        ),
        (
            stream(StreamChange::SetIds {
                last: id,
                added: 3,
                max_deleted: StreamId::MIN,
            }),
            "XSETID k 1-2 ENTRIESADDED 3 MAXDELETEDID 0-0",
        ),
        (
            stream(StreamChange::PutGroup {
                group,
                last: id,
                read: Some(3),
            }),
            "EVAL (group) 1 k g 1-2 ENTRIESREAD 3",
        ),
        (
            stream(StreamChange::PutGroup {
                group,
                last: id,
                read: None,
            }),
            "EVAL (group) 1 k g 1-2",
        ),
        (
            stream(StreamChange::RemoveGroup { group }),
            "XGROUP DESTROY k g",
        ),
        (
            stream(StreamChange::PutConsumer {
                group,
                consumer,
                seen_ms: 1,
                active_ms: None,
            }),
            "XGROUP CREATECONSUMER k g c",
        ),
        (
            stream(StreamChange::RemoveConsumer { group, consumer }),
            "XGROUP DELCONSUMER k g c",
        ),
        (
            stream(StreamChange::PutPending {
                group,
                consumer,
                id,
                delivered_ms: 9,
                count: 2,
            }),
            "XCLAIM k g c 0 1-2 TIME 9 RETRYCOUNT 2 FORCE JUSTID",
        ),
        (
            stream(StreamChange::RemovePending { group, id }),
            "XACK k g 1-2",
        ),
        (Effect::FlushDb, "FLUSHDB"),
        (Effect::FlushAll, "FLUSHALL"),
        (Effect::SwapDb { with: 3 }, "SWAPDB 0 3"),
        (
            Effect::FlushSlots { first: 1, last: 9 },
            "EVAL (slots) 0 1 9",
        ),
        (
            Effect::HashExpireAt {
                key,
                field,
                at_ms: 1,
            },
            "",
        ),
        (Effect::HashPersist { key, field }, ""),
        (
            Effect::SourceAt {
                replid: &[b'a'; 40],
                offset: 7,
            },
            "",
        ),
        (
            Effect::LineAt {
                line: 3,
                replid: &[b'a'; 40],
                offset: 7,
            },
            "",
        ),
    ];
    for (effect, expected) in table {
        assert_eq!(said(10, &[(0, effect.clone())]), expected, "{effect:?}");
    }
    let early = [
        (
            StreamChange::SetIds {
                last: id,
                added: 3,
                max_deleted: id,
            },
            "XSETID k 1-2",
        ),
        (
            StreamChange::PutGroup {
                group,
                last: id,
                read: Some(3),
            },
            "EVAL (group) 1 k g 1-2",
        ),
    ];
    for (change, expected) in early {
        assert_eq!(said(9, &[(0, stream(change))]), expected);
    }
    let put = |ttl| Effect::PutInt { key, value: 5, ttl };
    let mut abc = Vec::new();
    write_value(&OwnedValue::Raw(b"abc".to_vec()), &mut abc);
    let of_6_0 = [
        (vec![put(Ttl::At(7))], "MULTI; SET k 5; PEXPIREAT k 7; EXEC"),
        (
            vec![put(Ttl::At(0)), put(Ttl::Keep)],
            "MULTI; SET k 5; PEXPIREAT k 1; SET k 5 KEEPTTL; EXEC",
        ),
        (vec![put(Ttl::Clear)], "SET k 5"),
        (
            vec![Effect::PutValue {
                key,
                value: &abc,
                ttl: Ttl::At(7),
            }],
            "MULTI; SET k abc; PEXPIREAT k 7; EXEC",
        ),
        (
            vec![Effect::ListInsert {
                key,
                index: 2,
                value,
            }],
            "EVAL (insert early) 1 k 2 v",
        ),
        (
            vec![Effect::ListRemove { key, index: 2 }],
            "EVAL (remove early) 1 k 2",
        ),
        (
            vec![stream(StreamChange::RemoveThrough { id })],
            "EVAL (trim) 1 k 1-2",
        ),
        (
            vec![stream(StreamChange::PutConsumer {
                group,
                consumer,
                seen_ms: 1,
                active_ms: None,
            })],
            "XREADGROUP GROUP g c COUNT 1 STREAMS k 18446744073709551615-18446744073709551614",
        ),
    ];
    for (effects, expected) in of_6_0 {
        let effects: Vec<_> = effects.into_iter().map(|effect| (0, effect)).collect();
        assert_eq!(said_to(Reader::of_redis((6, 0)), &effects), expected);
    }
}

#[test]
fn a_frame_is_one_transaction() {
    let (set, push) = (
        |key| Effect::PutInt {
            key,
            value: 1,
            ttl: Ttl::Clear,
        },
        |key, value| Effect::ListPush {
            key,
            side: Side::Right,
            value,
        },
    );
    let (expire, remove) = (|key| Effect::Expire { key }, |key| Effect::Remove { key });
    let table: &[(&[(u8, Effect<'_>)], &str)] = &[
        (&[], ""),
        (
            &[(0, set(b"a")), (0, set(b"b"))],
            "MULTI; SET a 1; SET b 1; EXEC",
        ),
        (
            &[
                (0, push(b"l", b"x")),
                (0, push(b"l", b"y")),
                (0, push(b"l", b"z")),
            ],
            "RPUSH l x y z",
        ),
        (
            &[
                (0, push(b"l", b"x")),
                (0, push(b"m", b"y")),
                (1, push(b"m", b"z")),
            ],
            "MULTI; RPUSH l x; RPUSH m y; SELECT 1; RPUSH m z; EXEC",
        ),
        (&[(2, set(b"a"))], "SELECT 2; SET a 1"),
        (
            &[(0, expire(b"a")), (0, expire(b"b")), (4, expire(b"c"))],
            "UNLINK a b; SELECT 4; UNLINK c",
        ),
        (
            &[(0, expire(b"a")), (0, remove(b"b"))],
            "MULTI; UNLINK a; UNLINK b; EXEC",
        ),
    ];
    for (effects, expected) in table {
        assert_eq!(said(10, effects), *expected);
    }
    let many: Vec<_> = (0..3000).map(|_| (0, push(b"l", b"x"))).collect();
    assert_eq!(
        said(10, &many).matches("; RPUSH").count(),
        3,
        "no request is endless"
    );
}

#[test]
fn the_database_is_selected_once() {
    let mut feed = Feed::new(Reader::of_rdb(10));
    let say = |feed: &mut Feed, db| {
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        record(db, &Effect::Persist { key: KEY }, &mut payload);
        feed.say(FrameKind::Effects, &payload, &mut out).unwrap();
        shown(&out)
    };
    assert_eq!(say(&mut feed, 0), "SELECT 0; PERSIST k");
    assert_eq!(say(&mut feed, 0), "PERSIST k");
    assert_eq!(say(&mut feed, 3), "SELECT 3; PERSIST k");
    feed.forget_db();
    assert_eq!(say(&mut feed, 3), "SELECT 3; PERSIST k");
    // A frame that is damaged leaves nothing behind.
    let (mut payload, mut out) = (Vec::new(), b"x".to_vec());
    record(4, &Effect::Persist { key: KEY }, &mut payload);
    payload.push(0xff);
    assert!(feed.say(FrameKind::Effects, &payload, &mut out).is_err());
    assert_eq!(out, b"x");
    assert_eq!(say(&mut feed, 3), "SELECT 3; PERSIST k");
}

#[test]
fn whole_values_are_restored() {
    let value = |value: &OwnedValue| {
        let mut bytes = Vec::new();
        write_value(value, &mut bytes);
        bytes
    };
    let text = value(&OwnedValue::Raw(b"abc".to_vec()));
    let (key, keep) = (KEY, Ttl::Keep);
    let put = |value, ttl| [(0, Effect::PutValue { key, value, ttl })];
    assert_eq!(said(10, &put(&text, keep)), "SET k abc KEEPTTL");
    let (mut hash, limits) = (Hash::new(), Limits::default());
    hash.set(b"f", b"v", &limits);
    hash.set_deadline(b"f", Some(1_000_000));
    let hash = value(&OwnedValue::Hash(Box::new(hash)));
    for (version, ttl, head) in [
        (10, Ttl::Clear, "RESTORE k 0 "),
        (10, Ttl::At(77), "RESTORE k 77 "),
        (10, keep, "EVAL (restore) 1 k "),
        (9, keep, "EVAL (restore early) 1 k "),
    ] {
        let said = said(version, &put(&hash, ttl));
        assert!(said.starts_with(head), "{said}");
        assert_eq!(said.ends_with(" REPLACE ABSTTL"), ttl != keep);
    }
    // The payload is of version 9, and has no deadline of a field; that is said once.
    let (mut feed, mut out) = (Feed::new(Reader::of_rdb(10)), Vec::new());
    let mut payload = Vec::new();
    record(0, &put(&hash, Ttl::Clear)[0].1, &mut payload);
    feed.say(FrameKind::Effects, &payload, &mut out).unwrap();
    let dump = b"\x04\x01\x01f\x01v\x09\x00";
    assert!(out.windows(dump.len()).any(|window| window == dump));
    assert!(feed.has_left_out() && !feed.has_left_out());
}

#[test]
fn libraries_are_said_in_a_version_that_redis_7_0_reads() {
    let (mut feed, mut out) = (Feed::new(Reader::of_rdb(10)), Vec::new());
    let payload = b"\xf5\x01x\x0b\x00........".to_vec();
    feed.say(FrameKind::Libraries, &payload, &mut out).unwrap();
    let body = b"\xf5\x01x\x0a\x00";
    let expected = [&body[..], &rdb::crc64(0, body).to_le_bytes()].concat();
    let head = b"*4\r\n$8\r\nFUNCTION\r\n$7\r\nRESTORE\r\n$13\r\n";
    let end = b"\r\n$5\r\nFLUSH\r\n";
    assert_eq!(out, [&head[..], &expected, end].concat());
    out.clear();
    feed.set_reader(Reader::of_rdb(9));
    feed.say(FrameKind::Libraries, &payload, &mut out).unwrap();
    feed.say(FrameKind::End, b"", &mut out).unwrap();
    assert_eq!(out, b"");
    feed.set_reader(Reader::of_rdb(10));
    assert!(feed.say(FrameKind::Libraries, b"short", &mut out).is_err());
}
