//! `struct`: numbers and strings packed into bytes, as C lays them out.

use mlua::{Lua, MultiValue, Table, Value};

use super::{Fault, MADE_BYTES_MAX, Words, argument_fault, fault, function, number_of};

/// Bytes of the longest integer.
const INTEGER_BYTES_MAX: usize = 32;
/// The largest alignment that `!` without a number asks for.
const ALIGN_MAX: usize = 8;

pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", function(lua, pack)?)?;
    table.raw_set("unpack", function(lua, unpack)?)?;
    table.raw_set("size", function(lua, size)?)?;
    Ok(table)
}

/// A format, and where in it and in the bytes we are.
struct Format {
    text: Vec<u8>,
    at: usize,
    big_endian: bool,
    align: usize,
}

/// One item of a format.
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    bytes: usize,
    padding: usize,
}

impl Format {
    fn new(args: &Words, name: &str) -> Result<Format, Fault> {
        let mut text = args.bytes(0, name)?;
        // A format ends at a zero byte.
        text.truncate(memchr_zero(&text).unwrap_or(text.len()));
        Ok(Format {
            text,
            at: 0,
            big_endian: false,
            align: 1,
        })
    }

    /// The next option that stands for bytes, `position` bytes behind the start.
    fn next(&mut self, position: usize, name: &str) -> Result<Option<Item>, Fault> {
        while let Some(&option) = self.text.get(self.at) {
            self.at += 1;
            let bytes = self.bytes_of(option)?;
            match option {
                b' ' => {}
                b'>' => self.big_endian = true,
                b'<' => self.big_endian = false,
                b'!' => {
                    let align = self.number(ALIGN_MAX)?;
                    if !align.is_power_of_two() {
                        return fault(format!("alignment {align} is not a power of 2"));
                    }
                    self.align = align;
                }
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' | b'x' | b'f'
                | b'd' | b'c' | b's' => {
                    let padding = self.padding(position, option, bytes);
                    return Ok(Some(Item {
                        option,
                        bytes,
                        padding,
                    }));
                }
                other => {
                    let text = format!("invalid format option '{}'", char::from(other));
                    return argument_fault(0, name, &text);
                }
            }
        }
        Ok(None)
    }

    fn bytes_of(&mut self, option: u8) -> Result<usize, Fault> {
        Ok(match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let bytes = self.number(4)?;
                if bytes > INTEGER_BYTES_MAX {
                    return fault(format!(
                        "integral size {bytes} is larger than limit of {INTEGER_BYTES_MAX}"
                    ));
                }
                bytes
            }
            _ => 0,
        })
    }

    /// The digits that follow, or `default` when there are none.
    fn number(&mut self, default: usize) -> Result<usize, Fault> {
        let mut number = None;
        while let Some(digit) = self.text.get(self.at).filter(|b| b.is_ascii_digit()) {
            let next = number.unwrap_or(0) * 10 + i64::from(digit - b'0');
            if next > i64::from(i32::MAX) {
                return fault("integral size overflow");
            }
            number = Some(next);
            self.at += 1;
        }
        Ok(number.map_or(default, |number| number as usize))
    }

    fn padding(&self, position: usize, option: u8, bytes: usize) -> usize {
        if bytes == 0 || option == b'c' {
            return 0;
        }
        let align = bytes.min(self.align);
        align.wrapping_sub(position & align.wrapping_sub(1)) & align.wrapping_sub(1)
    }
}

