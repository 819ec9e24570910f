//! The first line of a script or library: `#!lua name=... flags=...`.

/// What a script declares of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(u8);

/// All flags by their names, in the order in which they are shown.
const NAMES: [(&str, Flags); 5] = [
    ("no-writes", Flags::NO_WRITES),
    ("allow-oom", Flags::ALLOW_OOM),
    ("allow-stale", Flags::ALLOW_STALE),
    ("no-cluster", Flags::NO_CLUSTER),
    ("allow-cross-slot-keys", Flags::ALLOW_CROSS_SLOT),
];

impl Flags {
    /// It only reads.
    pub const NO_WRITES: Flags = Flags(1);
    /// It runs also when memory is full.
    pub const ALLOW_OOM: Flags = Flags(2);
    /// It runs also on a replica that has lost its primary.
    pub const ALLOW_STALE: Flags = Flags(4);
    /// It does not run in cluster mode.
    pub const NO_CLUSTER: Flags = Flags(8);
    /// It may use keys of several slots in cluster mode.
    pub const ALLOW_CROSS_SLOT: Flags = Flags(16);

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that are set in either.
    #[must_use]
    pub fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flag of a name.
    pub(crate) fn named(name: &[u8], any_case: bool) -> Option<Flags> {
        let is = |known: &str| {
            known.as_bytes() == name || any_case && known.as_bytes().eq_ignore_ascii_case(name)
        };
        let found = NAMES.iter().find(|(known, _)| is(known));
        found.map(|(_, flag)| *flag)
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = NAMES.iter().filter(move |(_, flag)| self.contains(*flag));
        set.map(|(name, _)| *name)
    }
}

/// Which rules a script runs by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagsOf {
    /// It has no `#!` line: the rules of old.
    Undeclared,
    /// It declares these.
    Declared(Flags),
}

/// The flags of a script for EVAL, and where its code begins (at the end of the first line, if that is one for us).
///
/// # Errors
/// The text of the refusal, without its code.
pub(crate) fn script(body: &[u8]) -> Result<(FlagsOf, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((FlagsOf::Undeclared, 0));
    }
    let end = body.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or("Invalid script shebang")?;
    let parts = protocol::unquote(&body[..end]).unwrap_or_default();
    let (engine, options) = parts
        .split_first()
        .ok_or("Invalid engine in script shebang")?;
    if engine != b"#!lua" {
        return Err(format!(
            "Unexpected engine in script shebang: {}",
            text(engine)
        ));
    }
    let mut flags = Flags::default();
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", text(option)));
        };
        for name in names.split(|byte| *byte == b',') {
            if names.is_empty() {
                break;
            }
            let flag = Flags::named(name, false)
                .ok_or_else(|| format!("Unexpected flag in script shebang: {}", text(name)))?;
            flags = flags.and(flag);
        }
    }
    Ok((FlagsOf::Declared(flags), end))
}

/// The name of a library and where its code begins.
///
/// # Errors
/// The text of the refusal, without its code.
pub(crate) fn library_name(code: &[u8]) -> Result<(String, usize), String> {
    if !code.starts_with(b"#!") {
        return Err("Missing library metadata".to_owned());
    }
    let end = code.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or("Invalid library metadata")?;
    let parts = protocol::unquote(&code[..end]).unwrap_or_default();
    let (engine, options) = parts.split_first().ok_or("Invalid library metadata")?;
    let mut name = None;
    for option in options {
        let is_name = option
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"name="));
        if !is_name {
            return Err(format!("Invalid metadata value given: {}", text(option)));
        }
        if name.replace(&option[5..]).is_some() {
            let text = "Invalid metadata value, name argument was given multiple times";
            return Err(text.to_owned());
        }
    }
    let name = name.ok_or("Library name was not given")?;
    if !is_name(name) {
        return Err(BAD_NAME.to_owned());
    }
    let engine = engine.get(2..).unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(format!("Engine '{}' not found", text(engine)));
    }
    Ok((text(name), end))
}

/// The name of a library, if its first line is right.
pub fn named(code: &[u8]) -> Option<String> {
    library_name(code).ok().map(|(name, _)| name)
}

/// What is said of names of libraries and functions that are none.
pub(crate) const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Whether a library or function may be called so.
pub(crate) fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    !name.is_empty() && name.iter().all(is_part)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_of_scripts() {
        let error = |body: &str| script(body.as_bytes()).unwrap_err();
        assert_eq!(script(b"return 1"), Ok((FlagsOf::Undeclared, 0)));
        let declared = |flags| Ok((FlagsOf::Declared(flags), 5));
        assert_eq!(script(b"#!lua\nreturn 1"), declared(Flags::default()));
        let (flags, end) = script(b"#!lua flags=no-writes,no-cluster\n").unwrap();
        let both = Flags::NO_WRITES.and(Flags::NO_CLUSTER);
        assert_eq!((flags, end), (FlagsOf::Declared(both), 32));
        assert!(both.names().eq(["no-writes", "no-cluster"]));
        assert_eq!(error("#!lua"), "Invalid script shebang");
        assert_eq!(error("#!js\n"), "Unexpected engine in script shebang: #!js");
        assert_eq!(
            error("#!lua flags=bad\n"),
            "Unexpected flag in script shebang: bad"
        );
        assert_eq!(
            error("#!lua name=x\n"),
            "Unknown lua shebang option: name=x"
        );
    }

    #[test]
    fn first_lines_of_libraries() {
        let ok = library_name(b"#!lua NAME=my_lib\ncode");
        assert_eq!(ok, Ok(("my_lib".to_owned(), 17)));
        for (code, error) in [
            ("return", "Missing library metadata"),
            ("#!lua name=x", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            (
                "#!lua name=a name=b\n",
                "Invalid metadata value, name argument was given multiple times",
            ),
            ("#!lua foo=a\n", "Invalid metadata value given: foo=a"),
            ("#!lua name=a-b\n", BAD_NAME),
            ("#!js name=a\n", "Engine 'js' not found"),
        ] {
            assert_eq!(library_name(code.as_bytes()).unwrap_err(), error);
        }
    }
}
