//! The patterns of SORT: `w_*` names a string for each element, `h_*->f` a field of a hash, `#` the
//! element itself.

use protocol::Args;
use storage::{Key, Shard, Slot, Text, Value};

use crate::key::until_nul;

/// Whether a request reads keys of other slots than that of its key: by a BY or GET pattern with a `*` that names none.
pub(super) fn reads_elsewhere(args: &Args<'_>) -> bool {
    let mut words = args.rest();
    let here = words.next().map(Slot::of);
    while let Some(word) = words.next() {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("by") || is("get") {
            let pattern = words.next().filter(|pattern| star(pattern).is_some());
            if pattern.is_some_and(|pattern| slot(pattern) != here) {
                return true;
            }
        } else if is("limit") {
            words.nth(1);
        } else if is("store") {
            words.next();
        }
    }
    false
}

/// The slot of all keys that a pattern makes: its hash tag says so, when it stands before whatever may be replaced.
pub(super) fn slot(pattern: &[u8]) -> Option<Slot> {
    let wild = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    let Some(end) = pattern.iter().position(wild) else {
        return Some(Slot::of(pattern));
    };
    let fixed = &pattern[..end];
    let open = fixed.iter().position(|byte| *byte == b'{')?;
    let tag = fixed[open + 1..].iter().position(|byte| *byte == b'}')?;
    (tag > 0).then(|| Slot::of(pattern))
}

/// A pattern, taken apart.
#[derive(Clone, Copy)]
pub(super) enum Pattern<'a> {
    /// `#`: the element.
    Element,
    /// Without a star: nothing is found, as a fixed key tells nothing of an element.
    Fixed,
    /// The key is the element between two texts.
    Key {
        before: &'a [u8],
        after: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

/// Where the star of a pattern is; like Redis, none is looked for behind a NUL.
pub(super) fn star(pattern: &[u8]) -> Option<usize> {
    until_nul(pattern).iter().position(|byte| *byte == b'*')
}

impl<'a> Pattern<'a> {
    pub(super) fn new(pattern: &'a [u8]) -> Self {
        if pattern == b"#" {
            return Pattern::Element;
        }
        let parts = star(pattern).and_then(|at| pattern.split_at_checked(at));
        let Some((before, [_, after @ ..])) = parts else {
            return Pattern::Fixed;
        };
        // The first arrow counts; one at the end is part of the key.
        let arrow = until_nul(after).windows(2).position(|pair| pair == b"->");
        match arrow.and_then(|at| after.split_at_checked(at)) {
            Some((key_end, [_, _, field @ ..])) if !until_nul(field).is_empty() => Pattern::Key {
                before,
                after: key_end,
                field: Some(field),
            },
            _ => Pattern::Key {
                before,
                after,
                field: None,
            },
        }
    }

    /// What the pattern finds for an element; a value of another type is nothing. `scratch` is for keys.
    pub(super) fn find<'s>(
        &self,
        shard: &'s Shard,
        db: u8,
        element: &'s [u8],
        scratch: &mut Vec<u8>,
    ) -> Option<Text<'s>> {
        let (before, after, field) = match self {
            Pattern::Element => return Some(Text::Bytes(element)),
            Pattern::Fixed => return None,
            Pattern::Key {
                before,
                after,
                field,
            } => (before, after, field),
        };
        scratch.clear();
        for part in [before, element, after] {
            scratch.extend_from_slice(part);
        }
        match (shard.value(&Key::new(db, scratch))?, field) {
            (Value::Hash(hash), Some(field)) => hash.get(field).map(Text::Bytes),
            (Value::String(text), None) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::Args;
    use protocol::args::flatten;

    use super::{Pattern, reads_elsewhere};

    fn parts(pattern: &str) -> String {
        match Pattern::new(pattern.as_bytes()) {
            Pattern::Element => "element".into(),
            Pattern::Fixed => "fixed".into(),
            Pattern::Key {
                before,
                after,
                field,
            } => format!("{before:?} {after:?} {field:?}")
                .replace("[", "")
                .replace("]", ""),
        }
    }

    #[test]
    fn patterns_are_taken_apart() {
        let same = |a: &str, b: &str| assert_eq!(parts(a), b, "{a}");
        same("#", "element");
        same("##", "fixed");
        same("", "fixed");
        same("a->f", "fixed");
        same("a\0*", "fixed");
        same("*", "  None");
        same("a*b", "97 98 None");
        same("a*b*", "97 98, 42 None");
        same("a*b->c", "97 98 Some(99)");
        same("*->c->d", "  Some(99, 45, 62, 100)");
        same("a*->", "97 45, 62 None");
        same("a->b*", "97, 45, 62, 98  None");
    }

    #[test]
    fn patterns_of_other_slots_need_everything() {
        let elsewhere = |line: &str| {
            let (mut buf, mut found) = (Vec::new(), Vec::new());
            let owned: Vec<Vec<u8>> = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
            flatten(&owned, &mut buf, &mut found);
            reads_elsewhere(&Args::new(&buf, &found))
        };
        for line in [
            "SORT k BY w_*",
            "SORT k limit 0 by GET o_*",
            "SORT k STORE get get *->f",
            "SORT {k}1 BY {j}*",
            "SORT {k}1 BY {}{k}*",
            "SORT {k}1 BY *{k}",
            "SORT {k}1 BY {k}* GET {*k}",
        ] {
            assert!(elsewhere(line), "{line}");
        }
        for line in [
            "SORT *",
            "SORT k BY nosort GET # GET x",
            "SORT k STORE *",
            "SORT k by",
            "SORT {k}1 BY w{k}* GET {k}h_*->f GET #",
            "SORT",
        ] {
            assert!(!elsewhere(line), "{line}");
        }
    }
}
