//! The libraries that Redis bundles with Lua, as it bundles them: `cjson`, `cmsgpack`, `struct`, `bit`.

mod bits;
mod json;
mod json_read;
mod msgpack;
mod number;
mod structs;

use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use crate::guard::{UNWATCHED_BYTES_MAX, guarded};
use crate::reply::integer;
use crate::sandbox::Shared;
pub(crate) use number::write_general;

/// Bytes of a string that a library makes, or a script returns, at most: a small table can name a large string many times.
pub(crate) const MADE_BYTES_MAX: usize = 512 << 20;
/// The first number above those of 64 bits.
pub(crate) const TWO_TO_63: f64 = (1u64 << 63) as f64;
/// Tables inside of tables that are followed in replies and by libraries that have no limit of their own.
pub(crate) const DEPTH_MAX: usize = 1000;

/// Why a function of a library gives no result.
pub(crate) enum Fault {
    /// An error of the script: the position of its line is put before the text.
    Text(String),
    /// An error that is raised as it is.
    Value(Value),
    /// Lua itself failed: out of memory, or the script is being stopped.
    Lua(mlua::Error),
}

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Self {
        Fault::Lua(error)
    }
}

pub(crate) fn fault<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Text(text.into()))
}

/// What a closure answers to [`guarded`].
pub(crate) fn answer(
    lua: &Lua,
    result: Result<MultiValue, Fault>,
) -> Result<MultiValue, mlua::Error> {
    let failed = |error| MultiValue::from_iter([Value::Boolean(false), error]);
    match result {
        Ok(mut values) => {
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        Err(Fault::Text(text)) => Ok(failed(Value::String(lua.create_string(text)?))),
        Err(Fault::Value(value)) => Ok(failed(value)),
        Err(Fault::Lua(error)) => Err(error),
    }
}

/// A function for scripts. Before one that may take long the watchdog is asked.
pub(crate) fn function(
    lua: &Lua,
    run: impl Fn(&Lua, Words) -> Result<MultiValue, Fault> + 'static,
) -> mlua::Result<Function> {
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let takes_long = |value: &Value| match value {
            Value::String(text) => text.as_bytes().len() > UNWATCHED_BYTES_MAX,
            value => value.is_table(),
        };
        if args.iter().any(takes_long)
            && let Some(shared) = lua.app_data_ref::<Rc<Shared>>()
        {
            shared.look(lua)?;
        }
        let result = run(lua, Words { args });
        answer(lua, result)
    })?;
    guarded(lua, inner)
}

/// The arguments of a call.
pub(crate) struct Words {
    pub(crate) args: MultiValue,
}

impl Words {
    /// All of them, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = mlua::Result<Value>> {
        self.args.iter().cloned().map(Ok)
    }

    /// As `all`, and they are given away.
    pub(crate) fn into_all(self) -> impl ExactSizeIterator<Item = mlua::Result<Value>> {
        self.args.into_vec().into_iter().map(Ok)
    }

    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    pub(crate) fn get(&self, index: usize) -> &Value {
        self.args.get(index).unwrap_or(&Value::Nil)
    }

    /// Argument `index` (from 0) of function `name` as bytes, numbers as Lua writes them.
    pub(crate) fn bytes(&self, index: usize, name: &str) -> Result<Vec<u8>, Fault> {
        match self.get(index) {
            Value::String(text) => Ok(text.as_bytes().to_vec()),
            value => match number_of(value) {
                Some(number) => {
                    let mut text = Vec::new();
                    write_general(number, 14, &mut text);
                    Ok(text)
                }
                None => self.wrong(index, name, "string"),
            },
        }
    }

    /// Argument `index` as a number; a text that spells one will do.
    pub(crate) fn number(&self, index: usize, name: &str) -> Result<f64, Fault> {
        match spelled(self.get(index)) {
            Some(number) => Ok(number),
            None => self.wrong(index, name, "number"),
        }
    }

    /// Argument `index` as an integer, or `default` without it.
    pub(crate) fn integer_or(&self, index: usize, name: &str, default: i64) -> Result<i64, Fault> {
        match self.get(index) {
            Value::Nil => Ok(default),
            _ => Ok(integer(self.number(index, name)?)),
        }
    }

    fn wrong<T>(&self, index: usize, name: &str, expected: &str) -> Result<T, Fault> {
        let got = match self.args.get(index) {
            None => "no value",
            Some(value) => type_name(value),
        };
        argument_fault(index, name, &format!("{expected} expected, got {got}"))
    }
}

/// The error for an argument (from 0).
pub(crate) fn argument_fault<T>(index: usize, name: &str, text: &str) -> Result<T, Fault> {
    fault(format!("bad argument #{} to '{name}' ({text})", index + 1))
}

/// A value's type as Lua names it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "boolean",
        Value::Integer(_) | Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Table(_) => "table",
        Value::Function(_) => "function",
        Value::Thread(_) => "thread",
        _ => "userdata",
    }
}

/// A number; Lua 5.1 knows one kind only.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(n) => Some(*n as f64),
        Value::Number(n) => Some(*n),
        _ => None,
    }
}

/// A number, or the number that a text spells.
pub(crate) fn spelled(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes();
            let text = core::str::from_utf8(&bytes).ok()?.trim();
            let digits = text.trim_start_matches(['+', '-']);
            if let Some(hex) = digits
                .strip_prefix("0x")
                .or_else(|| digits.strip_prefix("0X"))
            {
                let n = u64::from_str_radix(hex, 16).ok()? as f64;
                return Some(if text.starts_with('-') { -n } else { n });
            }
            text.parse().ok()
        }
        value => number_of(value),
    }
}

/// All libraries by their names, not yet protected.
pub(crate) fn all(lua: &Lua) -> mlua::Result<[(&'static str, Table); 4]> {
    Ok([
        ("cjson", json::library(lua)?),
        ("cmsgpack", msgpack::library(lua)?),
        ("struct", structs::library(lua)?),
        ("bit", bits::library(lua)?),
    ])
}
