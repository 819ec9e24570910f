//! What a script can reach: the globals that Redis gives it, protected from change.
//!
//! ```text
//!   _G of a script ──> E: empty, read-only ──index──> G: redis, string, KEYS, ... ──index──> error: nonexistent global
//!   redis           ──> empty, read-only   ──index──> the functions
//! ```
//! Redis has tables that the interpreter itself keeps from being written. Here a protected table is an empty one whose
//! metatable shows the table behind it and refuses to write; the functions of the library that would see or go around that
//! (`next`, `pairs`, `rawset`, `table.insert`...) know protected tables (see `guard.rs`). Nothing that can read files,
//! load compiled code or look into other frames is there at all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::{Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use crate::bundled::{self, Fault, Words, argument_fault, fault, function, number_of, spelled};
use crate::guard::{Before, before, guarded, pairs, pcall};
use crate::library::Registered;
use crate::prng::Prng;
use crate::redis;
use crate::{Halt, Watchdog};

/// What is said of a write to a protected table.
pub(crate) const READONLY: &str = "Attempt to modify a readonly table";
/// Values that one call can return: what fits on the stack of Lua.
pub(crate) const RESULTS_MAX: usize = 7900;
/// Instructions between two looks at the watchdog.
const INSTRUCTIONS_PER_LOOK: u32 = 10_000;

/// How large the state may grow before garbage is collected again, percent of what was left last time.
const GC_PAUSE_PERCENT: i32 = 150;

/// Globals that come from the standard library as they are.
const PLAIN: [&str; 11] = [
    "assert", "error", "gcinfo", "ipairs", "newproxy", "rawequal", "select", "tonumber",
    "tostring", "type", "unpack",
];

/// What the running script and the engine share.
pub(crate) struct Shared {
    pub(crate) prng: Prng,
    /// The script must stop, and how.
    stop: RefCell<Option<Halt>>,
    watchdog: Box<dyn Watchdog>,
    /// The line that ran when the script was stopped.
    pub(crate) stopped_at: Cell<Option<usize>>,
    /// Functions of the library that is being loaded.
    pub(crate) loading: RefCell<Option<Vec<Registered>>>,
}

impl Shared {
    pub(crate) fn new(watchdog: Box<dyn Watchdog>) -> Shared {
        Shared {
            prng: Prng::default(),
            stop: RefCell::new(None),
            watchdog,
            stopped_at: Cell::new(None),
            loading: RefCell::new(None),
        }
    }

    /// From now on each instruction fails: no `pcall` keeps the script alive.
    pub(crate) fn stop_now(self: &Rc<Self>, lua: &Lua, halt: Halt) -> mlua::Result<()> {
        let mut stop = self.stop.borrow_mut();
        if stop.is_none() {
            *stop = Some(halt);
            drop(stop);
            self.watch(lua, 1)?;
        }
        Ok(())
    }

    /// How the script was stopped, if it was; forgets it.
    pub(crate) fn take_stop(self: &Rc<Self>, lua: &Lua) -> mlua::Result<Option<Halt>> {
        let stop = self.stop.borrow_mut().take();
        if stop.is_some() {
            self.watch(lua, INSTRUCTIONS_PER_LOOK)?;
        }
        Ok(stop)
    }

    /// What asks the watchdog at once: an error when the script must stop.
    fn looks(self: &Rc<Self>, lua: &Lua) -> mlua::Result<Function> {
        let shared = Rc::clone(self);
        lua.create_function(move |lua, ()| shared.look(lua))
    }

    /// Asks the watchdog at once: an error when the script must stop.
    pub(crate) fn look(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        if self.stop.borrow().is_none() {
            let Some(halt) = self.watchdog.look() else {
                return Ok(());
            };
            let line = |level| lua.inspect_stack(level, |frame| frame.current_line());
            self.stopped_at
                .set((0..4).find_map(|level| line(level).flatten()));
            self.stop_now(lua, halt)?;
        }
        Err(mlua::Error::runtime("the script is stopped"))
    }

