//! `bit`: operations on 32-bit integers, which wrap.

use mlua::{Lua, MultiValue, Table, Value};

use super::{Fault, Words, function, spelled};

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for name in ["tobit", "bnot", "bswap", "tohex", "band", "bor", "bxor"] {
        table.raw_set(
            name,
            function(lua, move |lua, args| word(lua, name, &args))?,
        )?;
    }
    for name in ["lshift", "rshift", "arshift", "rol", "ror"] {
        table.raw_set(name, function(lua, move |_, args| shift(name, &args))?)?;
    }
    Ok(table)
}

/// The low 32 bits of a number, rounded to even.
fn bits(args: &Words, index: usize, name: &str) -> Result<u32, Fault> {
    match spelled(args.get(index)) {
        // The sum's mantissa holds the integer.
        Some(n) => Ok((n + 6_755_399_441_055_744.0).to_bits() as u32),
        None => args.number(index, name).map(|n| n as u32),
    }
}

fn signed(bits: u32) -> Result<MultiValue, Fault> {
    let number = Value::Number(f64::from(bits.cast_signed()));
    Ok(MultiValue::from_iter([number]))
}

fn word(lua: &Lua, name: &str, args: &Words) -> Result<MultiValue, Fault> {
    let first = bits(args, 0, name)?;
    let fold = |op: fn(u32, u32) -> u32| {
        (1..args.len()).try_fold(first, |all, index| {
            Ok::<u32, Fault>(op(all, bits(args, index, name)?))
        })
    };
    match name {
        "bnot" => signed(!first),
        "bswap" => signed(first.swap_bytes()),
        "band" => signed(fold(|a, b| a & b)?),
        "bor" => signed(fold(|a, b| a | b)?),
        "bxor" => signed(fold(|a, b| a ^ b)?),
        "tohex" => {
            let digits = match args.len() {
                0 | 1 => 8,
                _ => bits(args, 1, name)?.cast_signed(),
            };
            let text = if digits < 0 {
                format!("{first:08X}")
            } else {
                format!("{first:08x}")
            };
            let shown = digits.unsigned_abs().min(8) as usize;
            let text = lua.create_string(&text[8 - shown..])?;
            Ok(MultiValue::from_iter([Value::String(text)]))
        }
        _ => signed(first),
    }
}

fn shift(name: &str, args: &Words) -> Result<MultiValue, Fault> {
    let (bits, by) = (bits(args, 0, name)?, bits(args, 1, name)? & 31);
    signed(match name {
        "lshift" => bits << by,
        "rshift" => bits >> by,
        "arshift" => (bits.cast_signed() >> by).cast_unsigned(),
        "rol" => bits.rotate_left(by),
        _ => bits.rotate_right(by),
    })
}
