//! BITFIELD and BITFIELD_RO: a string as an array of integers of any width.
//!
//! The words are read twice: once to refuse what is wrong and to learn how long the string must be, once
//! to do it. So nothing is allocated for operations.

use protocol::{
    Acl, Args, Arity, Begin, Find, Flags, Group, KeyFlags, KeySpec, Refusal, Spec, spec,
};
use storage::{EventClass, Key, Shard, Text};

use crate::bitmap::bit::bit_offset;
use crate::bitmap::integer::{Overflow, Type, Window};
use crate::{Command, Read, Refused, Run, Settings, Spread, Write};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        spec: Spec {
            name: "bitfield",
            summary: "Reads and changes integers of any width in the string at a key.",
            group: Group::Bitmap,
            since: "3.2.0",
            arity: Arity::at_least(2),
            flags: Flags::DENYOOM.and(Flags::WRITE),
            acl: Acl::BITMAP.and(Acl::SLOW).and(Acl::WRITE),
            keys: &[KeySpec {
                begin: Begin::Index(1),
                find: Find::Range {
                    last: 0,
                    step: 1,
                    limit: 0,
                },
                flags: KeyFlags::RW
                    .and(KeyFlags::UPDATE)
                    .and(KeyFlags::ACCESS)
                    .and(KeyFlags::VARIABLE_FLAGS),
            }],
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Write(bitfield),
        spread: Spread::Keys,
    },
    Command {
        spec: Spec {
            name: "bitfield_ro",
            summary: "Reads integers of any width in the string at a key.",
            group: Group::Bitmap,
            since: "6.0.0",
            arity: Arity::at_least(2),
            flags: Flags::FAST.and(Flags::READONLY),
            acl: Acl::BITMAP.and(Acl::FAST).and(Acl::READ),
            keys: spec::ONE_RO_ACCESS,
            range: (1, 1, 1),
            tips: &[],
            deprecated_since: None,
        },
        run: Run::Read(bitfield_ro),
        spread: Spread::Keys,
    },
];

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One operation of a request.
#[derive(Clone, Copy)]
struct Operation {
    action: Action,
    overflow: Overflow,
    field: Type,
    /// Bits.
    offset: u64,
}

impl Operation {
    /// Bytes that the string must have.
    fn bytes_min(&self) -> usize {
        (self.offset + u64::from(self.field.bits)).div_ceil(8) as usize
    }

    fn window(&self, text: Option<Text<'_>>) -> Window {
        match text {
            Some(text) => text.with(|bytes| Window::new(bytes, self.offset, self.field)),
            None => Window::new(&[], self.offset, self.field),
        }
    }
}

/// The operations of a request, one after another.
#[derive(Clone)]
struct Operations<'a> {
    args: Args<'a>,
    overflow: Overflow,
    settings: &'a Settings,
}

impl<'a> Operations<'a> {
    fn new(args: Args<'a>, settings: &'a Settings) -> Self {
        Operations {
            args,
            overflow: Overflow::Wrap,
            settings,
        }
    }

