//! What comes on the connection of the events, and which of them the source must be told to send.

use protocol::answer::Answer;

/// What is subscribed to: the events of all databases, by event; their messages are keys.
pub const PATTERN: &str = "__keyevent@*__:*";
/// A key that is written and removed in one transaction, to see whether its events come; nobody sees it.
pub const PROBE_KEY: &str = "meridian:migration:probe";
/// Databases that a server can have here.
const DATABASES_MAX: u64 = 256;
/// The classes of events that tell of writes, as `notify-keyspace-events` has them: what `A` stands for.
const CLASSES: &str = "g$lshzxet";
/// Events that are no changes.
const NO_CHANGES: [&[u8]; 2] = [b"keymiss", b"new"];

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A key of a database was touched, by this event.
    Touched {
        /// The database.
        db: u8,
        /// The key.
        key: Vec<u8>,
        /// The event's name.
        event: Vec<u8>,
    },
    /// The subscription stands.
    Subscribed,
    /// A mark has come back.
    Echo(u64),
    /// Nothing to act upon.
    Nothing,
}

/// What a message says.
///
/// # Errors
/// The source's refusal, or what is no message of a subscription.
pub fn said(answer: Answer) -> Result<Said, String> {
    let parts = match answer {
        Answer::Array(parts) | Answer::Push(parts) => parts,
        Answer::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
        // (PING of a connection that has not subscribed, and answers of the login.)
        Answer::Simple(_) => return Ok(Said::Nothing),
        _ => return Err("it is no message of a subscription".to_owned()),
    };
    let mut words = parts.into_iter().map(|part| match part {
        Answer::Bulk(bytes) => bytes,
        _ => Vec::new(),
    });
    let mut word = || words.next().unwrap_or_default();
    match word().as_slice() {
        b"psubscribe" => Ok(Said::Subscribed),
        b"pmessage" => {
            let (_pattern, channel, key) = (word(), word(), word());
            touched(&channel, key)
        }
        b"pong" => {
            let text = word();
            let mark = core::str::from_utf8(&text).ok();
            let mark = mark.and_then(|text| text.parse().ok());
            Ok(mark.map_or(Said::Nothing, Said::Echo))
        }
        _ => Ok(Said::Nothing),
    }
}

/// `__keyevent@3__:set`
fn touched(channel: &[u8], key: Vec<u8>) -> Result<Said, String> {
    let wrong = || {
        let name = String::from_utf8_lossy(channel);
        format!("a channel of no database that can be followed: {name}")
    };
    let rest = channel.strip_prefix(b"__keyevent@").ok_or_else(wrong)?;
    let at = rest.iter().position(|byte| *byte == b'_').unwrap_or(0);
    let (db, event) = rest.split_at(at);
    let event = event.strip_prefix(b"__:").ok_or_else(wrong)?;
    let db = core::str::from_utf8(db).ok();
    let db = db.and_then(|db| db.parse::<u64>().ok());
    let db = db.filter(|db| *db < DATABASES_MAX).ok_or_else(wrong)?;
    if NO_CHANGES.contains(&event) {
        return Ok(Said::Nothing);
    }
    Ok(Said::Touched {
        db: db as u8,
        key,
        event: event.to_vec(),
    })
}

/// What `notify-keyspace-events` is to be instead, if it lacks events that tell of writes.
pub fn lacking(flags: &str) -> Option<String> {
    let has = |flag| flags.contains(flag);
    let has_all = has('A') || CLASSES.chars().all(has);
    if has('E') && has_all {
        return None;
    }
    let more = ['A', 'E'].into_iter().filter(|flag| !has(*flag));
    Some(flags.chars().chain(more).collect())
}