    /// Has the watchdog asked after so many instructions.
    pub(crate) fn watch(self: &Rc<Self>, lua: &Lua, instructions: u32) -> mlua::Result<()> {
        let shared = Rc::clone(self);
        let triggers = HookTriggers::new().every_nth_instruction(instructions);
        lua.set_global_hook(triggers, move |lua, debug| {
            if shared.stop.borrow().is_none() {
                let Some(halt) = shared.watchdog.look() else {
                    return Ok(VmState::Continue);
                };
                shared.stopped_at.set(debug.current_line());
                shared.stop_now(lua, halt)?;
            }
            Err(mlua::Error::runtime("the script is stopped"))
        })
    }
}

/// The state of Lua, and the doors to it.
pub(crate) struct Sandbox {
    pub(crate) lua: Lua,
    /// `bridge[1]` is the door to the host while a script runs.
    pub(crate) bridge: Table,
    /// Where KEYS and ARGV are set.
    pub(crate) globals: Table,
    /// Calls a script: `xpcall` with the handler that notes where an error came from.
    pub(crate) run_script: Function,
    /// As `run_script`, with keys and arguments.
    pub(crate) run_function: Function,
    /// The globals of functions, which are others while a library is loaded.
    pub(crate) function_env: Table,
    function_metatable: Table,
    function_globals: Table,
    loading_globals: Table,
}

impl Sandbox {
    /// A state of Lua of at most so many bytes.
    pub(crate) fn new(shared: &Rc<Shared>, bytes_max: usize) -> mlua::Result<Sandbox> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libs, LuaOptions::default())?;
        lua.set_memory_limit(bytes_max)?;
        lua.gc_set_pause(GC_PAUSE_PERCENT);
        lua.set_app_data(Rc::clone(shared));
        let maker = Maker::new(&lua, shared)?;
        let bridge = lua.create_table()?;

        let globals = maker.globals(shared)?;
        let function_globals = maker.globals(shared)?;
        let functions = redis::table(&lua, &bridge)?;
        function_globals.raw_set("redis", maker.protect(&functions)?)?;
        let of_eval = redis::table(&lua, &bridge)?;
        redis::add_of_eval(&lua, &of_eval)?;
        globals.raw_set("redis", maker.protect(&of_eval)?)?;

        let loading_globals = lua.create_table()?;
        let of_loading = lua.create_table()?;
        redis::add_log(&lua, &bridge, &of_loading)?;
        let of_load = register_function(&lua, shared)?;
        of_loading.raw_set("register_function", of_load)?;
        maker.refuse_unknown(&of_loading)?;
        loading_globals.raw_set("redis", maker.protect(&of_loading)?)?;
        maker.refuse_unknown(&loading_globals)?;

        let (env, env_metatable) = maker.protected(&globals)?;
        globals.raw_set("_G", &env)?;
        let (function_env, function_metatable) = maker.protected(&function_globals)?;
        function_globals.raw_set("_G", &function_env)?;
        // Who asks for the metatable of all globals gets one that cannot be written either.
        let shown = maker.protect(&lua.create_table()?)?;
        env_metatable.raw_set("__metatable", &shown)?;
        function_metatable.raw_set("__metatable", shown)?;
        let (run_script, run_function) = runners(&lua, &maker)?;
        lua.set_globals(env)?;
        shared.watch(&lua, INSTRUCTIONS_PER_LOOK)?;
        Ok(Sandbox {
            bridge,
            globals,
            run_script,
            run_function,
            function_env,
            function_metatable,
            function_globals,
            loading_globals,
            lua,
        })
    }

    /// Gives functions the few globals that a library has while it is loaded, or all of them again.
    pub(crate) fn set_loading(&self, loading: bool) -> mlua::Result<()> {
        let globals = if loading {
            &self.loading_globals
        } else {
            &self.function_globals
        };
        self.function_metatable.raw_set("__index", globals)
    }
}

/// Makes protected tables.
struct Maker {
    lua: Lua,
    raw: Table,
    /// The table behind each protected one.
    behind: Table,
    /// Asks the watchdog.
    look: Function,
    refuse_write: Function,
    refuse_read: Function,
}