fn memchr_zero(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

fn pack(lua: &Lua, mut args: Words) -> Result<MultiValue, Fault> {
    const NAME: &str = "pack";
    // What is missing first is nil here.
    args.args.push_back(Value::Nil);
    let mut format = Format::new(&args, NAME)?;
    let mut out = Vec::new();
    let mut arg = 1;
    while let Some(item) = format.next(out.len(), NAME)? {
        if out.len() + item.padding + item.bytes > MADE_BYTES_MAX {
            return fault("resulting string too large");
        }
        out.resize(out.len() + item.padding, 0);
        match item.option {
            b'x' => {
                out.push(0);
                continue;
            }
            b'f' => {
                let bytes = (args.number(arg, NAME)? as f32).to_le_bytes();
                ordered(&bytes, format.big_endian, &mut out);
            }
            b'd' => {
                let bytes = args.number(arg, NAME)?.to_le_bytes();
                ordered(&bytes, format.big_endian, &mut out);
            }
            b'c' | b's' => {
                let text = args.bytes(arg, NAME)?;
                let bytes = if item.bytes == 0 {
                    text.len()
                } else {
                    item.bytes
                };
                let Some(text) = text.get(..bytes) else {
                    return argument_fault(arg + 1, NAME, "string too short");
                };
                if out.len() + bytes > MADE_BYTES_MAX {
                    return fault("resulting string too large");
                }
                out.extend_from_slice(text);
                if item.option == b's' {
                    out.push(0);
                }
            }
            _ => {
                let value = integer_bits(args.number(arg, NAME)?);
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                ordered(&bytes[..item.bytes], format.big_endian, &mut out);
            }
        }
        arg += 1;
    }
    Ok(MultiValue::from_iter([Value::String(
        lua.create_string(out)?,
    )]))
}

/// The 64 bits of a number: of a negative one those of the signed integer.
fn integer_bits(n: f64) -> u64 {
    if n < 0.0 {
        (n as i64).cast_unsigned()
    } else {
        n as u64
    }
}

fn ordered(little: &[u8], big_endian: bool, out: &mut Vec<u8>) {
    if big_endian {
        out.extend(little.iter().rev());
    } else {
        out.extend_from_slice(little);
    }
}

fn unpack(lua: &Lua, args: Words) -> Result<MultiValue, Fault> {
    const NAME: &str = "unpack";
    let mut format = Format::new(&args, NAME)?;
    let data = args.bytes(1, NAME)?;
    let start = args.integer_or(2, NAME, 1)?;
    if start <= 0 {
        return argument_fault(2, NAME, "offset must be 1 or greater");
    }
    let mut position = start as usize - 1;
    let mut values: Vec<Value> = Vec::new();
    while let Some(mut item) = format.next(position, NAME)? {
        position += item.padding;
        let take = |position: usize, bytes: usize| match data
            .get(position..)
            .and_then(|rest| rest.get(..bytes))
        {
            Some(taken) => Ok(taken),
            None => argument_fault(1, NAME, "data string too short"),
        };
        let bytes = take(position, item.bytes)?;
        match item.option {
            b'x' => {}
            b'f' => {
                let word = fixed::<4>(bytes, format.big_endian);
                values.push(Value::Number(f64::from(f32::from_le_bytes(word))));
            }
            b'd' => {
                let word = fixed::<8>(bytes, format.big_endian);
                values.push(Value::Number(f64::from_le_bytes(word)));
            }
            b'c' => {
                if item.bytes == 0 {
                    let Some(before) = values.last().and_then(number_of) else {
                        return fault("format 'c0' needs a previous size");
                    };
                    values.pop();
                    item.bytes = before as usize;
                }
                let text = take(position, item.bytes)?;
                values.push(Value::String(lua.create_string(text)?));
            }
            b's' => {
                let rest = data.get(position..).unwrap_or_default();
                let Some(len) = memchr_zero(rest) else {
                    return fault("unfinished string in data");
                };
                values.push(Value::String(lua.create_string(&rest[..len])?));
                item.bytes = len + 1;
            }
            option => {
                let signed = option.is_ascii_lowercase();
                values.push(Value::Number(integer(bytes, format.big_endian, signed)));
            }
        }
        position += item.bytes;
        if values.len() > super::super::sandbox::RESULTS_MAX {
            return fault("stack overflow (too many results)");
        }
    }
    values.push(Value::Number((position + 1) as f64));
    Ok(MultiValue::from_iter(values))
}

fn fixed<const N: usize>(bytes: &[u8], big_endian: bool) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(bytes);
    if big_endian {
        word.reverse();
    }
    word
}

fn integer(bytes: &[u8], big_endian: bool, signed: bool) -> f64 {
    let shifted = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
    let bits = if big_endian {
        bytes.iter().fold(0, shifted)
    } else {
        bytes.iter().rev().fold(0, shifted)
    };
    if !signed {
        return bits as f64;
    }
    let unused = 64u32.saturating_sub(bytes.len() as u32 * 8).min(63);
    ((bits << unused).cast_signed() >> unused) as f64
}

fn size(_: &Lua, args: Words) -> Result<MultiValue, Fault> {
    const NAME: &str = "size";
    let mut format = Format::new(&args, NAME)?;
    let mut position = 0usize;
    while let Some(item) = format.next(position, NAME)? {
        if item.option == b's' {
            return argument_fault(0, NAME, "option 's' has no fixed size");
        }
        if item.option == b'c' && item.bytes == 0 {
            return argument_fault(0, NAME, "option 'c0' has no fixed size");
        }
        position = position.saturating_add(item.padding + item.bytes);
    }
    Ok(MultiValue::from_iter([Value::Number(position as f64)]))
}
