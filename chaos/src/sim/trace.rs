//! What happened in a run, line by line; and its digest, to compare two runs of one seed.

use std::fmt::Arguments;

/// Lines that are kept; a run that has more shows its last ones.
const LINES_MAX: usize = 2_000_000;
/// Bytes of a text that a line shows.
const SHOWN_BYTES: usize = 60;

/// FNV-1a, 64 bits: any change of any byte changes it.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Only when asked for: writing lines takes most of a run's time.
    lines: Option<Vec<String>>,
    digest: u64,
    count: u64,
}

impl Trace {
    /// One that keeps its lines, or notes nothing.
    pub(crate) fn new(keeps: bool) -> Trace {
        Trace {
            lines: keeps.then(Vec::new),
            digest: FNV_BASIS,
            count: 0,
        }
    }

    /// Notes a line.
    #[inline]
    pub(crate) fn note(&mut self, now_us: u64, what: Arguments<'_>) {
        if self.lines.is_some() {
            self.write(now_us, what);
        }
    }

    #[cold]
    fn write(&mut self, now_us: u64, what: Arguments<'_>) {
        let (s, us) = (now_us / 1_000_000, now_us % 1_000_000);
        let line = format!("{s:4}.{us:06} {what}");
        for byte in line.bytes().chain([b'\n']) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.count += 1;
        if let Some(lines) = self.lines.as_mut().filter(|lines| lines.len() < LINES_MAX) {
            lines.push(line);
        }
    }

    /// The digest of all lines and their number.
    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.digest, self.count)
    }

    /// The lines.
    pub(crate) fn lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Words as a line shows them.
pub(crate) fn show(words: &[Vec<u8>]) -> String {
    let shown: Vec<String> = words.iter().map(|word| show_text(word)).collect();
    shown.join(" ")
}

/// A text as a line shows it.
pub(crate) fn show_text(text: &[u8]) -> String {
    let mut shown = text
        .get(..text.len().min(SHOWN_BYTES))
        .unwrap_or_default()
        .escape_ascii()
        .to_string();
    if text.len() > SHOWN_BYTES {
        shown.push_str("...");
    }
    shown
}
