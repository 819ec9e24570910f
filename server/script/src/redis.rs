//! `redis.*`: what a script says to the server.

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};
use protocol::args::push_word;
use protocol::{Args, Resp, Word, number};

use crate::bundled::{
    Fault, MADE_BYTES_MAX, Words, fault, function, number_of, spelled, write_general,
};
use crate::guard::{PACKED, bridged};
use crate::sandbox::Shared;
use crate::sha1::sha1_hex;
use crate::{Called, Halt, Host, reply};

/// The version that scripts are told.
const VERSION: (&str, i64) = ("7.4.9", 0x0007_0409);

/// Functions that need the running script's host.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Op {
    Call,
    Pcall,
    Log,
    SetResp,
    SetRepl,
    AclCheckCmd,
}

/// The functions of `redis` for EVAL and for functions of libraries; not yet protected.
pub(crate) fn table(lua: &Lua, bridge: &Table) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, op) in [
        ("call", Op::Call),
        ("pcall", Op::Pcall),
        ("setresp", Op::SetResp),
        ("set_repl", Op::SetRepl),
        ("acl_check_cmd", Op::AclCheckCmd),
    ] {
        table.raw_set(name, bridged(lua, bridge, op as u8)?)?;
    }
    for (name, flag) in [
        ("REPL_NONE", 0),
        ("REPL_AOF", 1),
        ("REPL_SLAVE", 2),
        ("REPL_REPLICA", 2),
        ("REPL_ALL", 3),
    ] {
        table.raw_set(name, flag)?;
    }
    table.raw_set("sha1hex", function(lua, sha1hex)?)?;
    let error_reply = |lua: &Lua, args: Words| match (args.len(), args.get(0)) {
        (1, Value::String(text)) => {
            let text = text.as_bytes();
            let text = text.strip_prefix(b"-").unwrap_or(&text);
            one(error_value(lua, &coded(text))?)
        }
        _ => one(error_value(lua, b"ERR wrong number or type of arguments")?),
    };
    table.raw_set("error_reply", function(lua, error_reply)?)?;
    let status_reply = |lua: &Lua, args: Words| match (args.len(), args.get(0)) {
        (1, Value::String(text)) => {
            let table = lua.create_table()?;
            table.raw_set("ok", text)?;
            one(Value::Table(table))
        }
        _ => one(error_value(lua, b"ERR wrong number or type of arguments")?),
    };
    table.raw_set("status_reply", function(lua, status_reply)?)?;
    add_log(lua, bridge, &table)?;
    Ok(table)
}

/// What EVAL's `redis` has beside that.
pub(crate) fn add_of_eval(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let answer = |value: bool| move |_: &Lua, _: Words| one(Value::Boolean(value));
    table.raw_set("breakpoint", function(lua, answer(false))?)?;
    table.raw_set("replicate_commands", function(lua, answer(true))?)?;
    // Nobody debugs: what would be shown goes nowhere.
    table.raw_set("debug", function(lua, |_, _| Ok(MultiValue::new()))?)
}

/// The log and the version: what the `redis` of a library that is being loaded has as well.
pub(crate) fn add_log(lua: &Lua, bridge: &Table, table: &Table) -> mlua::Result<()> {
    table.raw_set("log", bridged(lua, bridge, Op::Log as u8)?)?;
    let levels = ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];
    for (level, name) in levels.into_iter().enumerate() {
        table.raw_set(name, level)?;
    }
    table.raw_set("REDIS_VERSION", VERSION.0)?;
    table.raw_set("REDIS_VERSION_NUM", VERSION.1)
}

fn one(value: Value) -> Result<MultiValue, Fault> {
    Ok(MultiValue::from_iter([value]))
}

fn nothing() -> Result<MultiValue, Fault> {
    Ok(MultiValue::new())
}

/// A text with a code: its own first word, or `ERR` when it has no second.
fn coded(text: &[u8]) -> Vec<u8> {
    // (It ends at a zero, as texts of C do.)
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (code, message) = match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (b"ERR".as_slice(), text),
    };
    // The end of a line goes, a blank stays.
    let is_inside = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    let begin = message.iter().position(is_inside).unwrap_or(message.len());
    let end = message
        .iter()
        .rposition(is_inside)
        .map_or(begin, |at| at + 1);
    [code, b" ", &message[begin..end]].concat()
}