/// The requests of a transaction that makes one event of each type.
pub fn probe() -> Vec<Vec<Vec<u8>>> {
    let texts = [
        "MULTI",
        "SET k 1",
        "DEL k",
        "RPUSH k 1",
        "DEL k",
        "SADD k 1",
        "DEL k",
        "HSET k f 1",
        "DEL k",
        "ZADD k 1 m",
        "DEL k",
        "XADD k 1-1 f 1",
        "DEL k",
        "EXEC",
    ];
    let word = |word: &str| match word {
        "k" => PROBE_KEY.as_bytes().to_vec(),
        word => word.as_bytes().to_vec(),
    };
    let words = texts.iter().map(|text| text.split(' ').map(word).collect());
    words.collect()
}

/// Whether a key is that of the probe.
pub fn is_probe(db: u8, key: &[u8]) -> bool {
    db == 0 && key == PROBE_KEY.as_bytes()
}

/// Which types' events have not come of a probe; None when all have.
pub fn probed_all(events: &[Vec<u8>]) -> Option<String> {
    let wanted = ["set", "del", "rpush", "sadd", "hset", "zadd", "xadd"];
    let comes = |name: &&str| events.iter().any(|event| event == name.as_bytes());
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !comes(name)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: &[&str]) -> Result<Said, String> {
        let words = words
            .iter()
            .map(|word| Answer::Bulk(word.as_bytes().to_vec()));
        said(Answer::Array(words.collect()))
    }

    fn touched(db: u8, key: &str, event: &str) -> Result<Said, String> {
        Ok(Said::Touched {
            db,
            key: key.as_bytes().to_vec(),
            event: event.as_bytes().to_vec(),
        })
    }

    #[test]
    fn messages_say_which_key_was_touched() {
        let event = |channel, key| message(&["pmessage", PATTERN, channel, key]);
        assert_eq!(event("__keyevent@0__:set", "a b"), touched(0, "a b", "set"));
        assert_eq!(event("__keyevent@15__:del", ""), touched(15, "", "del"));
        assert_eq!(event("__keyevent@0__:keymiss", "a"), Ok(Said::Nothing));
        assert_eq!(event("__keyevent@0__:new", "a"), Ok(Said::Nothing));
        assert_eq!(message(&["psubscribe", PATTERN, "1"]), Ok(Said::Subscribed));
        assert_eq!(message(&["pong", "7"]), Ok(Said::Echo(7)));
        assert_eq!(message(&["pong", ""]), Ok(Said::Nothing));
        for channel in [
            "",
            "x",
            "__keyevent@",
            "__keyevent@__:set",
            "__keyevent@1",
            "__keyevent@256__:set",
            "__keyevent@-1__:set",
            "__keyevent@1_:set",
            "__keyspace@0__:a",
        ] {
            assert!(event(channel, "a").is_err(), "{channel}");
        }
        let refused = said(Answer::Error(b"NOPERM no".to_vec()));
        assert_eq!(refused, Err("NOPERM no".to_owned()));
        assert!(said(Answer::Int(1)).is_err());
        assert_eq!(said(Answer::Array(vec![])), Ok(Said::Nothing));
    }

    #[test]
    fn events_of_every_type_are_asked_for() {
        for (flags, wanted) in [
            ("AKE", None),
            ("EA", None),
            ("g$lshzxetE", None),
            ("g$lshzxetdE", None),
            ("", Some("AE")),
            ("KA", Some("KAE")),
            ("Ex", Some("ExA")),
            ("g$lshzxeE", Some("g$lshzxeEA")),
            ("En", Some("EnA")),
        ] {
            assert_eq!(lacking(flags).as_deref(), wanted, "{flags}");
        }
    }

    #[test]
    fn a_probe_makes_an_event_of_each_type() {
        let requests = probe();
        let names = requests.iter().map(|words| words[0].to_ascii_lowercase());
        let names: Vec<Vec<u8>> = names.collect();
        assert_eq!(probed_all(&names), None);
        assert_eq!(
            probed_all(&names[..5]).as_deref(),
            Some("sadd, hset, zadd, xadd")
        );
        assert!(is_probe(0, &requests[1][1]) && !is_probe(1, &requests[1][1]));
    }
}
