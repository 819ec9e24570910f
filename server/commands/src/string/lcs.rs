//! LCS: the longest common subsequence of two strings.
//!
//! The classic table `T[i][j]` = length for the first `i` bytes of one and the first `j` of the other,
//! walked backwards to find the bytes. LEN alone keeps one row of it; the others keep all of it, at
//! most `string_bytes_max` bytes, as Redis does. The way back prefers a step in the second string
//! where both are as good: replies depend on it.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Reply, Spec,
};

use crate::{Command, Read, Refused, Run, Spread};

pub(super) const COMMANDS: &[Command] = &[Command {
    spec: Spec {
        name: "lcs",
        summary: "Finds the longest common subsequence of two strings.",
        group: Group::String,
        since: "7.0.0",
        arity: Arity::at_least(3),
        flags: Flags::READONLY,
        acl: Acl::READ.and(Acl::SLOW).and(Acl::STRING),
        keys: &[KeySpec {
            begin: Begin::Index(1),
            find: Find::Range {
                last: 1,
                step: 1,
                limit: 0,
            },
            flags: KeyFlags::RO.and(KeyFlags::ACCESS),
        }],
        range: (1, 2, 1),
        tips: &[],
        deprecated_since: None,
    },
    run: Run::Read(lcs),
    spread: Spread::Keys,
}];

/// Longest string, bytes: lengths and one more must fit 32 bits.
const STRING_BYTES_MAX: u64 = u32::MAX as u64 - 2;
const TABLE_TOO_LARGE: Refusal =
    Refusal::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