/// An error as scripts see it.
pub(crate) fn error_value(lua: &Lua, text: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 3)?;
    table.raw_set("err", lua.create_string(text)?)?;
    Ok(Value::Table(table))
}

/// Raises an error of `redis.*`: a table, which needs no position of a line.
pub(crate) fn raise<T>(lua: &Lua, text: &str) -> Result<T, Fault> {
    let text = format!("ERR {text}");
    Err(Fault::Value(error_value(lua, text.as_bytes())?))
}

fn sha1hex(lua: &Lua, args: Words) -> Result<MultiValue, Fault> {
    if args.len() != 1 {
        return raise(lua, "wrong number of arguments");
    }
    let bytes = match args.get(0) {
        Value::String(text) => text.as_bytes().to_vec(),
        value => number_of(value).map_or_else(Vec::new, lua_text),
    };
    one(Value::String(lua.create_string(sha1_hex(&bytes))?))
}

fn lua_text(n: f64) -> Vec<u8> {
    let mut text = Vec::new();
    write_general(n, 14, &mut text);
    text
}

/// A script that runs: what its calls work with.
pub(crate) struct Calls<'h> {
    pub(crate) host: &'h mut dyn Host,
    pub(crate) shared: Rc<Shared>,
    pub(crate) resp: Resp,
    /// The words of the present command, and its reply.
    words: Vec<Word>,
    buf: Vec<u8>,
    out: Vec<u8>,
}

/// Buffers larger than this are not kept for the next call, bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;

