//! Hot path. `Args`: a cursor over one request's words. Knows no command.
//!
//! A handler takes its words from left to right; what is missing or malformed becomes the
//! `Refusal` that Redis would reply.

use crate::number;
use crate::parse::Word;
use crate::refusal::Refusal;

/// A cursor over the words of one request; it starts after the command's name.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    buf: &'a [u8],
    words: &'a [Word],
    /// Index of the next word to take; never above `words.len()`.
    at: usize,
}

impl<'a> Args<'a> {
    /// The words of a request in `buf`; word 0 is the command's name.
    #[inline]
    pub fn new(buf: &'a [u8], words: &'a [Word]) -> Self {
        Self {
            buf,
            words,
            at: words.len().min(1),
        }
    }

    /// The cursor moved past `n` more words, e.g. a subcommand's name.
    #[inline]
    #[must_use]
    pub fn skip(self, n: usize) -> Self {
        Self {
            at: self.at.saturating_add(n).min(self.words.len()),
            ..self
        }
    }

    /// The number of words of the request, its name included.
    #[inline]
    pub fn total(&self) -> usize {
        self.words.len()
    }

    /// The number of words not yet taken.
    #[inline]
    pub fn left(&self) -> usize {
        self.words.len().saturating_sub(self.at)
    }

    /// The word at an absolute index; 0 is the command's name.
    #[inline]
    pub fn word(&self, index: usize) -> Option<&'a [u8]> {
        self.words.get(index).map(|word| word.of(self.buf))
    }

    /// The next word, not taken.
    #[inline]
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.word(self.at)
    }

    /// Takes the next word.
    ///
    /// # Errors
    /// `Refusal::Syntax` if there is none.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        match self.peek() {
            Some(word) => {
                self.at += 1;
                Ok(word)
            }
            None => Err(Refusal::Syntax),
        }
    }

    /// Takes the next word as an integer.
    ///
    /// # Errors
    /// `Refusal::Syntax` if there is none, `Refusal::NotInteger` if it is not a 64-bit integer.
    #[inline]
    pub fn int(&mut self) -> Result<i64, Refusal> {
        number::parse_i64(self.bytes()?).ok_or(Refusal::NotInteger)
    }

    /// Takes the next word as a double; infinities are allowed.
    ///
    /// # Errors
    /// `Refusal::Syntax` if there is none, `Refusal::NotFloat` if it is not a number.
    #[inline]
    pub fn float(&mut self) -> Result<f64, Refusal> {
        number::parse_f64(self.bytes()?).ok_or(Refusal::NotFloat)
    }

    /// Takes the next word if it equals `upper`, ASCII case ignored.
    #[inline]
    pub fn keyword(&mut self, upper: &str) -> bool {
        let equal = self
            .peek()
            .is_some_and(|word| word.eq_ignore_ascii_case(upper.as_bytes()));
        self.at += usize::from(equal);
        equal
    }

    /// Checks that every word has been taken.
    ///
    /// # Errors
    /// `Refusal::Syntax` if one is left.
    #[inline]
    pub fn end(&self) -> Result<(), Refusal> {
        if self.left() == 0 {
            Ok(())
        } else {
            Err(Refusal::Syntax)
        }
    }

    /// All words not yet taken; the cursor stays.
    #[inline]
    pub fn rest(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + ExactSizeIterator + use<'a> {
        let buf = self.buf;
        self.words
            .get(self.at..)
            .unwrap_or_default()
            .iter()
            .map(move |word| word.of(buf))
    }

    /// Copies all words, the name included, behind what `buf` and `words` hold, so that they can be
    /// read by `Args` when their own buffer is gone.
    pub fn copy_into(&self, buf: &mut Vec<u8>, words: &mut Vec<Word>) {
        for word in self.words {
            let bytes = word.of(self.buf);
            words.push(Word::new(buf.len(), bytes.len()));
            buf.extend_from_slice(bytes);
        }
    }
}