impl Maker {
    fn new(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Maker> {
        let refuse_write = function(lua, |_, _| fault(READONLY))?;
        let refuse_read = function(lua, |_, args| match args.get(1) {
            Value::String(_) | Value::Integer(_) | Value::Number(_) => {
                let name = args.bytes(1, "index")?;
                fault(format!(
                    "Script attempted to access nonexistent global variable '{}'",
                    String::from_utf8_lossy(&name)
                ))
            }
            _ => fault("Second argument to luaProtectedTableError must be a string or number"),
        })?;
        Ok(Maker {
            raw: lua.globals(),
            behind: lua.create_table()?,
            look: shared.looks(lua)?,
            refuse_write,
            refuse_read,
            lua: lua.clone(),
        })
    }

    fn protected(&self, table: &Table) -> mlua::Result<(Table, Table)> {
        let (shown, metatable) = (self.lua.create_table()?, self.lua.create_table()?);
        metatable.raw_set("__index", table)?;
        metatable.raw_set("__newindex", &self.refuse_write)?;
        shown.set_metatable(Some(metatable.clone()))?;
        self.behind.raw_set(&shown, table)?;
        Ok((shown, metatable))
    }

    fn protect(&self, table: &Table) -> mlua::Result<Table> {
        Ok(self.protected(table)?.0)
    }

    /// Reading what a table does not have is an error.
    fn refuse_unknown(&self, table: &Table) -> mlua::Result<()> {
        let metatable = self.lua.create_table()?;
        metatable.raw_set("__index", &self.refuse_read)?;
        table.set_metatable(Some(metatable))
    }

    fn before(&self, kind: Before, name: &str) -> mlua::Result<Function> {
        let to = (&self.behind, &self.look);
        before(&self.lua, kind, to, self.raw.raw_get(name)?)
    }

    /// The globals but `redis` and `_G`.
    fn globals(&self, shared: &Rc<Shared>) -> mlua::Result<Table> {
        let lua = &self.lua;
        let globals = lua.create_table()?;
        for name in PLAIN {
            globals.raw_set(name, self.raw.raw_get::<Value>(name)?)?;
        }
        globals.raw_set("_VERSION", "Lua 5.1")?;
        globals.raw_set("xpcall", self.raw.raw_get::<Value>("xpcall")?)?;
        globals.raw_set("getfenv", self.raw.raw_get::<Value>("getfenv")?)?;
        globals.raw_set("setfenv", self.before(Before::Level, "setfenv")?)?;
        globals.raw_set("pcall", pcall(lua)?)?;
        let next = self.before(Before::Reads, "next")?;
        globals.raw_set("pairs", pairs(lua, next.clone())?)?;
        globals.raw_set("next", next)?;
        globals.raw_set("rawget", self.before(Before::Reads, "rawget")?)?;
        globals.raw_set("rawset", self.before(Before::Writes, "rawset")?)?;
        globals.raw_set("setmetatable", self.before(Before::Writes, "setmetatable")?)?;
        globals.raw_set("getmetatable", self.before(Before::Hides, "getmetatable")?)?;
        let loadstring = self.before(Before::Loads, "loadstring")?;
        globals.raw_set("load", load(lua, &loadstring)?)?;
        globals.raw_set("loadstring", loadstring)?;
        globals.raw_set("collectgarbage", function(lua, collectgarbage)?)?;
        globals.raw_set("coroutine", self.library("coroutine")?)?;
        globals.raw_set("table", self.table_library()?)?;
        globals.raw_set("string", self.string_library()?)?;
        globals.raw_set("math", self.math_library(shared)?)?;
        globals.raw_set("os", self.os_library(shared)?)?;
        for (name, library) in bundled::all(lua)? {
            globals.raw_set(name, self.protect(&library)?)?;
        }
        self.refuse_unknown(&globals)?;
        Ok(globals)
    }

    fn copy(&self, name: &str) -> mlua::Result<Table> {
        let (from, to) = (self.raw.raw_get::<Table>(name)?, self.lua.create_table()?);
        for pair in from.pairs::<Value, Value>() {
            let (key, value) = pair?;
            to.raw_set(key, value)?;
        }
        Ok(to)
    }

    fn library(&self, name: &str) -> mlua::Result<Table> {
        self.protect(&self.copy(name)?)
    }

    fn guard_in(&self, library: &Table, kind: Before, name: &str) -> mlua::Result<()> {
        let raw = library.raw_get(name)?;
        let to = (&self.behind, &self.look);
        library.raw_set(name, before(&self.lua, kind, to, raw)?)
    }

    fn table_library(&self) -> mlua::Result<Table> {
        let library = self.copy("table")?;
        self.guard_in(&library, Before::Writes, "insert")?;
        for name in ["concat", "sort", "maxn"] {
            self.guard_in(&library, Before::Walks, name)?;
        }
        self.protect(&library)
    }

    fn string_library(&self) -> mlua::Result<Table> {
        let library = self.copy("string")?;
        for name in ["find", "match", "gmatch", "gsub"] {
            self.guard_in(&library, Before::Matches, name)?;
        }
        self.guard_in(&library, Before::Repeats, "rep")?;
        for name in ["lower", "upper", "reverse"] {
            self.guard_in(&library, Before::Walks, name)?;
        }
        let shown = self.protect(&library)?;
        if let Some(metatable) = self.lua.type_metatable::<mlua::String>() {
            // `("x"):rep(2)` takes the same road, and `getmetatable("")` shows a copy.
            metatable.raw_set("__index", &shown)?;
            let copy = self.lua.create_table()?;
            copy.raw_set("__index", &shown)?;
            metatable.raw_set("__metatable", self.protect(&copy)?)?;
        }
        Ok(shown)
    }

    /// All that Redis 7.4 has of it: the processor's time, to measure with.
    fn os_library(&self, shared: &Rc<Shared>) -> mlua::Result<Table> {
        let library = self.lua.create_table()?;
        let shared = Rc::clone(shared);
        let clock = move |_: &Lua, _: Words| {
            let seconds = shared.watchdog.cpu_us() as f64 / 1e6;
            Ok(MultiValue::from_iter([Value::Number(seconds)]))
        };
        library.raw_set("clock", function(&self.lua, clock)?)?;
        self.protect(&library)
    }

    fn math_library(&self, shared: &Rc<Shared>) -> mlua::Result<Table> {
        let library = self.copy("math")?;
        let prng = Rc::clone(shared);
        let random = move |_: &Lua, args: Words| random(&prng.prng, &args);
        library.raw_set("random", function(&self.lua, random)?)?;
        let prng = Rc::clone(shared);
        let seed = move |_: &Lua, args: Words| {
            prng.prng.seed(args.number(0, "randomseed")? as i64 as i32);
            Ok(MultiValue::new())
        };
        library.raw_set("randomseed", function(&self.lua, seed)?)?;
        self.protect(&library)
    }
}

fn random(prng: &Prng, args: &Words) -> Result<MultiValue, Fault> {
    let r = prng.unit();
    let bound = |index| Ok::<_, Fault>(args.number(index, "random")?.trunc());
    let value = match args.len() {
        0 => r,
        1 => {
            let upper = bound(0)?;
            if upper < 1.0 {
                return argument_fault(0, "random", "interval is empty");
            }
            (r * upper).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (bound(0)?, bound(1)?);
            if lower > upper {
                return argument_fault(1, "random", "interval is empty");
            }
            (r * (upper - lower + 1.0)).floor() + lower
        }
        _ => return fault("wrong number of arguments"),
    };
    Ok(MultiValue::from_iter([Value::Number(value)]))
}

/// Scripts may ask for a step of the collection and for its sum, but not end it for all that come after.
fn collectgarbage(lua: &Lua, args: Words) -> Result<MultiValue, Fault> {
    let option = match args.get(0) {
        Value::Nil => b"collect".to_vec(),
        _ => args.bytes(0, "collectgarbage")?,
    };
    let value = match option.as_slice() {
        b"count" => Value::Number(lua.used_memory() as f64 / 1024.0),
        b"collect" => {
            lua.gc_collect()?;
            Value::Number(0.0)
        }
        b"step" => Value::Boolean(lua.gc_step()?),
        b"stop" | b"restart" | b"setpause" | b"setstepmul" => Value::Number(0.0),
        other => {
            let text = format!("invalid option '{}'", String::from_utf8_lossy(other));
            return argument_fault(0, "collectgarbage", &text);
        }
    };
    Ok(MultiValue::from_iter([value]))
}

/// `load` by way of `loadstring`, which looks at what it loads.
fn load(lua: &Lua, loadstring: &Function) -> mlua::Result<Function> {
    let chunk = "local loadstring, concat, type, error = ...
        return function(reader, name)
            local pieces = {}
            while true do
                local piece = reader()
                if piece == nil or piece == '' then break end
                if type(piece) ~= 'string' then return nil, 'reader function must return a string' end
                pieces[#pieces + 1] = piece
            end
            return loadstring(concat(pieces), name or '=(load)')
        end";
    let globals = lua.globals();
    let concat: Function = globals.raw_get::<Table>("table")?.raw_get("concat")?;
    let (kind, error): (Function, Function) = (globals.raw_get("type")?, globals.raw_get("error")?);
    let chunk = lua.load(chunk).set_name("=load");
    let empty = lua.create_table()?;
    chunk
        .set_environment(empty)
        .call((loadstring, concat, kind, error))
}

/// The functions that call a script or a function and note where an error came from.
fn runners(lua: &Lua, maker: &Maker) -> mlua::Result<(Function, Function)> {
    let behind = maker.behind.clone();
    let handler = lua.create_function(move |lua, error: Value| handle(lua, &behind, error))?;
    let chunk = "local xpcall, handler = ...
        return function(script)
            return xpcall(script, handler)
        end, function(run, keys, args)
            return xpcall(function()
                local result = run(keys, args)
                return result
            end, handler)
        end";
    let xpcall: Function = maker.raw.raw_get("xpcall")?;
    let chunk = lua.load(chunk).set_name("=run");
    let empty = lua.create_table()?;
    chunk.set_environment(empty).call((xpcall, handler))
}

/// Makes a table of any error, with the source and line that raised it.
fn handle(lua: &Lua, behind: &Table, error: Value) -> mlua::Result<Value> {
    let place = |level| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let name = source.source.map(|name| name.into_owned());
            (source.what == "C", name, frame.current_line())
        })
    };
    let mut at = place(1);
    if at.as_ref().is_some_and(|(is_c, ..)| *is_c) {
        at = place(2);
    }
    let table = match error {
        Value::Table(table) if behind.raw_get::<Value>(&table)?.is_nil() => table,
        other => {
            let mut text = b"ERR ".to_vec();
            text.extend(text_of(lua, &other));
            match redis::error_value(lua, &text)? {
                Value::Table(table) => table,
                other => return Ok(other),
            }
        }
    };
    if let Some((_, source, line)) = at {
        table.raw_set("source", source)?;
        table.raw_set("line", line.map_or(-1, |line| line as i64))?;
    }
    Ok(Value::Table(table))
}