impl<'h> Calls<'h> {
    pub(crate) fn new(host: &'h mut dyn Host, shared: Rc<Shared>) -> Self {
        Calls {
            host,
            shared,
            resp: Resp::V2,
            words: Vec::new(),
            buf: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Runs one of the functions; its number is the first argument.
    pub(crate) fn run(&mut self, lua: &Lua, mut args: MultiValue) -> Result<MultiValue, Fault> {
        let op = args.pop_front().as_ref().and_then(number_of);
        let mut op = op.map_or(u8::MAX, |n| n as u8);
        if op >= PACKED
            && let (Some(Value::Table(packed)), Some(count)) = (args.pop_front(), args.pop_front())
        {
            op -= PACKED;
            let count = number_of(&count).unwrap_or(0.0) as usize;
            // One at a time: the binding has no room for so many values at once.
            let words = (0..count).map(|index| packed.raw_get(index + 1));
            return match op {
                _ if op == Op::Call as u8 => self.call(lua, words, true),
                _ if op == Op::Pcall as u8 => self.call(lua, words, false),
                _ => raise(lua, "too many arguments"),
            };
        }
        let args = Words { args };
        match op {
            _ if op == Op::Call as u8 => self.call(lua, args.into_all(), true),
            _ if op == Op::Pcall as u8 => self.call(lua, args.into_all(), false),
            _ if op == Op::Log as u8 => self.log(lua, &args),
            _ if op == Op::SetResp as u8 => self.set_resp(lua, &args),
            _ if op == Op::SetRepl as u8 => set_repl(lua, &args),
            _ => self.acl_check_cmd(lua, &args),
        }
    }

    /// The words of a command; None when one of them is none.
    fn take_words(&mut self, args: impl Iterator<Item = mlua::Result<Value>>) -> Option<()> {
        self.words.clear();
        self.buf.clear();
        for value in args {
            let fits = match &value.ok()? {
                Value::String(text) => {
                    let bytes = text.as_bytes();
                    let len = self.buf.len().saturating_add(bytes.len());
                    len <= MADE_BYTES_MAX + KEPT_BYTES_MAX
                        && push_word(&bytes, &mut self.buf, &mut self.words)
                }
                value => {
                    let text = argument_text(number_of(value)?);
                    push_word(&text, &mut self.buf, &mut self.words)
                }
            };
            if !fits {
                return None;
            }
        }
        Some(())
    }

    fn call(
        &mut self,
        lua: &Lua,
        args: impl ExactSizeIterator<Item = mlua::Result<Value>>,
        raises: bool,
    ) -> Result<MultiValue, Fault> {
        let fail = |text: &str| {
            if raises {
                return raise(lua, text);
            }
            one(error_value(lua, format!("ERR {text}").as_bytes())?)
        };
        if args.len() == 0 {
            return fail("Please specify at least one argument for this redis lib call");
        }
        if self.take_words(args).is_none() {
            return fail("Lua redis lib command arguments must be strings or integers");
        }
        self.out.clear();
        let words = Args::new(&self.buf, &self.words);
        let called = self.host.call(words, self.resp, &mut self.out);
        let result = match called {
            Called::Abandon => {
                self.shared.stop_now(lua, Halt::Abandon)?;
                return Err(Fault::Lua(mlua::Error::runtime("the script is abandoned")));
            }
            Called::Refused(text) => {
                let error = error_value(lua, text.as_bytes())?;
                if let Value::Table(table) = &error {
                    table.raw_set("ignore_error_stats_update", true)?;
                }
                if raises {
                    return Err(Fault::Value(error));
                }
                one(error)
            }
            Called::Replied => {
                let value = reply::read(lua, &self.out)?;
                if raises && self.out.first() == Some(&b'-') {
                    return Err(Fault::Value(value));
                }
                one(value)
            }
        };
        for buffer in [&mut self.buf, &mut self.out] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        result
    }

    fn log(&mut self, lua: &Lua, args: &Words) -> Result<MultiValue, Fault> {
        if args.len() < 2 {
            return raise(lua, "redis.log() requires two arguments or more.");
        }
        let Some(level) = spelled(args.get(0)) else {
            return raise(lua, "First argument must be a number (log level).");
        };
        if !(0.0..4.0).contains(&level) {
            return raise(lua, "Invalid debug level.");
        }
        let mut line = Vec::new();
        for (index, value) in args.args.iter().enumerate().skip(1) {
            let text = match value {
                Value::String(text) => text.as_bytes().to_vec(),
                value => match number_of(value) {
                    Some(n) => lua_text(n),
                    None => continue,
                },
            };
            if index > 1 {
                line.push(b' ');
            }
            if line.len() + text.len() > LOG_BYTES_MAX {
                return fault("the line for the log is too long");
            }
            line.extend_from_slice(&text);
        }
        self.host.log(level as u8, &line);
        nothing()
    }

    fn set_resp(&mut self, lua: &Lua, args: &Words) -> Result<MultiValue, Fault> {
        if args.len() != 1 {
            return raise(lua, "redis.setresp() requires one argument.");
        }
        self.resp = match spelled(args.get(0)).map(f64::trunc) {
            Some(2.0) => Resp::V2,
            Some(3.0) => Resp::V3,
            _ => return raise(lua, "RESP version must be 2 or 3."),
        };
        nothing()
    }

    fn acl_check_cmd(&mut self, lua: &Lua, args: &Words) -> Result<MultiValue, Fault> {
        if args.len() == 0 {
            return raise(
                lua,
                "Please specify at least one argument for this redis lib call",
            );
        }
        if self.take_words(args.all()).is_none() {
            return raise(
                lua,
                "Lua redis lib command arguments must be strings or integers",
            );
        }
        match self.host.may_call(Args::new(&self.buf, &self.words)) {
            Some(may) => one(Value::Boolean(may)),
            None => raise(lua, "Invalid command passed to redis.acl_check_cmd()"),
        }
    }
}

/// Bytes of a line that a script logs.
const LOG_BYTES_MAX: usize = 1 << 20;

/// What a script writes is recorded as effects, all or nothing: there is nothing to choose, but the choice is checked.
fn set_repl(lua: &Lua, args: &Words) -> Result<MultiValue, Fault> {
    if args.len() != 1 {
        return raise(lua, "redis.set_repl() requires one argument.");
    }
    match spelled(args.get(0)).unwrap_or(0.0) as i32 {
        0..=3 => nothing(),
        _ => raise(
            lua,
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
    }
}

/// A number as a word of a command: an integer without a point or exponent wherever that is exact.
fn argument_text(n: f64) -> Vec<u8> {
    let mut text = Vec::new();
    let max = (i64::MAX / 2) as f64;
    if n.trunc() == n && -max < n && n < max {
        text.extend_from_slice(itoa::Buffer::new().format(n as i64).as_bytes());
    } else {
        text.extend_from_slice(number::F64Text::new(n).as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::coded;

    #[test]
    fn an_error_has_a_code() {
        for (text, all) in [
            ("x", "ERR x"),
            ("MY x", "MY x"),
            ("MY x ", "MY x "),
            ("x ", "x "),
            ("MY x\r\n", "MY x"),
            ("\r\nx\n", "ERR x"),
            ("", "ERR "),
        ] {
            assert_eq!(coded(text.as_bytes()), all.as_bytes(), "{text:?}");
        }
    }
}