/// The options of LCS.
#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    match_len_min: i64,
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Options, Refusal> {
        let mut options = Options::default();
        while args.left() > 0 {
            if args.keyword("IDX") {
                options.idx = true;
            } else if args.keyword("LEN") {
                options.len = true;
            } else if args.keyword("WITHMATCHLEN") {
                options.with_match_len = true;
            } else if args.keyword("MINMATCHLEN") {
                options.match_len_min = args.int()?;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        if options.len && options.idx {
            return Err(Refusal::LcsLenAndIdx);
        }
        Ok(options)
    }
}

fn lcs(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let keys = [cx.key(args.bytes()?), cx.key(args.bytes()?)];
    let texts = keys.map(|key| cx.shard.text(&key));
    let [Ok(a), Ok(b)] = texts else {
        return Err(Refusal::LcsNotStrings.into());
    };
    let options = Options::parse(&mut args)?;
    let (a, b) = (a.unwrap_or(EMPTY), b.unwrap_or(EMPTY));
    let limit = cx.settings.string_bytes_max;
    a.with(|a| b.with(|b| answer(&mut cx.reply, a, b, &options, limit)))?;
    Ok(())
}

const EMPTY: storage::Text<'static> = storage::Text::Bytes(b"");

fn answer(
    reply: &mut Reply<'_>,
    a: &[u8],
    b: &[u8],
    options: &Options,
    table_bytes_max: u64,
) -> Result<(), Refusal> {
    let longer = a.len().max(b.len()) as u64;
    if longer > STRING_BYTES_MAX {
        return Err(Refusal::LcsTooLong);
    }
    let cells = (a.len() as u128 + 1) * (b.len() as u128 + 1);
    if cells * size_of::<u32>() as u128 > u128::from(table_bytes_max) {
        return Err(TABLE_TOO_LARGE);
    }
    if options.len {
        reply.int(i64::from(length(a, b)?));
        return Ok(());
    }
    let table = Table::new(a, b)?;
    if options.idx {
        write_matches(reply, a, b, &table, options);
        return Ok(());
    }
    let mut common = Vec::with_capacity(table.len() as usize);
    table.walk_back(a, b, |i, _| common.extend(a.get(i)));
    common.reverse();
    reply.bulk(&common);
    Ok(())
}

/// The reply of IDX: stretches that match in both strings, the last first.
fn write_matches(reply: &mut Reply<'_>, a: &[u8], b: &[u8], table: &Table, options: &Options) {
    reply.map(2);
    reply.bulk(b"matches");
    let (later, mut count) = (reply.later(), 0);
    let mut write = |found: &Match| {
        if (found.len as i64) < options.match_len_min {
            return;
        }
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [found.a, found.b] {
            reply.array(2);
            reply.int(start as i64);
            reply.int((start + found.len) as i64 - 1);
        }
        if options.with_match_len {
            reply.int(found.len as i64);
        }
        count += 1;
    };
    let mut open: Option<Match> = None;
    table.walk_back(a, b, |i, j| match &mut open {
        Some(found) if (found.a, found.b) == (i + 1, j + 1) => {
            *found = Match {
                a: i,
                b: j,
                len: found.len + 1,
            };
        }
        _ => {
            if let Some(found) = open.replace(Match { a: i, b: j, len: 1 }) {
                write(&found);
            }
        }
    });
    if let Some(found) = open {
        write(&found);
    }
    reply.array_at(later, count);
    reply.bulk(b"len");
    reply.int(i64::from(table.len()));
}

/// A stretch that is the same in both strings.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// The row after `above`, into `row`: both one longer than `b`, their first cells 0.
#[inline]
fn next_row(byte: u8, b: &[u8], above: &[u32], row: &mut [u32]) {
    let mut left = 0;
    let cells = row.iter_mut().skip(1).zip(above.windows(2)).zip(b);
    for ((cell, above), other) in cells {
        left = match above {
            [diagonal, _] if byte == *other => diagonal.wrapping_add(1), // below 2^32
            [_, up] => left.max(*up),
            _ => left,
        };
        *cell = left;
    }
}

/// `cells` zeros, or the refusal of memory that is not there.
fn zeros(cells: usize) -> Result<Vec<u32>, Refusal> {
    let mut zeros = Vec::new();
    zeros
        .try_reserve_exact(cells)
        .map_err(|_| Refusal::LcsNoMemory)?;
    zeros.resize(cells, 0);
    Ok(zeros)
}

/// The length of the longest common subsequence, in memory for two rows.
fn length(a: &[u8], b: &[u8]) -> Result<u32, Refusal> {
    let mut above = zeros(b.len() + 1)?;
    let mut row = zeros(b.len() + 1)?;
    for byte in a {
        next_row(*byte, b, &above, &mut row);
        core::mem::swap(&mut above, &mut row);
    }
    Ok(above.last().copied().unwrap_or(0))
}

/// All rows, one behind the other.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Result<Table, Refusal> {
        let width = b.len() + 1;
        let mut cells = zeros((a.len() + 1) * width)?;
        let mut rest = &mut cells[..];
        for byte in a {
            let Some((above, below)) = rest.split_at_mut_checked(width) else {
                break;
            };
            if let Some(row) = below.get_mut(..width) {
                next_row(*byte, b, above, row);
            }
            rest = below;
        }
        Ok(Table { cells, width })
    }

    /// The length of the longest common subsequence.
    fn len(&self) -> u32 {
        self.cells.last().copied().unwrap_or(0)
    }

    fn cell(&self, i: usize, j: usize) -> u32 {
        self.cells.get(i * self.width + j).copied().unwrap_or(0)
    }

    /// Shows the places of each byte of the subsequence in both strings, from the last to the first.
    fn walk_back(&self, a: &[u8], b: &[u8], mut f: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a.get(i - 1) == b.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                f(i, j);
            } else if self.cell(i - 1, j) > self.cell(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;
    use storage::Key;

    #[test]
    fn every_form() {
        Bench::new().table(
            "
            MSET a ohmytext b mynewtext -> +OK
            LCS a b -> $6 mytext
            LCS a b LEN -> :6
            LCS a b IDX -> *4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6
            LCS a b IDX MINMATCHLEN 4 -> *4 $7 matches *1 *2 *2 :4 :7 *2 :5 :8 $3 len :6
            LCS a b idx minmatchlen 4 withmatchlen -> *4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6
            LCS a b IDX MINMATCHLEN -3 MINMATCHLEN 9 -> *4 $7 matches *0 $3 len :6
            LCS a b MINMATCHLEN 4 WITHMATCHLEN -> $6 mytext
            LCS a a IDX -> *4 $7 matches *1 *2 *2 :0 :7 *2 :0 :7 $3 len :8
            LCS a missing -> $0
            LCS a missing LEN -> :0
            LCS missing gone IDX -> *4 $7 matches *0 $3 len :0
            SET n 1234 -> +OK
            LCS n n -> $4 1234
            ",
        );
    }

    #[test]
    fn the_map_of_resp3() {
        let mut bench = Bench::new();
        bench.run("MSET a xay b zaz");
        bench.resp = Resp::V3;
        bench.table("LCS a b IDX -> %2 $7 matches *1 *2 *2 :1 :1 *2 :1 :1 $3 len :1");
    }

    #[test]
    fn refusals_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        bench.table(
            "
            LCS l a WHAT -> -ERR The specified keys must contain string values
            LCS a l -> -ERR The specified keys must contain string values
            LCS a b WHAT -> -ERR syntax error
            LCS a b MINMATCHLEN -> -ERR syntax error
            LCS a b MINMATCHLEN x -> -ERR value is not an integer or out of range
            LCS a b LEN IDX -> -ERR If you want both the length and indexes, please just use IDX.
            LCS a b IDX LEN WHAT -> -ERR syntax error
            ",
        );
    }

    #[test]
    fn large_tables_are_refused() {
        let mut bench = Bench::new();
        bench.run("MSET a 1234567 b 1234567");
        bench.settings.string_bytes_max = 8 * 8 * 4;
        bench.table("LCS a b LEN -> :7");
        bench.settings.string_bytes_max -= 1;
        let refused =
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        bench.table(&format!("LCS a b LEN -> {refused}"));
    }

    proptest::proptest! {
        #[test]
        fn one_row_finds_the_length_of_the_whole_table(a in "[abc]{0,20}", b in "[abc]{0,20}") {
            let table = super::Table::new(a.as_bytes(), b.as_bytes()).unwrap();
            let mut found = Vec::new();
            table.walk_back(a.as_bytes(), b.as_bytes(), |i, j| found.push((i, j)));
            assert_eq!(found.len() as u32, table.len());
            assert!(found.iter().all(|(i, j)| a.as_bytes()[*i] == b.as_bytes()[*j]));
            assert!(found.windows(2).all(|w| w[0].0 > w[1].0 && w[0].1 > w[1].1));
            assert_eq!(super::length(a.as_bytes(), b.as_bytes()), Ok(table.len()));
        }
    }
}
