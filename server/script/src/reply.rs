//! Values of Lua to replies and back.
//!
//! ```text
//! reply       Lua                                    Lua             reply
//! :1          1                                      1.9             :1
//! $1 a        "a"                                    "a"             $1 a
//! *2          {x, y}                                 {x, y, nil, z}  *2
//! +OK         {ok = "OK"}    -ERR x {err = "ERR x"}  the same        +OK, -ERR x
//! $-1 *-1     false          _      nil              nil, false      $-1, or _
//! %1 ~1       {map = {k = v}} {set = {m = true}}     the same        %1, ~1 (RESP2: arrays)
//! ,1.5 (123   {double = 1.5} {big_number = "123"}    the same        ,1.5 (123 (RESP2: strings)
//! #t          true                                   true            :1, after setresp(3) #t
//! ```

use mlua::{Lua, Table, Value};
use protocol::{Refusal, Reply, Resp, number};

use crate::bundled::{DEPTH_MAX, MADE_BYTES_MAX, TWO_TO_63, number_of};

/// Reads one reply at the front of `bytes`, which the server has written itself.
pub(crate) fn read(lua: &Lua, bytes: &[u8]) -> mlua::Result<Value> {
    Reader { lua, rest: bytes }.value()
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n");
        let end = end.unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 2..).unwrap_or_default();
        line
    }

    /// The bytes of a string, whose length is known.
    fn body(&mut self, len: usize) -> &'a [u8] {
        let body = self.rest.get(..len).unwrap_or_default();
        self.rest = self.rest.get(len + 2..).unwrap_or_default();
        body
    }

    fn string(&self, bytes: &[u8]) -> mlua::Result<Value> {
        Ok(Value::String(self.lua.create_string(bytes)?))
    }

    fn field(&self, name: &str, value: Value) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    }

    fn value(&mut self) -> mlua::Result<Value> {
        let line = self.line();
        let Some((mark, line)) = line.split_first() else {
            return Ok(Value::Nil);
        };
        let count = || number::parse_i64(line).and_then(|n| usize::try_from(n).ok());
        match mark {
            b'+' => self.field("ok", self.string(line)?),
            b'-' => self.field("err", self.string(line)?),
            b':' => Ok(Value::Number(number::parse_i64(line).unwrap_or(0) as f64)),
            b'$' => match count() {
                None => Ok(Value::Boolean(false)),
                Some(len) => {
                    let body = self.body(len);
                    self.string(body)
                }
            },
            b'*' | b'>' => match count() {
                None => Ok(Value::Boolean(false)),
                Some(len) => self.array(len),
            },
            b'%' => {
                let map = self.lua.create_table()?;
                for _ in 0..count().unwrap_or(0) {
                    let (key, value) = (self.value()?, self.value()?);
                    set(&map, key, value)?;
                }
                self.field("map", Value::Table(map))
            }
            b'|' => {
                // Attributes are about the reply behind them, and not shown to scripts.
                for _ in 0..count().unwrap_or(0) * 2 {
                    self.value()?;
                }
                self.value()
            }
            b'~' => {
                let members = self.lua.create_table()?;
                for _ in 0..count().unwrap_or(0) {
                    let member = self.value()?;
                    set(&members, member, Value::Boolean(true))?;
                }
                self.field("set", Value::Table(members))
            }
            b',' => {
                let double = number::parse_f64(line).unwrap_or(f64::NAN);
                self.field("double", Value::Number(double))
            }
            b'#' => Ok(Value::Boolean(line == b"t")),
            b'(' => self.field("big_number", self.string(line)?),
            b'=' => {
                let body = self.body(count().unwrap_or(0));
                let (format, text) = body.split_at_checked(4).unwrap_or((b"txt:", body));
                let table = self.lua.create_table_with_capacity(0, 2)?;
                table.raw_set("format", self.string(&format[..3])?)?;
                table.raw_set("string", self.string(text)?)?;
                self.field("verbatim_string", Value::Table(table))
            }
            _ => Ok(Value::Nil),
        }
    }

    fn array(&mut self, len: usize) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(len, 0)?;
        for index in 1..=len {
            let value = self.value()?;
            table.raw_set(index, value)?;
        }
        Ok(Value::Table(table))
    }
}

/// Sets a member of a table; what cannot be one is left out.
fn set(table: &Table, key: Value, value: Value) -> mlua::Result<()> {
    match key {
        Value::Nil => Ok(()),
        key => table.raw_set(key, value),
    }
}

/// A reply was not written to its end.
pub(crate) enum Unwritten {
    /// It would be too large.
    TooLarge,
    /// Lua failed.
    Lua,
}

