//! The arguments of a command: a line that people can read, and the tree that COMMAND DOCS tells of it.
//!
//! ```text
//! key [condition@2.6.12(NX | XX)] [EX=seconds:int] data{score:double member}...
//!
//! element := '[' element ']'                  may be left out
//!          | word [marks] [inner] [repeats]
//! word    := NAME                             a token, named by itself in lower case
//!          | token '/' name                   a token of another name
//!          | [token '='] name [':' type]      a value behind its token, if it has one; a string, or (`key`) a key
//! marks   := ['#' (number | '-')]             which key spec finds it; without it the first one finds keys
//!            ['@' version] ['!' version]      since when, until when
//!            [`'` text `'`]                   shown in the place of its name
//! inner   := '(' element '|' … ')'            one of these
//!          | '{' element … '}'                these together
//! repeats := '...'                            any number of times
//!          | '+...'                           any number of times, each with its token
//! ```

/// What an argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Type {
    /// As COMMAND DOCS spells it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Type::String => "string",
            Type::Integer => "integer",
            Type::Double => "double",
            Type::Key => "key",
            Type::Pattern => "pattern",
            Type::UnixTime => "unix-time",
            Type::PureToken => "pure-token",
            Type::OneOf => "oneof",
            Type::Block => "block",
        }
    }

    fn of(name: &str) -> Option<Type> {
        Some(match name {
            "string" => Type::String,
            "int" => Type::Integer,
            "double" => Type::Double,
            "key" => Type::Key,
            "pattern" => Type::Pattern,
            "time" => Type::UnixTime,
            _ => return None,
        })
    }
}

/// One argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Argument<'a> {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) display: Option<&'a str>,
    pub(super) key_spec: Option<u8>,
    pub(super) token: Option<&'a str>,
    pub(super) since: Option<&'a str>,
    pub(super) deprecated_since: Option<&'a str>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
    pub(super) multiple_token: bool,
    pub(super) inner: Vec<Argument<'a>>,
}

/// The arguments that a line describes; None when it is no such line.
pub(super) fn parse(line: &str) -> Option<Vec<Argument<'_>>> {
    let mut rest = Rest(line);
    let arguments = rest.elements(None)?;
    rest.0.is_empty().then_some(arguments)
}

/// What has not been read of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn eat(&mut self, text: &str) -> bool {
        let after = self.0.strip_prefix(text);
        self.0 = after.unwrap_or(self.0);
        after.is_some()
    }

    /// The text up to one of these, or the end.
    fn until(&mut self, ends: &[char]) -> &'a str {
        let at = self.0.find(ends).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(at);
        self.0 = rest;
        text
    }

    /// A word up to its marks, what is in it, or how often it may come.
    fn word(&mut self) -> &'a str {
        let whole = self.0;
        let word = self.until(&[' ', '[', ']', '(', ')', '{', '}', '|', '#', '@', '!', '\'']);
        let once = word.strip_suffix("...").unwrap_or(word);
        let once = if once.len() < word.len() {
            once.strip_suffix('+').unwrap_or(once)
        } else {
            once
        };
        self.0 = &whole[once.len()..];
        once
    }

    /// Elements up to this closing sign, which is read as well, or to the end of the line.
    fn elements(&mut self, close: Option<&str>) -> Option<Vec<Argument<'a>>> {
        let mut elements = Vec::new();
        loop {
            while self.eat(" ") || (close == Some(")") && self.eat("|")) {}
            match close {
                Some(close) if self.eat(close) => return Some(elements),
                None if self.0.is_empty() => return Some(elements),
                _ => elements.push(self.element()?),
            }
        }
    }

    fn element(&mut self) -> Option<Argument<'a>> {
        if self.eat("[") {
            let element = self.element()?;
            return self.eat("]").then_some(Argument {
                optional: true,
                ..element
            });
        }
        let mut argument = word(self.word())?;
        self.marks(&mut argument)?;
        let inner = if self.eat("(") {
            Some((Type::OneOf, ")"))
        } else if self.eat("{") {
            Some((Type::Block, "}"))
        } else {
            None
        };
        if let Some((kind, close)) = inner {
            argument.kind = kind;
            argument.inner = self.elements(Some(close))?;
        }
        argument.multiple_token = self.eat("+");
        argument.multiple = self.eat("...");
        Some(argument)
    }

    fn marks(&mut self, argument: &mut Argument<'a>) -> Option<()> {
        if self.eat("#") {
            let number = self.digits();
            argument.key_spec = match number {
                "" if self.eat("-") => None,
                number => Some(number.parse().ok()?),
            };
        }
        if self.eat("@") {
            argument.since = Some(self.digits());
        }
        if self.eat("!") {
            argument.deprecated_since = Some(self.digits());
        }
        if self.eat("'") {
            argument.display = Some(self.until(&['\'']));
            return self.eat("'").then_some(());
        }
        Some(())
    }

    /// Digits, and dots between them.
    fn digits(&mut self) -> &'a str {
        let is_part = |(at, byte): (usize, u8)| {
            let next = self.0.as_bytes().get(at + 1);
            byte.is_ascii_digit() || (byte == b'.' && next.is_some_and(u8::is_ascii_digit))
        };
        let parts = self.0.bytes().enumerate();
        let len = parts.take_while(|part| is_part(*part)).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        digits
    }
}

