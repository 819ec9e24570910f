//! `cjson`: JSON, with the settings of the library. Reading is in `json_read.rs`.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};

use super::json_read;
use super::{
    Fault, MADE_BYTES_MAX, Words, argument_fault, fault, function, number_of, type_name,
    write_general,
};

/// Tables inside of tables that any setting allows: what Lua's own stack would hold.
pub(super) const NESTING_MAX: i64 = 2600;

/// What scripts can set.
#[derive(Clone)]
pub(super) struct Settings {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_max_depth: i64,
    pub(super) decode_max_depth: i64,
    precision: i64,
    keep_buffer: bool,
    encode_invalid: Invalid,
    pub(super) decode_invalid: bool,
}

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Off,
    On,
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_max_depth: 1000,
            decode_max_depth: 1000,
            precision: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Off,
            decode_invalid: true,
        }
    }
}

type Shared = Rc<RefCell<Settings>>;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let settings = Shared::default();
    let shared = Rc::clone(&settings);
    let encode = move |lua: &Lua, args: Words| encode(lua, &args, &shared.borrow());
    table.raw_set("encode", function(lua, encode)?)?;
    let shared = Rc::clone(&settings);
    let decode = move |lua: &Lua, args: Words| decode(lua, &args, &shared.borrow());
    table.raw_set("decode", function(lua, decode)?)?;
    for name in [
        "encode_sparse_array",
        "encode_max_depth",
        "decode_max_depth",
        "encode_number_precision",
        "encode_keep_buffer",
        "encode_invalid_numbers",
        "decode_invalid_numbers",
    ] {
        let shared = Rc::clone(&settings);
        let set = move |lua: &Lua, args: Words| set(lua, name, &args, &mut shared.borrow_mut());
        table.raw_set(name, function(lua, set)?)?;
    }
    let new = |lua: &Lua, _: Words| Ok(MultiValue::from_iter([Value::Table(library(lua)?)]));
    table.raw_set("new", function(lua, new)?)?;
    table.raw_set("null", Value::NULL)?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

fn set(lua: &Lua, name: &str, args: &Words, settings: &mut Settings) -> Result<MultiValue, Fault> {
    let most = if name == "encode_sparse_array" { 3 } else { 1 };
    if args.len() > most {
        return argument_fault(most, name, "found too many arguments");
    }
    let one = |value| Ok(MultiValue::from_iter([value]));
    let int = |value: i64| Value::Number(value as f64);
    let max = i64::from(i32::MAX);
    match name {
        "encode_sparse_array" => {
            settings.sparse_convert = flag(args, name, settings.sparse_convert)?;
            settings.sparse_ratio = integer(args, 1, name, settings.sparse_ratio, (0, max))?;
            settings.sparse_safe = integer(args, 2, name, settings.sparse_safe, (0, max))?;
            Ok(MultiValue::from_iter([
                Value::Boolean(settings.sparse_convert),
                int(settings.sparse_ratio),
                int(settings.sparse_safe),
            ]))
        }
        "encode_max_depth" => {
            settings.encode_max_depth =
                integer(args, 0, name, settings.encode_max_depth, (1, max))?;
            one(int(settings.encode_max_depth))
        }
        "decode_max_depth" => {
            settings.decode_max_depth =
                integer(args, 0, name, settings.decode_max_depth, (1, max))?;
            one(int(settings.decode_max_depth))
        }
        "encode_number_precision" => {
            settings.precision = integer(args, 0, name, settings.precision, (1, 14))?;
            one(int(settings.precision))
        }
        "encode_keep_buffer" => {
            settings.keep_buffer = flag(args, name, settings.keep_buffer)?;
            one(Value::Boolean(settings.keep_buffer))
        }
        "decode_invalid_numbers" => {
            settings.decode_invalid = flag(args, name, settings.decode_invalid)?;
            one(Value::Boolean(settings.decode_invalid))
        }
        _ => {
            settings.encode_invalid = match args.get(0) {
                Value::Nil => settings.encode_invalid,
                Value::String(text) if *text.as_bytes() == *b"null" => Invalid::Null,
                _ if flag(args, name, false)? => Invalid::On,
                _ => Invalid::Off,
            };
            one(match settings.encode_invalid {
                Invalid::Null => Value::String(lua.create_string("null")?),
                other => Value::Boolean(other == Invalid::On),
            })
        }
    }
}

/// The first argument as `true`, `false`, "on" or "off"; `old` without it.
fn flag(args: &Words, name: &str, old: bool) -> Result<bool, Fault> {
    match args.get(0) {
        Value::Nil => Ok(old),
        Value::Boolean(on) => Ok(*on),
        _ => match args.bytes(0, name)?.as_slice() {
            b"on" => Ok(true),
            b"off" => Ok(false),
            other => {
                let text = format!("invalid option '{}'", String::from_utf8_lossy(other));
                argument_fault(0, name, &text)
            }
        },
    }
}

