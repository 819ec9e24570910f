//! The words of ZUNION, ZINTER, ZDIFF and their kin, the values they name, and what comes of them.

use protocol::number::parse_f64;
use protocol::{Args, Refusal};
use storage::{Value, Zset};

use crate::Refused;
use crate::set::sintercard;
use crate::zset::zcombine::{Aggregate, Input, intersection, subtract, unite};

/// An operation; the difference takes neither weights nor an aggregate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Diff,
    Inter,
    Union,
}

/// What is done with the result, which decides about the options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Tell,
    Count,
    Store,
}

/// The words of a request, and the values at its keys.
pub(super) struct Request<'s> {
    pub(super) inputs: Vec<Input<'s>>,
    pub(super) aggregate: Aggregate,
    /// WITHSCORES was among the options.
    pub(super) scores: bool,
    /// Where a count ends.
    pub(super) limit: usize,
}

impl<'s> Request<'s> {
    /// Takes all words from the number of keys on. The values are looked at before the options.
    pub(super) fn parse(
        mut args: Args<'_>,
        operation: Operation,
        purpose: Purpose,
        name: &str,
        find: impl Fn(&[u8]) -> Option<Value<'s>>,
    ) -> Result<Self, Refused> {
        let keys = args.int()?;
        let keys = usize::try_from(keys).unwrap_or(0);
        if keys == 0 {
            let text = format!("ERR at least 1 input key is needed for '{name}' command");
            return Err(Refusal::Owned(text.into()).into());
        }
        if keys > args.left() {
            return Err(Refusal::Syntax.into());
        }
        let values = args.rest().take(keys).map(find);
        let inputs = values.map(Input::of).collect::<Result<Vec<_>, _>>()?;
        args = args.skip(keys);
        let mut request = Request {
            inputs,
            aggregate: Aggregate::Sum,
            scores: false,
            limit: usize::MAX,
        };
        let weighed = operation != Operation::Diff && purpose != Purpose::Count;
        while args.left() > 0 {
            if weighed && args.left() > keys && args.keyword("WEIGHTS") {
                for input in &mut request.inputs {
                    input.weight = parse_f64(args.bytes()?).ok_or(Refusal::WeightNotFloat)?;
                }
            } else if weighed && args.left() > 1 && args.keyword("AGGREGATE") {
                request.aggregate = aggregate(&mut args)?;
            } else if purpose == Purpose::Tell && args.keyword("WITHSCORES") {
                request.scores = true;
            } else if purpose == Purpose::Count && args.left() > 1 && args.keyword("LIMIT") {
                request.limit = sintercard::limit(args.bytes()?)?;
            } else {
                return Err(Refusal::Syntax.into());
            }
        }
        Ok(request)
    }

    /// What comes of the inputs.
    pub(super) fn result(self, operation: Operation) -> Zset {
        match operation {
            Operation::Diff => subtract(self.inputs),
            Operation::Inter => intersection(self.inputs, self.aggregate),
            Operation::Union => unite(self.inputs, self.aggregate),
        }
    }
}

fn aggregate(args: &mut Args<'_>) -> Result<Aggregate, Refusal> {
    if args.keyword("SUM") {
        Ok(Aggregate::Sum)
    } else if args.keyword("MIN") {
        Ok(Aggregate::Min)
    } else if args.keyword("MAX") {
        Ok(Aggregate::Max)
    } else {
        Err(Refusal::Syntax)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn keys_are_looked_at_before_the_options() {
        Bench::new().table(
            "
            SET str x -> +OK
            ZADD a 1 x -> :1
            ZUNION x str -> -ERR value is not an integer or out of range
            ZUNION 0 str -> -ERR at least 1 input key is needed for 'zunion' command
            ZINTERSTORE d -1 str -> -ERR at least 1 input key is needed for 'zinterstore' command
            ZINTERCARD 0 str -> -ERR at least 1 input key is needed for 'zintercard' command
            ZUNION 2 str -> -ERR syntax error
            ZUNION 1 str WHAT -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZUNION 2 none str -> -WRONGTYPE Operation against a key holding the wrong kind of value
            ZUNION 1 a WHAT -> -ERR syntax error
            ZUNION 1 a WEIGHTS -> -ERR syntax error
            ZUNION 1 a WEIGHTS x -> -ERR weight value is not a float
            ZUNION 1 a WEIGHTS nan -> -ERR weight value is not a float
            ZUNION 1 a WEIGHTS 1 2 -> -ERR syntax error
            ZUNION 1 a AGGREGATE -> -ERR syntax error
            ZUNION 1 a AGGREGATE AVG -> -ERR syntax error
            ZUNION 1 a WEIGHTS 1 WEIGHTS 3 WITHSCORES -> *2 $1 x $1 3
            ZDIFF 1 a WEIGHTS 1 -> -ERR syntax error
            ZDIFF 1 a AGGREGATE SUM -> -ERR syntax error
            ZUNIONSTORE d 1 a WITHSCORES -> -ERR syntax error
            ZINTERCARD 1 a LIMIT -> -ERR syntax error
            ZINTERCARD 1 a LIMIT -1 -> -ERR LIMIT can't be negative
            ZINTERCARD 1 a LIMIT x -> -ERR LIMIT can't be negative
            ZINTERCARD 1 a WITHSCORES -> -ERR syntax error
            ZINTER 1 a LIMIT 1 -> -ERR syntax error
            ",
        );
    }
}
