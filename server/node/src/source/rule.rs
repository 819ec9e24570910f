//! Which of several servers has a key, where an application shards by hand and an operator has said how: by patterns of names.

use commands::key::glob::matches;
use migration::Shard;

/// The patterns of all servers, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rule {
    servers: Vec<Vec<String>>,
}

impl Rule {
    /// That of these servers; None where it is not said of each of them which keys it has.
    pub fn of(shards: &[Shard]) -> Option<Rule> {
        let is_said = |shard: &Shard| shard.slots.is_none() && !shard.patterns.is_empty();
        let servers = shards.iter().map(|shard| shard.patterns.clone());
        (!shards.is_empty() && shards.iter().all(is_said)).then(|| Rule {
            servers: servers.collect(),
        })
    }

    /// The server that has a key: the first of those whose patterns it matches.
    pub fn owner(&self, key: &[u8]) -> Option<u16> {
        let has = |patterns: &Vec<String>| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches(pattern.as_bytes(), key))
        };
        let at = self.servers.iter().position(has)?;
        u16::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_that_matches_has_a_key() {
        let shard = |text: &str| Shard {
            patterns: text.split(',').map(str::to_owned).collect(),
            ..Shard::default()
        };
        let rule = Rule::of(&[shard("a:*,b:[0-4]*"), shard("b:*"), shard("c?")]).unwrap();
        for (key, owner) in [
            ("a:1", Some(0)),
            ("b:3", Some(0)),
            ("b:7", Some(1)),
            ("c1", Some(2)),
            ("c12", None),
            ("", None),
        ] {
            assert_eq!(rule.owner(key.as_bytes()), owner, "{key}");
        }
        assert_eq!(Rule::of(&[shard("a"), Shard::default()]), None);
        assert_eq!(Rule::of(&[]), None);
    }
}