impl Args<'_> {
    /// Offset of the first word, and the bytes from there to the end of the last: words lie in the order in which they
    /// were read.
    #[inline]
    fn span(&self) -> Option<(u32, &[u8])> {
        let (first, last) = self.words.first().zip(self.words.last())?;
        let end = last.start as usize + last.len as usize;
        Some((first.start, self.buf.get(first.start as usize..end)?))
    }

    /// Bytes that [`Args::copy_span_into`] adds.
    #[inline]
    pub fn span_bytes(&self) -> usize {
        self.span().map_or(0, |(_, span)| span.len())
    }

    /// As [`Args::copy_into`], with what stands between the words: one copy instead of one per word.
    #[inline]
    pub fn copy_span_into(&self, buf: &mut Vec<u8>, words: &mut Vec<Word>) {
        let Some((start, span)) = self.span() else {
            return self.copy_into(buf, words);
        };
        let base = buf.len();
        words.extend(self.words.iter().map(|word| {
            let offset = word.start.wrapping_sub(start) as usize;
            Word::new(base + offset, word.len as usize)
        }));
        buf.extend_from_slice(span);
    }
}

/// Appends one word's bytes to `buf` and where they are to `words`, unless `buf` is as long as offsets reach.
pub fn push_word(bytes: &[u8], buf: &mut Vec<u8>, words: &mut Vec<Word>) -> bool {
    let start = buf.len();
    if u32::try_from(start.saturating_add(bytes.len())).is_err() {
        return false;
    }
    buf.extend_from_slice(bytes);
    words.push(Word::new(start, bytes.len()));
    true
}

/// Puts owned words (of an inline request with quotes) into one buffer, so that they can be read by
/// `Args` like any others.
pub fn flatten(owned: &[Vec<u8>], buf: &mut Vec<u8>, words: &mut Vec<Word>) {
    for bytes in owned {
        words.push(Word::new(buf.len(), bytes.len()));
        buf.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Word, flatten};
    use crate::refusal::Refusal;

    fn with_args<R>(words: &[&str], f: impl FnOnce(Args<'_>) -> R) -> R {
        let (mut buf, mut found) = (Vec::new(), Vec::new());
        let owned: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        flatten(&owned, &mut buf, &mut found);
        f(Args::new(&buf, &found))
    }

    #[test]
    fn words_are_taken_from_left_to_right() {
        with_args(&["SET", "k", "-5", "1.5", "px", "x"], |mut args| {
            assert_eq!((args.total(), args.left()), (6, 5));
            assert_eq!((args.word(0), args.word(6)), (Some(&b"SET"[..]), None));
            assert_eq!(args.bytes().unwrap(), b"k");
            assert_eq!(args.int(), Ok(-5));
            assert_eq!(args.float(), Ok(1.5));
            assert!(!args.keyword("EX"));
            assert!(args.keyword("PX"));
            assert_eq!(args.end(), Err(Refusal::Syntax));
            assert_eq!(args.rest().len(), 1);
            assert_eq!(args.clone().int(), Err(Refusal::NotInteger));
            assert_eq!(args.float(), Err(Refusal::NotFloat));
            assert_eq!(args.end(), Ok(()));
            assert_eq!(args.bytes(), Err(Refusal::Syntax));
            assert!(!args.keyword(""));
        });
    }

    #[test]
    fn copied_words_read_the_same() {
        with_args(&["SET", "k", "", "v"], |args| {
            let (mut buf, mut words) = (b"before".to_vec(), vec![Word::new(0, 6)]);
            args.clone().skip(2).copy_into(&mut buf, &mut words);
            let copy = Args::new(&buf, &words);
            assert_eq!((copy.total(), copy.word(0)), (5, Some(&b"before"[..])));
            assert!((0..4).all(|index| copy.word(index + 1) == args.word(index)));
            let (mut buf, mut words) = (b"before".to_vec(), vec![Word::new(0, 6)]);
            args.clone().skip(2).copy_span_into(&mut buf, &mut words);
            assert_eq!(buf.len(), 6 + args.span_bytes());
            let copy = Args::new(&buf, &words);
            assert_eq!((copy.total(), copy.word(0)), (5, Some(&b"before"[..])));
            assert!((0..4).all(|index| copy.word(index + 1) == args.word(index)));
        });
    }

    #[test]
    fn skipping_stops_at_the_end() {
        with_args(&["CONFIG", "GET", "x"], |args| {
            assert_eq!(args.clone().skip(1).peek(), Some(&b"x"[..]));
            assert_eq!(args.skip(usize::MAX).rest().count(), 0);
        });
        with_args(&[], |args| {
            assert_eq!((args.total(), args.left(), args.peek()), (0, 0, None))
        });
    }
}
