//! `cmsgpack`: MessagePack.

use mlua::{Lua, MultiValue, Table, Value};

use super::{DEPTH_MAX, Fault, MADE_BYTES_MAX, TWO_TO_63, Words, fault, function, number_of};
use crate::reply::integer;

/// Tables inside of tables that are packed; what is deeper becomes nil.
const NESTING_MAX: usize = 16;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", function(lua, pack)?)?;
    table.raw_set(
        "unpack",
        function(lua, |lua, args| unpack(lua, &args, 0, 0))?,
    )?;
    let one = |lua: &Lua, args: Words| {
        let offset = args.integer_or(1, "unpack_one", 0)?;
        unpack(lua, &args, 1, offset)
    };
    table.raw_set("unpack_one", function(lua, one)?)?;
    let limit = |lua: &Lua, args: Words| {
        let limit = integer(args.number(1, "unpack_limit")?);
        let offset = args.integer_or(2, "unpack_limit", 0)?;
        unpack(lua, &args, limit, offset)
    };
    table.raw_set("unpack_limit", function(lua, limit)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    table.raw_set("_COPYRIGHT", "Copyright (C) 2012, Redis Ltd.")?;
    table.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(table)
}

fn pack(lua: &Lua, args: Words) -> Result<MultiValue, Fault> {
    if args.len() == 0 {
        return fault("bad argument #0 to 'pack' (MessagePack pack needs input.)");
    }
    let mut out = Vec::new();
    for value in args.args.iter() {
        write(value, 0, &mut out)?;
    }
    Ok(MultiValue::from_iter([Value::String(
        lua.create_string(out)?,
    )]))
}

fn write(value: &Value, level: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if out.len() > MADE_BYTES_MAX {
        return fault("resulting string too large");
    }
    match value {
        Value::String(text) => write_bytes(&text.as_bytes(), out),
        Value::Boolean(b) => {
            out.push(if *b { 0xc3 } else { 0xc2 });
            Ok(())
        }
        Value::Table(table) if level < NESTING_MAX => write_table(table, level, out),
        value => {
            match number_of(value) {
                Some(n) => write_number(n, out),
                None => out.push(0xc0),
            }
            Ok(())
        }
    }
}