/// Any value as `tostring` shows it.
fn text_of(lua: &Lua, value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Error(error) => first_line(&error.to_string()),
        value => match lua.coerce_string(value.clone()) {
            Ok(Some(text)) => text.as_bytes().to_vec(),
            _ if value.is_nil() => b"nil".to_vec(),
            _ if value.is_boolean() => value.as_boolean().unwrap_or(false).to_string().into(),
            _ => format!("{}: {:p}", value.type_name(), value.to_pointer()).into_bytes(),
        },
    }
}

fn first_line(text: &str) -> Vec<u8> {
    text.lines().next().unwrap_or_default().as_bytes().to_vec()
}

/// `redis.register_function`.
fn register_function(lua: &Lua, shared: &Rc<Shared>) -> mlua::Result<Function> {
    let shared = Rc::clone(shared);
    let inner = lua.create_function(move |lua, args: MultiValue| {
        let args = Words { args };
        let result = match shared.loading.borrow_mut().as_mut() {
            Some(functions) => match Registered::read(&args) {
                Err(error) => Err(error),
                Ok(new) if functions.iter().any(|known| known.has_name(&new)) => {
                    Err("Function already exists in the library".to_owned())
                }
                Ok(new) => {
                    functions.push(new);
                    Ok(())
                }
            },
            None => Err(
                "redis.register_function can only be called on FUNCTION LOAD command".to_owned(),
            ),
        };
        let result = match result {
            Ok(()) => Ok(MultiValue::new()),
            Err(text) => redis::raise(lua, &text),
        };
        bundled::answer(lua, result)
    })?;
    guarded(lua, inner)
}

/// A text or a number, as Lua's own functions take either for a text.
pub(crate) fn text_like(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        value => {
            let number = number_of(value).or_else(|| spelled(value))?;
            let mut text = Vec::new();
            bundled::write_general(number, 14, &mut text);
            Some(text)
        }
    }
}
