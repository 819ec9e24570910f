//! Laws of the protocol, over random cases: split anywhere, same result; garbage never panics;
//! parse of encode is the identity.
#![allow(missing_docs, reason = "tests")]

use proptest::collection::vec;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use protocol::answer::{Answer, AnswerParser};
use protocol::{Args, Limits, Parsed, Parser, Word, args, number, request};

/// What a connection that is given `input` in these pieces makes of it: each request's words, then
/// how it ends.
fn connection(input: &[u8], pieces: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<Parsed>) {
    let (mut parser, mut words) = (Parser::default(), Vec::new());
    let (mut begin, mut end) = (0, 0);
    let mut requests = Vec::new();
    let mut pieces = pieces.iter().copied();
    loop {
        let bytes = &input[begin..end];
        words.clear();
        let consumed = match parser.parse(bytes, &Limits::DEFAULT, &mut words) {
            Parsed::Request { consumed } => {
                requests.push(words.iter().map(|word| word.of(bytes).to_vec()).collect());
                consumed
            }
            Parsed::Inline { consumed, owned } => {
                requests.push(owned);
                consumed
            }
            Parsed::Empty { consumed } => consumed,
            Parsed::Incomplete { need } => {
                assert!(need >= 1);
                assert!(words.is_empty());
                if end == input.len() {
                    return (requests, None);
                }
                end = pieces
                    .next()
                    .map_or(input.len(), |piece| (end + piece).min(input.len()));
                continue;
            }
            invalid @ Parsed::Invalid { .. } => return (requests, Some(invalid)),
        };
        assert!(consumed >= 1 && consumed <= bytes.len());
        begin += consumed;
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        1 => vec(any::<u8>(), 90..1100),
    ]
}

fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![4 => vec(bytes(), 1..6), 1 => vec(vec(any::<u8>(), 0..4), 15..60)]
}

/// Bytes that nearly are requests.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    const FRAGMENTS: &[&[u8]] = &[
        b"*",
        b"$",
        b"\r\n",
        b"\r",
        b"\n",
        b"1",
        b"2",
        b"12",
        b"-1",
        b"*1\r\n",
        b"*3\r\n",
        b"$1\r\n",
        b"$2\r\n",
        b"abc",
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"\\x41",
        b"\0",
        b"2147483648",
        b"99999999999999999999",
        b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    ];
    let fragment = proptest::sample::select(FRAGMENTS);
    vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
}

fn encoded(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    requests
        .iter()
        .for_each(|words| request::encode(words, &mut out));
    out
}

/// One answer that is written and read back the same.
fn answer() -> impl Strategy<Value = Answer> {
    let text = || {
        vec(
            any::<u8>().prop_filter("a line", |b| !matches!(b, b'\r' | b'\n')),
            0..12,
        )
    };
    let leaf = prop_oneof![
        text().prop_map(Answer::Simple),
        text().prop_map(Answer::Error),
        text().prop_map(Answer::Double),
        text().prop_map(Answer::BigNumber),
        any::<i64>().prop_map(Answer::Int),
        bytes().prop_map(Answer::Bulk),
        any::<bool>().prop_map(Answer::Bool),
        Just(Answer::Null),
        Just(Answer::NullArray),
        (any::<[u8; 3]>(), bytes()).prop_map(|(format, text)| Answer::Verbatim { format, text }),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let pairs = || vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Answer::Array),
            vec(inner.clone(), 0..6).prop_map(Answer::Set),
            vec(inner.clone(), 0..6).prop_map(Answer::Push),
            pairs().prop_map(Answer::Map),
            (pairs(), inner.clone()).prop_map(|(pairs, of)| Answer::Attribute {
                pairs,
                of: Box::new(of)
            }),
        ]
    })
}

/// A word in double quotes, all of it escaped.
fn quoted(word: &[u8]) -> String {
    let escaped: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{escaped}\"")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_come_back_as_they_were_however_split(
        requests in vec(words(), 1..4),
        pieces in vec(0..40usize, 0..60),
    ) {
        let input = encoded(&requests);
        prop_assert_eq!(connection(&input, &pieces), (requests, None));
    }

    #[test]
    fn nearly_requests_do_not_depend_on_where_they_are_split(
        input in nearly(),
        pieces in vec(1..6usize, 0..60),
    ) {
        let whole = connection(&input, &[]);
        prop_assert_eq!(&connection(&input, &pieces), &whole);
        prop_assert_eq!(&connection(&input, &vec![1; input.len()]), &whole);
    }

    #[test]
    fn damaged_requests_do_not_depend_on_where_they_are_split(
        requests in vec(words(), 1..4),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        pieces in vec(1..20usize, 0..60),
    ) {
        let mut input = encoded(&requests);
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        prop_assert_eq!(connection(&input, &pieces), connection(&input, &[]));
    }

    #[test]
    fn inline_words_come_back_as_they_were(words in vec(bytes(), 1..6)) {
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let input = format!("{}\r\n", line.join(" "));
        prop_assert_eq!(connection(input.as_bytes(), &[]), (vec![words.clone()], None));
        let (mut buf, mut found) = (Vec::new(), Vec::<Word>::new());
        args::flatten(&words, &mut buf, &mut found);
        let args = Args::new(&buf, &found);
        let read: Vec<_> = (0..args.total()).filter_map(|i| args.word(i)).collect();
        prop_assert_eq!(read, words);
    }

    #[test]
    fn answers_come_back_as_they_were_however_split(
        answer in answer(),
        pieces in vec(1..30usize, 0..60),
    ) {
        let mut input = Vec::new();
        answer.write(&mut input);
        let mut parser = AnswerParser::default();
        prop_assert_eq!(parser.parse(&input), Ok(Some((answer.clone(), input.len()))));
        let mut end = 0;
        for piece in pieces {
            end += piece;
            if end >= input.len() {
                break;
            }
            prop_assert_eq!(parser.parse(&input[..end]), Ok(None));
        }
        prop_assert_eq!(parser.parse(&input), Ok(Some((answer, input.len()))));
    }

    #[test]
    fn integers_come_back_as_they_were(n in any::<i64>()) {
        let mut text = Vec::new();
        number::write_i64(n, &mut text);
        prop_assert_eq!(number::parse_i64(&text), Some(n));
    }

    #[test]
    fn doubles_come_back_as_they_were(bits in any::<u64>()) {
        let d = f64::from_bits(bits);
        let mut text = Vec::new();
        number::write_f64(d, &mut text);
        let back = number::parse_f64(&text);
        prop_assert!(d.is_nan() && back.is_none() || back.map(f64::to_bits) == Some(bits));
    }

    #[test]
    fn sums_do_not_depend_on_order(a in any::<f64>(), b in any::<f64>()) {
        let read = |d: f64| number::LongDouble::parse(format!("{d:e}").as_bytes());
        let human = |n: number::LongDouble| {
            let mut text = Vec::new();
            n.write_human(&mut text);
            text
        };
        if let (Some(a), Some(b)) = (read(a), read(b)) {
            prop_assert_eq!(human(a.add(b)), human(b.add(a)));
        }
    }
}