fn integer(
    args: &Words,
    index: usize,
    name: &str,
    old: i64,
    (min, max): (i64, i64),
) -> Result<i64, Fault> {
    let value = args.integer_or(index, name, old)?;
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    let text = format!("expected integer between {min} and {max}");
    argument_fault(0, name, &text)
}

fn encode(lua: &Lua, args: &Words, settings: &Settings) -> Result<MultiValue, Fault> {
    if args.len() != 1 {
        return argument_fault(0, "encode", "expected 1 argument");
    }
    let mut out = Vec::new();
    write(args.get(0), 0, settings, &mut out)?;
    let text = lua.create_string(out)?;
    Ok(MultiValue::from_iter([Value::String(text)]))
}

fn decode(lua: &Lua, args: &Words, settings: &Settings) -> Result<MultiValue, Fault> {
    if args.len() != 1 {
        return argument_fault(0, "decode", "expected 1 argument");
    }
    let value = json_read::read(lua, &args.bytes(0, "decode")?, settings)?;
    Ok(MultiValue::from_iter([value]))
}

fn write(value: &Value, depth: i64, settings: &Settings, out: &mut Vec<u8>) -> Result<(), Fault> {
    if out.len() > MADE_BYTES_MAX {
        return fault("resulting string too large");
    }
    match value {
        Value::String(text) => write_string(&text.as_bytes(), out),
        Value::Integer(_) | Value::Number(_) => write_number(value, settings, out),
        Value::Boolean(true) => {
            out.extend_from_slice(b"true");
            Ok(())
        }
        Value::Boolean(false) => {
            out.extend_from_slice(b"false");
            Ok(())
        }
        Value::Table(table) => write_table(table, depth + 1, settings, out),
        value if value.is_nil() || value.is_null() => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        other => refuse(other, "type not supported"),
    }
}

fn refuse<T>(value: &Value, reason: &str) -> Result<T, Fault> {
    fault(format!("Cannot serialise {}: {reason}", type_name(value)))
}

fn write_number(value: &Value, settings: &Settings, out: &mut Vec<u8>) -> Result<(), Fault> {
    let n = number_of(value).unwrap_or_default();
    match settings.encode_invalid {
        _ if n.is_finite() => {}
        Invalid::Off => return refuse(value, "must not be NaN or Inf"),
        Invalid::On if n.is_nan() => {
            out.extend_from_slice(b"nan");
            return Ok(());
        }
        Invalid::On => {}
        Invalid::Null => {
            out.extend_from_slice(b"null");
            return Ok(());
        }
    }
    write_general(n, settings.precision as usize, out);
    Ok(())
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if out.len() + bytes.len() > MADE_BYTES_MAX {
        return fault("resulting string too large");
    }
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | b'/' => out.extend([b'\\', byte]),
            0x08 => out.extend(b"\\b"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            0x0c => out.extend(b"\\f"),
            b'\r' => out.extend(b"\\r"),
            0..0x20 | 0x7f => out.extend(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    Ok(())
}

fn write_table(
    table: &Table,
    depth: i64,
    settings: &Settings,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if depth > settings.encode_max_depth.min(NESTING_MAX) {
        return fault(format!("Cannot serialise, excessive nesting ({depth})"));
    }
    match array_len(table, settings)? {
        Some(len) if len > 0 => {
            out.push(b'[');
            for index in 1..=len {
                if index > 1 {
                    out.push(b',');
                }
                write(&table.raw_get::<Value>(index)?, depth, settings, out)?;
            }
            out.push(b']');
        }
        _ => {
            out.push(b'{');
            let mut comma = false;
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair?;
                if core::mem::replace(&mut comma, true) {
                    out.push(b',');
                }
                match &key {
                    Value::String(text) => write_string(&text.as_bytes(), out)?,
                    Value::Integer(_) | Value::Number(_) => {
                        out.push(b'"');
                        write_number(&key, settings, out)?;
                        out.push(b'"');
                    }
                    other => return refuse(other, "table key must be a number or string"),
                }
                out.push(b':');
                write(&value, depth, settings, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// The length of a table that has only positive integers as keys, and not too few of them.
fn array_len(table: &Table, settings: &Settings) -> Result<Option<i64>, Fault> {
    let (mut max, mut items) = (0i64, 0i64);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        match number_of(&key) {
            Some(n) if n.floor() == n && n >= 1.0 => {
                max = max.max(n as i64);
                items += 1;
            }
            _ => return Ok(None),
        }
    }
    let is_sparse = settings.sparse_ratio > 0
        && max > items.saturating_mul(settings.sparse_ratio)
        && max > settings.sparse_safe;
    if !is_sparse {
        return Ok(Some(max));
    }
    if settings.sparse_convert {
        return Ok(None);
    }
    refuse(&Value::Table(table.clone()), "excessively sparse array")
}
