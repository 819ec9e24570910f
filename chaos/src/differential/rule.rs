//! What a reply is compared by: the exceptions from "equal, byte by byte", with their reasons.

/// How the replies of the two servers to one request must agree. Errors must always be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Equal.
    Exact,
    /// Members in any order: Redis iterates a hash table with a random seed.
    Bag,
    /// Pairs in any order (HGETALL, CONFIG GET), flat in RESP2, a map in RESP3.
    PairBag,
    /// SORT ALPHA: strcoll stops at a NUL byte, so members that are equal up to there may come in
    /// any order; else exact.
    AlphaOrder,
    /// The order of ties is not defined and LIMIT cuts through them: the same number of members.
    Length,
    /// A value that depends on the server (TIME, MEMORY USAGE): the same types of reply.
    Shape,
    /// A reference count: both above 0.
    Positive,
    /// Seconds (TTL, IDLETIME): negative ones equal, else at most one apart, and the clock's slack.
    Seconds,
    /// Milliseconds: at most 100 apart, and the clock's slack.
    Milliseconds,
    /// XPENDING, XINFO: equal, but for times (milliseconds, as above) and the nodes of Redis's tree.
    Times,
    /// HELLO: version, id and modules differ.
    Hello,
    /// A random choice among what the request before it, in the same batch, replied.
    Pick(Pick),
    /// The remains of a set after SPOP: with what SPOP took they are the set of two requests ago.
    Remains,
    /// EXEC: each member by the rule of its request, which the op holds as queued.
    Exec,
}

/// What a random choice is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// SRANDMEMBER, SPOP, RANDOMKEY: of single members.
    Members,
    /// HRANDFIELD, ZRANDMEMBER: of members that have a value.
    Pairs,
}
