//! The few functions of the sandbox that must be C functions of Lua: those that raise errors as values, with the position of
//! the script's line, and those that stand before a function of the standard library.
//!
//! A Rust closure can fail with an error of the binding only, and a Lua function in its place would hide the script's frame
//! behind a tail call (`return redis.call(...)`), whose line the error text must name. So a closure answers `true, results...`
//! or `false, error`, and [`guarded`] turns that into results or a raised error.
#![allow(
    unsafe_code,
    reason = "C functions of Lua; the safe binding has none that raise values"
)]

use std::ffi::c_int;

use mlua::{Function, Lua, Result, Table, ffi};

/// Bytes of a pattern of `string.find` and its like: the matcher recurses once for each item of it.
const PATTERN_BYTES_MAX: usize = 4096;
/// Bytes of a string that `string.rep` makes.
const REPEATED_BYTES_MAX: f64 = 512.0 * 1024.0 * 1024.0;
/// A text up to this length is gone through without a question to the watchdog.
pub(crate) const UNWATCHED_BYTES_MAX: usize = 64 * 1024;
/// More arguments than this leave the binding no room on Lua's stack: they come to it in a table.
const UNPACKED_ARGS_MAX: c_int = 4000;
/// Added to the number of an operation whose arguments are in a table, with their number behind it.
pub(crate) const PACKED: u8 = 128;
/// The type numbers of Lua 5.1.
const NUMBER: c_int = 3;
const STRING: c_int = 4;
const TABLE: c_int = 5;

/// A function that raises what `inner` answers after `false`; a text gets the caller's position.
pub(crate) fn guarded(lua: &Lua, inner: Function) -> Result<Function> {
    // SAFETY: the closure takes its one upvalue, `inner`, from the top of the stack and leaves itself there.
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, call_guarded, 1)) }
}

/// As `guarded`, for the function that is in `bridge[1]` while a script runs; it gets `op` as its first argument.
pub(crate) fn bridged(lua: &Lua, bridge: &Table, op: u8) -> Result<Function> {
    // SAFETY: as in `guarded`, with two upvalues.
    unsafe {
        lua.exec_raw((bridge, op), |state| {
            ffi::lua_pushcclosure(state, call_bridged, 2)
        })
    }
}

/// What stands before a function of the standard library.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    /// Its first argument must not be a protected table.
    Writes,
    /// A protected table as its first argument is the table behind it.
    Reads,
    /// Of a protected table there is nothing to tell but what its metatable shows in `__metatable`.
    Hides,
    /// Its second argument is a pattern, which must not be too long.
    Matches,
    /// The string it makes must not be too long, and not be made of nothing for ever.
    Repeats,
    /// It goes through all of its first argument.
    Walks,
    /// Its first argument must not be a compiled chunk: those can break out of any sandbox.
    Loads,
    /// Its first argument must not be 0: the environment of everything.
    Level,
}

/// `raw`, with a check before it. `protected`: the tables behind the protected ones. `look` asks the watchdog: one call may
/// take as long as thousands of instructions, after which it is asked by itself.
pub(crate) fn before(
    lua: &Lua,
    kind: Before,
    (protected, look): (&Table, &Function),
    raw: Function,
) -> Result<Function> {
    let function: ffi::lua_CFunction = match kind {
        Before::Writes => writes,
        Before::Reads => reads,
        Before::Hides => hides,
        Before::Matches => matches,
        Before::Repeats => repeats,
        Before::Walks => walks,
        Before::Loads => loads,
        Before::Level => level,
    };
    // SAFETY: as in `guarded`, with three upvalues. `raw` is a C function without upvalues of its own: `pairs`, the only one
    // of the library with some, has its own function here.
    unsafe {
        lua.exec_raw((protected, raw, look), |state| {
            ffi::lua_pushcclosure(state, function, 3)
        })
    }
}

/// `pairs`, whose walk of a protected table does not hand out the table behind it.
pub(crate) fn pairs(lua: &Lua, next: Function) -> Result<Function> {
    // SAFETY: as in `guarded`.
    unsafe { lua.exec_raw(next, |state| ffi::lua_pushcclosure(state, pairs_of, 1)) }
}

/// `pcall` as scripts of Redis know it: an error that is a table with a text in `err` is handed out as that text.
pub(crate) fn pcall(lua: &Lua) -> Result<Function> {
    // SAFETY: a closure without upvalues.
    unsafe { lua.exec_raw((), |state| ffi::lua_pushcclosure(state, pcall_text, 0)) }
}

