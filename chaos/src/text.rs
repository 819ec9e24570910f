//! Requests and replies as one printable line: for reports and for the patterns of allow-lists.
//!
//! ```text
//!   -ERR no   +OK   :1   "bulk\x00"   nil   nil-array   [a, b]   ~[a]   >[a]   {k: v}   ,1.5   #t
//! ```

use protocol::answer::Answer;

/// Bytes of one word or string that are shown.
const WORD_BYTES_MAX: usize = 96;
/// Bytes of one whole line.
pub(crate) const LINE_BYTES_MAX: usize = 1500;

/// The words of a request as one line.
pub(crate) fn request_line(words: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        if out.len() > LINE_BYTES_MAX {
            out.push_str(&format!("... ({} words)", words.len()));
            break;
        }
        let plain = !word.is_empty() && word.iter().all(|b| b.is_ascii_graphic() && *b != b'"');
        if plain && word.len() <= WORD_BYTES_MAX {
            out.push_str(&String::from_utf8_lossy(word));
        } else {
            quote(word, &mut out);
        }
    }
    out
}

/// A reply as one line.
pub(crate) fn answer_line(answer: &Answer) -> String {
    let mut out = String::new();
    write_answer(answer, &mut out);
    out
}

fn write_answer(answer: &Answer, out: &mut String) {
    match answer {
        Answer::Simple(text) => mark('+', text, out),
        Answer::Error(text) => mark('-', text, out),
        Answer::Int(number) => out.push_str(&format!(":{number}")),
        Answer::Bulk(bytes) => quote(bytes, out),
        Answer::Null => out.push_str("nil"),
        Answer::NullArray => out.push_str("nil-array"),
        Answer::Array(members) => list("[", members, out),
        Answer::Set(members) => list("~[", members, out),
        Answer::Push(members) => list(">[", members, out),
        Answer::Map(pairs) => map(pairs, out),
        Answer::Double(text) => mark(',', text, out),
        Answer::Bool(yes) => out.push_str(if *yes { "#t" } else { "#f" }),
        Answer::Verbatim { format, text } => {
            mark('=', format, out);
            quote(text, out);
        }
        Answer::BigNumber(digits) => mark('(', digits, out),
        Answer::Attribute { pairs, of } => {
            out.push('|');
            map(pairs, out);
            write_answer(of, out);
        }
    }
}

fn mark(mark: char, text: &[u8], out: &mut String) {
    out.push(mark);
    out.push_str(&String::from_utf8_lossy(text));
}

fn list(open: &str, members: &[Answer], out: &mut String) {
    out.push_str(open);
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if out.len() > LINE_BYTES_MAX {
            out.push_str(&format!("... ({} members)", members.len()));
            break;
        }
        write_answer(member, out);
    }
    out.push(']');
}

fn map(pairs: &[(Answer, Answer)], out: &mut String) {
    out.push('{');
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if out.len() > LINE_BYTES_MAX {
            out.push_str(&format!("... ({} pairs)", pairs.len()));
            break;
        }
        write_answer(key, out);
        out.push_str(": ");
        write_answer(value, out);
    }
    out.push('}');
}

fn quote(bytes: &[u8], out: &mut String) {
    out.push('"');
    for byte in bytes.iter().take(WORD_BYTES_MAX) {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    if bytes.len() > WORD_BYTES_MAX {
        out.push_str(&format!("...({} bytes)", bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::{answer_line, request_line};
    use protocol::answer::Answer;

    #[test]
    fn lines_are_printable() {
        let words = [
            b"SET".to_vec(),
            b"a b\0".to_vec(),
            Vec::new(),
            vec![b'x'; 200],
        ];
        let line = request_line(&words);
        assert!(line.starts_with("SET \"a b\\x00\" \"\" \"xxx"), "{line}");
        assert!(line.ends_with("\"...(200 bytes)"), "{line}");
        let answer = Answer::Array(vec![
            Answer::Int(1),
            Answer::Null,
            Answer::Map(vec![(
                Answer::Bulk(b"k".to_vec()),
                Answer::Double(b"1.5".to_vec()),
            )]),
            Answer::Error(b"ERR no".to_vec()),
        ]);
        assert_eq!(answer_line(&answer), "[:1, nil, {\"k\": ,1.5}, -ERR no]");
    }
}