impl From<mlua::Error> for Unwritten {
    fn from(_: mlua::Error) -> Self {
        Unwritten::Lua
    }
}

/// Writes what a script has returned. `script`: the version that it has chosen with `redis.setresp`.
pub(crate) fn write(
    value: &Value,
    script: Resp,
    reply: &mut Reply<'_>,
    depth: usize,
) -> Result<(), Unwritten> {
    if depth > DEPTH_MAX {
        reply.error(&Refusal::Text("ERR reached lua stack limit"));
        return Ok(());
    }
    if reply.mark() > MADE_BYTES_MAX {
        return Err(Unwritten::TooLarge);
    }
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes();
            if reply.mark() + bytes.len() > MADE_BYTES_MAX {
                return Err(Unwritten::TooLarge);
            }
            reply.bulk(&bytes);
        }
        Value::Boolean(b) => match (script, b) {
            // (To a client of RESP2 that is 1 or 0.)
            (Resp::V3, b) => reply.bool(*b),
            (Resp::V2, true) => reply.int(1),
            (Resp::V2, false) => reply.null(),
        },
        Value::Table(table) => write_table(table, script, reply, depth)?,
        value => match number_of(value) {
            Some(n) => reply.int(integer(n)),
            None => reply.null(),
        },
    }
    Ok(())
}

/// The integer of a number, as the hardware converts it.
pub(crate) fn integer(n: f64) -> i64 {
    if (-TWO_TO_63..TWO_TO_63).contains(&n) {
        n as i64
    } else {
        i64::MIN
    }
}

fn write_table(
    table: &Table,
    script: Resp,
    reply: &mut Reply<'_>,
    depth: usize,
) -> Result<(), Unwritten> {
    let field = |name: &str| table.raw_get::<Value>(name);
    if let Some(text) = text_of(&field("err")?) {
        write_line(b'-', error_line(&text), reply);
        return Ok(());
    }
    if let Some(text) = text_of(&field("ok")?) {
        write_line(b'+', until_zero(&text), reply);
        return Ok(());
    }
    if let Some(n) = number_of(&field("double")?) {
        reply.double(n);
        return Ok(());
    }
    if let Some(digits) = text_of(&field("big_number")?) {
        match reply.resp() {
            Resp::V2 => reply.bulk(&digits.iter().map(blank).collect::<Vec<u8>>()),
            Resp::V3 => write_line(b'(', &digits, reply),
        }
        return Ok(());
    }
    if let Value::Table(verbatim) = field("verbatim_string")?
        && let Some(format) = text_of(&verbatim.raw_get("format")?)
        && let Some(text) = text_of(&verbatim.raw_get("string")?)
    {
        let mut three = [b' '; 3];
        let shown = format.len().min(3);
        three[..shown].copy_from_slice(&format[..shown]);
        reply.verbatim(core::str::from_utf8(&three).unwrap_or("txt"), &text);
        return Ok(());
    }
    if let Value::Table(map) = field("map")? {
        let header = reply.later();
        let mut pairs = 0;
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            write(&key, script, reply, depth + 1)?;
            write(&value, script, reply, depth + 1)?;
            pairs += 1;
        }
        reply.map_at(header, pairs);
        return Ok(());
    }
    if let Value::Table(set) = field("set")? {
        let header = reply.later();
        let mut members = 0;
        for pair in set.pairs::<Value, Value>() {
            write(&pair?.0, script, reply, depth + 1)?;
            members += 1;
        }
        reply.set_at(header, members);
        return Ok(());
    }
    let header = reply.later();
    let mut members = 0;
    loop {
        let value = table.raw_get::<Value>(members + 1)?;
        if value.is_nil() {
            break;
        }
        write(&value, script, reply, depth + 1)?;
        members += 1;
    }
    reply.array_at(header, members);
    Ok(())
}

fn text_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

fn blank(byte: &u8) -> u8 {
    match byte {
        b'\r' | b'\n' => b' ',
        other => *other,
    }
}

/// A line ends at a zero byte, as a C string does.
fn until_zero(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The line of an error that a script returns: as in Redis breaks at its end are left out.
pub(crate) fn error_line(text: &[u8]) -> &[u8] {
    let line = until_zero(text);
    let breaks = line.iter().rev();
    let breaks = breaks.take_while(|byte| matches!(byte, b'\r' | b'\n'));
    &line[..line.len() - breaks.count()]
}

/// A line of a reply; breaks in the text become blanks.
pub(crate) fn write_line(mark: u8, text: &[u8], reply: &mut Reply<'_>) {
    reply.raw(&[mark]);
    reply.raw(&text.iter().map(blank).collect::<Vec<u8>>());
    reply.raw(b"\r\n");
}