// SAFETY of all functions below: Lua calls them with a valid state, their arguments from index 1 on and room for at least 20
// values more, of which none uses more than five; upvalues are those that the makers above have given. None holds a Rust
// value with a destructor when Lua may raise an error, which unwinds the frame.

unsafe extern "C-unwind" fn call_guarded(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        let args = ffi::lua_gettop(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, args, ffi::LUA_MULTRET);
        finish(state)
    }
}

unsafe extern "C-unwind" fn call_bridged(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above; the first upvalue is a table.
    unsafe {
        let mut args = ffi::lua_gettop(state);
        if args > UNPACKED_ARGS_MAX {
            pack(state, args);
            let op = ffi::lua_tonumber(state, ffi::lua_upvalueindex(2));
            ffi::lua_pushnumber(state, op + f64::from(PACKED));
            ffi::lua_insert(state, 1);
            ffi::lua_pushnumber(state, args.into());
            args = 2;
        } else {
            ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
            ffi::lua_insert(state, 1);
        }
        ffi::lua_rawgeti(state, ffi::lua_upvalueindex(1), 1);
        ffi::lua_insert(state, 1);
        ffi::lua_call(state, args + 1, ffi::LUA_MULTRET);
        finish(state)
    }
}

/// Makes one table of all arguments.
unsafe fn pack(state: *mut ffi::lua_State, args: c_int) {
    // SAFETY: see above; the values from 2 on are taken off the top one by one.
    unsafe {
        ffi::lua_createtable(state, args, 0);
        ffi::lua_insert(state, 1);
        for index in (1..=args).rev() {
            ffi::lua_rawseti(state, 1, index.into());
        }
    }
}

/// The stack holds what a Rust closure has answered, and nothing else.
unsafe fn finish(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        let answered = ffi::lua_gettop(state);
        if answered > 0 && ffi::lua_toboolean(state, 1) != 0 {
            return answered - 1;
        }
        raise(state, 2)
    }
}

/// Raises the value at an index; a text with the position of whoever called the running C function.
unsafe fn raise(state: *mut ffi::lua_State, index: c_int) -> c_int {
    // SAFETY: see above; an index behind the end is nil.
    unsafe {
        ffi::lua_settop(state, index);
        if ffi::lua_type(state, index) == STRING {
            name_callee(state, index);
            ffi::luaL_where(state, 1);
            ffi::lua_insert(state, index);
            ffi::lua_concat(state, 2);
        }
        ffi::lua_error(state)
    }
}

/// Puts the name that the script has for the running function into the text about an argument at `index`: `?` without one.
unsafe fn name_callee(state: *mut ffi::lua_State, index: c_int) {
    // SAFETY: see above. The text stays where it is while it is on the stack; all strings end at a zero byte.
    unsafe {
        let (mut len, mut frame) = (0, core::mem::zeroed::<ffi::lua_Debug>());
        let bytes = ffi::lua_tolstring(state, index, &raw mut len);
        let text = core::slice::from_raw_parts(bytes.cast::<u8>(), len);
        let parts = || {
            let start = text.windows(4).position(|four| four == b"to '")? + 4;
            let end = start
                + text
                    .get(start..)?
                    .windows(3)
                    .position(|three| three == b"' (")?;
            Some((start, end))
        };
        let Some((start, end)) = parts().filter(|_| text.starts_with(b"bad argument #")) else {
            return;
        };
        let found = ffi::lua_getstack(state, 0, &raw mut frame) != 0
            && ffi::lua_getinfo(state, c"n".as_ptr(), &raw mut frame) != 0
            && !frame.name.is_null();
        let name = if found { frame.name } else { c"?".as_ptr() };
        ffi::lua_pushlstring(state, bytes, start);
        ffi::lua_pushstring(state, name);
        ffi::lua_pushlstring(state, bytes.add(end), len - end);
        ffi::lua_concat(state, 3);
        ffi::lua_replace(state, index);
    }
}

unsafe fn raise_text(state: *mut ffi::lua_State, text: &[u8]) -> c_int {
    // SAFETY: see above.
    unsafe {
        ffi::lua_settop(state, 0);
        ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len());
        raise(state, 1)
    }
}

/// Pushes the table behind the protected one at index 1, or nil.
unsafe fn push_behind(state: *mut ffi::lua_State) -> bool {
    // SAFETY: see above; the first upvalue is a table, and an index of a table may be any value but nil.
    unsafe {
        if ffi::lua_type(state, 1) != TABLE {
            ffi::lua_pushnil(state);
            return false;
        }
        ffi::lua_pushvalue(state, 1);
        ffi::lua_rawget(state, ffi::lua_upvalueindex(1));
        ffi::lua_type(state, -1) == TABLE
    }
}