/// A mark for what is short, else one of the marks by how many bytes the length takes.
fn write_len(len: usize, (short, marks): ((usize, u8), [u8; 3]), out: &mut Vec<u8>) {
    let (short_max, short_mark) = short;
    match len {
        _ if len <= short_max => out.push(short_mark | len as u8),
        0..=0xff if marks[0] != 0 => out.extend([marks[0], len as u8]),
        0..=0xffff => {
            out.push(marks[1]);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(marks[2]);
            out.extend((len as u32).to_be_bytes());
        }
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if out.len() + bytes.len() > MADE_BYTES_MAX {
        return fault("resulting string too large");
    }
    write_len(bytes.len(), ((31, 0xa0), [0xd9, 0xda, 0xdb]), out);
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_number(n: f64, out: &mut Vec<u8>) {
    let is_integer = n.trunc() == n && (-TWO_TO_63..TWO_TO_63).contains(&n);
    if is_integer {
        return write_integer(n as i64, out);
    }
    let single = n as f32;
    if f64::from(single) == n {
        out.push(0xca);
        out.extend(single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend(n.to_be_bytes());
    }
}

fn write_integer(n: i64, out: &mut Vec<u8>) {
    match n {
        -32..=127 => out.push(n as u8),
        128..=0xff => out.extend([0xcc, n as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend((n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend((n as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend(n.to_be_bytes());
        }
        -128..-32 => out.extend([0xd0, n as u8]),
        -32768..-128 => {
            out.push(0xd1);
            out.extend((n as i16).to_be_bytes());
        }
        -2_147_483_648..-32768 => {
            out.push(0xd2);
            out.extend((n as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend(n.to_be_bytes());
        }
    }
}

fn write_table(table: &Table, level: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (mut count, mut max, mut is_array) = (0usize, 0.0, true);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        count += 1;
        match number_of(&key) {
            Some(n) if n > 0.0 && n.trunc() == n => max = f64::max(max, n),
            _ => is_array = false,
        }
    }
    if is_array && max == count as f64 {
        write_len(count, ((15, 0x90), [0, 0xdc, 0xdd]), out);
        for index in 1..=count {
            write(&table.raw_get::<Value>(index)?, level + 1, out)?;
        }
        return Ok(());
    }
    write_len(count, ((15, 0x80), [0, 0xde, 0xdf]), out);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        write(&key, level + 1, out)?;
        write(&value, level + 1, out)?;
    }
    Ok(())
}

/// Unpacks up to `limit` values from `offset` on; all when both are 0. Else the next offset comes before them.
fn unpack(lua: &Lua, args: &Words, limit: i64, offset: i64) -> Result<MultiValue, Fault> {
    let bytes = args.bytes(0, "unpack")?;
    if offset < 0 || limit < 0 {
        return fault(format!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            // (As Lua shows an integer.)
            offset as i32,
            bytes.len() as i32
        ));
    }
    let Some(rest) = bytes.get(offset as usize..) else {
        return fault(format!(
            "Start offset {offset} greater than input length {}.",
            bytes.len()
        ));
    };
    let all = limit == 0 && offset == 0;
    let mut input = Input { rest, depth: 0 };
    let mut values = Vec::new();
    while !input.rest.is_empty() && (all || (values.len() as i64) < limit) {
        if values.len() >= crate::sandbox::RESULTS_MAX {
            return fault(
                "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)",
            );
        }
        values.push(input.value(lua)?);
    }
    let next = match input.rest.len() {
        0 => -1.0,
        left => (bytes.len() - left) as f64,
    };
    let mut values = MultiValue::from_iter(values);
    if !all {
        values.push_front(Value::Number(next));
    }
    Ok(values)
}

struct Input<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => fault("Missing bytes in input."),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N)?);
        Ok(word)
    }

    fn len(&mut self, bytes: usize) -> Result<usize, Fault> {
        let bytes = self.take(bytes)?;
        Ok(bytes
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte)))
    }

    fn value(&mut self, lua: &Lua) -> Result<Value, Fault> {
        let [mark] = self.fixed()?;
        let number = match mark {
            0x00..=0x7f => f64::from(mark),
            0xe0..=0xff => f64::from(mark.cast_signed()),
            0xcc => f64::from(u8::from_be_bytes(self.fixed()?)),
            0xcd => f64::from(u16::from_be_bytes(self.fixed()?)),
            0xce => f64::from(u32::from_be_bytes(self.fixed()?)),
            0xcf => u64::from_be_bytes(self.fixed()?).cast_signed() as f64,
            0xd0 => f64::from(i8::from_be_bytes(self.fixed()?)),
            0xd1 => f64::from(i16::from_be_bytes(self.fixed()?)),
            0xd2 => f64::from(i32::from_be_bytes(self.fixed()?)),
            0xd3 => i64::from_be_bytes(self.fixed()?) as f64,
            0xca => f64::from(f32::from_be_bytes(self.fixed()?)),
            0xcb => f64::from_be_bytes(self.fixed()?),
            _ => return self.other(mark, lua),
        };
        Ok(Value::Number(number))
    }

    fn other(&mut self, mark: u8, lua: &Lua) -> Result<Value, Fault> {
        let len = match mark {
            0xc0 => return Ok(Value::Nil),
            0xc2 | 0xc3 => return Ok(Value::Boolean(mark == 0xc3)),
            0xa0..=0xbf => usize::from(mark & 0x1f),
            0x80..=0x9f => usize::from(mark & 0x0f),
            0xd9 => self.len(1)?,
            0xda | 0xdc | 0xde => self.len(2)?,
            0xdb | 0xdd | 0xdf => self.len(4)?,
            _ => return fault("Bad data format in input."),
        };
        if matches!(mark, 0xa0..=0xbf | 0xd9..=0xdb) {
            return Ok(Value::String(lua.create_string(self.take(len)?)?));
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return fault("stack overflow (in function mp_decode_to_lua_array)");
        }
        let table = lua.create_table()?;
        for index in 1..=len {
            if matches!(mark, 0x90..=0x9f | 0xdc | 0xdd) {
                let value = self.value(lua)?;
                table.raw_set(index, value)?;
                continue;
            }
            let (key, value) = (self.value(lua)?, self.value(lua)?);
            match key {
                Value::Nil => return fault("table index is nil"),
                Value::Number(n) if n.is_nan() => return fault("table index is NaN"),
                key => table.raw_set(key, value)?,
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }
}
