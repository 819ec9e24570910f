//! Words to bytes: the client's side of a request.

/// Appends a request of these words, as every Redis client sends it.
pub fn encode(words: &[impl AsRef<[u8]>], out: &mut Vec<u8>) {
    header(b'*', words.len(), out);
    for word in words {
        let word = word.as_ref();
        out.reserve(word.len().saturating_add(32));
        header(b'$', word.len(), out);
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(mark: u8, count: usize, out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn words_become_bulks() {
        let mut out = Vec::new();
        encode(&["SET", "k", ""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
        out.clear();
        encode(&[vec![b'x'; 1000]], &mut out);
        assert!(out.starts_with(b"*1\r\n$1000\r\nxxx"));
    }
}