/// A word with its token and type.
fn word(word: &str) -> Option<Argument<'_>> {
    let is_token = word.starts_with(|letter: char| letter.is_ascii_uppercase());
    let (token, name, kind) = if let Some((token, name)) = word.split_once('/') {
        (Some(token), name.to_owned(), Type::PureToken)
    } else if let Some((token, value)) = word.split_once('=') {
        let (name, kind) = value_of(value)?;
        (Some(token), name, kind)
    } else if is_token {
        (Some(word), word.to_ascii_lowercase(), Type::PureToken)
    } else {
        let (name, kind) = value_of(word)?;
        (None, name, kind)
    };
    (!name.is_empty()).then_some(Argument {
        name,
        kind,
        display: None,
        key_spec: (kind == Type::Key).then_some(0),
        token,
        since: None,
        deprecated_since: None,
        optional: false,
        multiple: false,
        multiple_token: false,
        inner: Vec::new(),
    })
}

fn value_of(word: &str) -> Option<(String, Type)> {
    let (name, kind) = match word.split_once(':') {
        Some((name, kind)) => (name, Type::of(kind)?),
        None if word == "key" => (word, Type::Key),
        None => (word, Type::String),
    };
    Some((name.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_not_at_all() {
        let line = "key [condition@2.6.12(NX | XX)] [EX=ex:int#-@6.0.0!7.0.0'seconds'] =/equal d{a:double b:key#1}+... [*/id] [W=w:int+...] x...";
        let read = parse(line).unwrap();
        let names: Vec<(&str, &str)> = read
            .iter()
            .map(|argument| (argument.name.as_str(), argument.kind.name()))
            .collect();
        assert_eq!(
            names,
            [
                ("key", "key"),
                ("condition", "oneof"),
                ("ex", "integer"),
                ("equal", "pure-token"),
                ("d", "block"),
                ("id", "pure-token"),
                ("w", "integer"),
                ("x", "string"),
            ]
        );
        assert!(read[1].optional && read[1].since == Some("2.6.12"));
        assert_eq!(read[1].inner[1].token, Some("XX"));
        assert_eq!(read[1].inner[1].name, "xx");
        assert_eq!((read[2].token, read[2].key_spec), (Some("EX"), None));
        assert_eq!(read[2].display, Some("seconds"));
        assert_eq!(read[2].deprecated_since, Some("7.0.0"));
        assert!(read[4].multiple && read[4].multiple_token);
        assert_eq!(read[4].inner[1].key_spec, Some(1));
        assert!(read[6].multiple && read[6].multiple_token && read[6].optional);
        assert!(read[7].multiple && !read[7].multiple_token);
        assert_eq!(read[0].key_spec, Some(0));
        for bad in ["a)", "[a", "a(b", "a:nothing", "a{b", "a'b", "A=", "a#x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