    fn take(&mut self) -> Result<Option<Operation>, Refusal> {
        while let Some(others) = self.args.left().checked_sub(1) {
            // A keyword without all its words is no keyword.
            if others >= 2 && self.args.keyword("GET") {
                return self.operation(|_| Ok(Action::Get)).map(Some);
            } else if others >= 3 && self.args.keyword("SET") {
                return self.operation(|args| args.int().map(Action::Set)).map(Some);
            } else if others >= 3 && self.args.keyword("INCRBY") {
                return self.operation(|args| args.int().map(Action::Add)).map(Some);
            } else if others >= 1 && self.args.keyword("OVERFLOW") {
                self.overflow = Overflow::take(&mut self.args)?;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(None)
    }

    fn operation(
        &mut self,
        action: impl FnOnce(&mut Args<'a>) -> Result<Action, Refusal>,
    ) -> Result<Operation, Refusal> {
        let field = Type::parse(self.args.bytes()?)?;
        let (digits, unit) = match self.args.bytes()? {
            [b'#', digits @ ..] => (digits, field.bits),
            digits => (digits, 1),
        };
        let offset = bit_offset(digits, unit, self.settings)?;
        Ok(Operation {
            action: action(&mut self.args)?,
            overflow: self.overflow,
            field,
            offset,
        })
    }
}

impl Iterator for Operations<'_> {
    type Item = Result<Operation, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

fn bitfield(cx: &mut Write<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let operations = Operations::new(args, cx.settings);
    let (mut count, mut bytes_min) = (0, 0);
    for operation in operations.clone() {
        let operation = operation?;
        count += 1;
        if !matches!(operation.action, Action::Get) {
            bytes_min = bytes_min.max(operation.bytes_min());
        }
    }
    let len = match bytes_min {
        // Nothing but GET, which is a read like others.
        0 => {
            let shard: &Shard = &cx.edit;
            shard.text(&key)?.map_or(0, |text| text.len())
        }
        _ => cx.edit.text(&key)?.map_or(0, |text| text.len()),
    };
    let grows = len < bytes_min;
    cx.reply.array(count);
    let mut done = false;
    for operation in operations {
        let (written, changed) = perform(cx, &key, &operation?)?;
        done |= changed || (written && grows);
    }
    // The string reaches to the last field even when nothing was written there.
    let len = cx.edit.text(&key)?.map_or(0, |text| text.len());
    if len < bytes_min {
        cx.edit.write_string(&key, bytes_min - 1, &[0])?;
    } else if bytes_min > 0 {
        cx.edit.write_nothing(&key);
    }
    if done {
        cx.edit.event(EventClass::String, "setbit", &key);
    }
    Ok(())
}

/// Whether the operation put an integer, and whether that changed the string.
fn perform(
    cx: &mut Write<'_>,
    key: &Key<'_>,
    operation: &Operation,
) -> Result<(bool, bool), Refused> {
    let field = operation.field;
    let mut window = operation.window(cx.edit.text(key)?);
    let old = window.get();
    let wanted = match operation.action {
        Action::Get => i128::from(old),
        Action::Add(by) => i128::from(old) + i128::from(by),
        Action::Set(value) => field.meant_by(value, operation.overflow),
    };
    match field.fit(wanted, operation.overflow) {
        None => {
            cx.reply.null();
            Ok((false, false))
        }
        Some(new) => {
            if new != old {
                let (at, bytes) = window.set(new);
                cx.edit.write_string(key, at, bytes)?;
            }
            let is_add = matches!(operation.action, Action::Add(_));
            cx.reply.int(if is_add { new } else { old });
            Ok((!matches!(operation.action, Action::Get), new != old))
        }
    }
}

fn bitfield_ro(cx: &mut Read<'_>, mut args: Args<'_>) -> Result<(), Refused> {
    let key = cx.key(args.bytes()?);
    let operations = Operations::new(args, cx.settings);
    let (mut count, mut reads) = (0, true);
    for operation in operations.clone() {
        count += 1;
        reads &= matches!(operation?.action, Action::Get);
    }
    if !reads {
        return Err(Refusal::BitfieldReadonly.into());
    }
    let text = cx.shard.text(&key)?;
    cx.reply.array(count);
    for operation in operations {
        cx.reply.int(operation?.window(text).get());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;
    use protocol::Resp;
    use storage::Key;

    #[test]
    fn fields_are_read_and_changed() {
        Bench::new().table(
            "
            BITFIELD k -> *0
            BITFIELD k GET u8 0 -> *1 :0
            STRLEN k -> :0
            BITFIELD k INCRBY i5 100 1 GET u4 0 -> *2 :1 :0
            STRLEN k -> :14
            BITFIELD k SET u8 #1 255 GET u4 6 get i8 #1 -> *3 :0 :3 :-1
            BITFIELD k INCRBY u8 #1 1 -> *1 :0
            BITFIELD k SET i64 13 -7 GET i64 13 -> *2 :0 :-7
            BITFIELD k SET u63 13 -1 GET u63 13 -> *2 :9223372036854775804 :9223372036854775807
            BITFIELD_RO k GET u63 13 GET i1 13 -> *2 :9223372036854775807 :-1
            BITFIELD_RO k OVERFLOW SAT GET u8 4000 -> *1 :0
            BITFIELD_RO missing GET u8 0 -> *1 :0
            BITFIELD_RO missing -> *0
            SET n 12 -> +OK
            BITFIELD n GET u8 0 INCRBY u8 8 1 -> *2 :49 :51
            GET n -> $2 13
            ",
        );
    }

    #[test]
    fn overflow() {
        let mut bench = Bench::new();
        bench.table(
            "
            BITFIELD k OVERFLOW SAT SET u8 0 256 SET u8 0 -1 GET u8 0 -> *3 :0 :255 :255
            BITFIELD k INCRBY u8 0 1 OVERFLOW FAIL INCRBY u8 0 -1 OVERFLOW WRAP INCRBY u8 0 -1 -> *3 :0 $-1 :255
            BITFIELD k OVERFLOW SAT INCRBY u8 0 -999 OVERFLOW FAIL SET u8 0 256 -> *2 :0 $-1
            BITFIELD k OVERFLOW SAT SET i8 0 -129 INCRBY i8 0 -1 GET i8 0 -> *3 :0 :-128 :-128
            BITFIELD k OVERFLOW SAT SET i8 0 -9223372036854775680 GET i8 0 SET i8 0 -9223372036854775681 GET i8 0 -> *4 :-128 :-128 :-128 :127
            BITFIELD k OVERFLOW SAT INCRBY i8 0 -9223372036854775808 -> *1 :-128
            BITFIELD k SET i64 0 9223372036854775807 INCRBY i64 0 1 -> *2 :-9223372036854775808 :-9223372036854775808
            BITFIELD k OVERFLOW SAT INCRBY i64 0 -1 -> *1 :-9223372036854775808
            BITFIELD new OVERFLOW FAIL INCRBY u2 30 4 -> *1 $-1
            STRLEN new -> :4
            BITFIELD same SET u8 0 0 -> *1 :0
            STRLEN same -> :1
            ",
        );
        bench.resp = Resp::V3;
        bench.table("BITFIELD k OVERFLOW FAIL SET u8 0 256 -> *1 _");
    }

    #[test]
    fn refusals_in_order() {
        let mut bench = Bench::new();
        bench.list(&Key::new(0, b"l"));
        let bad_type = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        bench.table(&format!(
            "
            BITFIELD l GET u8 -> -ERR syntax error
            BITFIELD l SET u64 0 -> -ERR syntax error
            BITFIELD l WHAT u8 0 -> -ERR syntax error
            BITFIELD l OVERFLOW -> -ERR syntax error
            BITFIELD l OVERFLOW WHAT -> -ERR Invalid OVERFLOW type specified
            BITFIELD l SET u64 x y -> {bad_type}
            BITFIELD l SET u8 x y -> -ERR bit offset is not an integer or out of range
            BITFIELD l SET u8 #-1 y -> -ERR bit offset is not an integer or out of range
            BITFIELD l GET u8 4294967296 -> -ERR bit offset is not an integer or out of range
            BITFIELD l GET u8 #536870912 -> -ERR bit offset is not an integer or out of range
            BITFIELD l GET u8 #9223372036854775807 -> -ERR bit offset is not an integer or out of range
            BITFIELD l SET u8 #0 y -> -ERR value is not an integer or out of range
            BITFIELD l GET u8 #0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BITFIELD l SET u8 #0 1 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            BITFIELD_RO l SET u8 0 1 GET u8 -> -ERR syntax error
            BITFIELD_RO l GET u8 0 SET u8 0 1 -> -ERR BITFIELD_RO only supports the GET subcommand
            BITFIELD_RO l GET u8 0 -> -WRONGTYPE Operation against a key holding the wrong kind of value
            "
        ));
    }
}
