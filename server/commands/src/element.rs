//! Where a request names an element of a collection: so that the memory of it can be asked for before the request runs.

/// The word of the first field or member that a request of this command names; none if it names none, or is not run often enough to
/// look ahead for. (Options before a member, as ZADD may have, put the word elsewhere: then nothing is found ahead.)
pub fn element_word(name: &str) -> Option<u16> {
    Some(match name {
        "hdel" | "hexists" | "hget" | "hincrby" | "hincrbyfloat" | "hmget" | "hmset" | "hset"
        | "hsetnx" | "hstrlen" => 2,
        "sadd" | "sismember" | "smismember" | "srem" => 2,
        "zmscore" | "zrank" | "zrem" | "zrevrank" | "zscore" => 2,
        "zadd" | "zincrby" => 3,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_named_by_every_request_of_one_key() {
        let mut count = 0;
        for command in crate::all() {
            let Some(word) = element_word(command.spec.name) else {
                continue;
            };
            let fewest = command.spec.arity.redis().unsigned_abs();
            assert!(fewest > u64::from(word), "{}", command.spec.name);
            assert_eq!(command.spec.first_key_index(), Some(1));
            count += 1;
        }
        assert_eq!(count, 21, "each of the names is a command's");
    }
}