/// Goes on with the function of the library, in this very frame.
unsafe fn go_on(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above; a C function may be called with the state and stack that this one was.
    unsafe {
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(2)) {
            Some(function) => function(state),
            None => raise_text(state, b"the function is not there"),
        }
    }
}

unsafe extern "C-unwind" fn writes(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if push_behind(state) {
            return raise_text(state, crate::sandbox::READONLY.as_bytes());
        }
        ffi::lua_settop(state, -2);
        go_on(state)
    }
}

unsafe extern "C-unwind" fn reads(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if push_behind(state) {
            ffi::lua_replace(state, 1);
        } else {
            ffi::lua_settop(state, -2);
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn hides(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if push_behind(state) {
            if ffi::luaL_getmetafield(state, 1, c"__metatable".as_ptr()) == 0 {
                ffi::lua_pushnil(state);
            }
            return 1;
        }
        ffi::lua_settop(state, -2);
        go_on(state)
    }
}

/// Asks the watchdog, which raises an error when the script must stop.
unsafe fn look(state: *mut ffi::lua_State) {
    // SAFETY: see above.
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(3));
        ffi::lua_call(state, 0, 0);
    }
}

/// Whether the first argument is a text so long that to go through it takes a while, or any table.
unsafe fn is_long(state: *mut ffi::lua_State) -> bool {
    // SAFETY: see above.
    unsafe {
        match ffi::lua_type(state, 1) {
            STRING => ffi::lua_objlen(state, 1) > UNWATCHED_BYTES_MAX,
            kind => kind == TABLE,
        }
    }
}

unsafe extern "C-unwind" fn walks(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if is_long(state) {
            look(state);
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn matches(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above. (A fourth argument that is true makes `find` look for plain text.)
    unsafe {
        let is_complex = ffi::lua_type(state, 2) == STRING
            && ffi::lua_objlen(state, 2) > PATTERN_BYTES_MAX
            && ffi::lua_toboolean(state, 4) == 0;
        if is_complex {
            return raise_text(state, b"pattern too complex");
        }
        if is_long(state) {
            look(state);
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn repeats(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if ffi::lua_type(state, 1) == STRING && ffi::lua_isnumber(state, 2) != 0 {
            let len = ffi::lua_objlen(state, 1);
            if len == 0 {
                ffi::lua_settop(state, 1);
                return 1;
            }
            if len as f64 * ffi::lua_tonumber(state, 2) > REPEATED_BYTES_MAX {
                return raise_text(state, b"resulting string too large");
            }
            if len as f64 * ffi::lua_tonumber(state, 2) > UNWATCHED_BYTES_MAX as f64 {
                look(state);
            }
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn loads(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above; the bytes of a string on the stack stay where they are.
    unsafe {
        let mut len = 0;
        let bytes = ffi::lua_tolstring(state, 1, &raw mut len);
        if !bytes.is_null() && len > 0 && *bytes.cast::<u8>() == b'\x1b' {
            ffi::lua_settop(state, 0);
            ffi::lua_pushnil(state);
            let text = b"compiled chunks are not loaded";
            ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len());
            return 2;
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn level(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if ffi::lua_type(state, 1) == NUMBER && ffi::lua_tonumber(state, 1) < 1.0 {
            return raise_text(state, crate::sandbox::READONLY.as_bytes());
        }
        go_on(state)
    }
}

unsafe extern "C-unwind" fn pairs_of(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        ffi::luaL_checktype(state, 1, TABLE);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushnil(state);
        3
    }
}

unsafe extern "C-unwind" fn pcall_text(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: see above.
    unsafe {
        let args = ffi::lua_gettop(state);
        if args == 0 {
            return raise_text(state, b"bad argument #1 to 'pcall' (value expected)");
        }
        // The answer's place is taken first: the results may leave no room for it.
        ffi::lua_pushboolean(state, 1);
        ffi::lua_insert(state, 1);
        if ffi::lua_pcall(state, args - 1, ffi::LUA_MULTRET, 0) == 0 {
            return ffi::lua_gettop(state);
        }
        if ffi::lua_type(state, -1) == TABLE {
            ffi::lua_getfield(state, -1, c"err".as_ptr());
            let is_text = ffi::lua_isstring(state, -1) != 0;
            if is_text {
                ffi::lua_replace(state, -2);
            } else {
                ffi::lua_settop(state, -2);
            }
        }
        ffi::lua_pushboolean(state, 0);
        ffi::lua_replace(state, 1);
        2
    }
}
