//! How many members a request for a range would touch: see [`crate::cost`].

use protocol::Args;
use storage::Size;

use crate::cost::Weigh;
use crate::zset::zquery::{Kind, Query, Spelling};

/// A smaller set is not asked for ranks.
const FEW: usize = 64;

pub(crate) fn zrange(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let spelling = Spelling {
        kind: None,
        reverse: None,
        scores: true,
    };
    range(weigh, args, 1, spelling)
}

/// A member of the result is put in order as well.
pub(crate) fn zrangestore(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    let spelling = Spelling {
        kind: None,
        reverse: None,
        scores: false,
    };
    range(weigh, args, 2, spelling).saturating_mul(3)
}

pub(crate) fn by_rank(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    range(weigh, args, 1, Spelling::older(Kind::Rank, false))
}

pub(crate) fn by_score(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    range(weigh, args, 1, Spelling::older(Kind::Score, false))
}

pub(crate) fn by_score_back(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    range(weigh, args, 1, Spelling::older(Kind::Score, true))
}

pub(crate) fn by_lex(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    range(weigh, args, 1, Spelling::older(Kind::Lex, false))
}

pub(crate) fn by_lex_back(weigh: &Weigh<'_>, args: &Args<'_>) -> usize {
    range(weigh, args, 1, Spelling::older(Kind::Lex, true))
}

/// Members in the range that the words behind the key say; none if they say no range, or the key holds something else.
fn range(weigh: &Weigh<'_>, args: &Args<'_>, word: usize, spelling: Spelling) -> usize {
    let Some(key) = args.word(word).map(|word| weigh.key(word)) else {
        return 0;
    };
    match weigh.shard.size_of(&key) {
        Size::Elements(n) if n > FEW => {}
        Size::Elements(n) => return n,
        Size::Bytes(_) => return 0,
    }
    let mut words = args.clone().skip(word);
    match (weigh.shard.peek(&key), Query::parse(&mut words, spelling)) {
        (Some(storage::Value::Zset(zset)), Ok(query)) => query.ranks(zset).len(),
        _ => 0,
    }
}
