//! `Engine`: one state of Lua with the scripts and libraries that one core has compiled.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mlua::{Function, MultiValue, Table, Value};
use protocol::{Reply, Resp};

use crate::bundled::{self, Fault};
use crate::cache::{Script, Sha};
use crate::library::{Libraries, Library};
use crate::redis::Calls;
use crate::reply::{self, Unwritten, write_line};
use crate::sandbox::{Sandbox, Shared};
use crate::source::library_name;
use crate::{Halt, Host, Watchdog};

/// Compiled scripts that one engine keeps: more than the shared cache keeps of those that may come back at once.
const COMPILED_MAX: usize = 1000;
/// Runs between two steps of the collection of garbage, and how large each is, KB.
const RUNS_PER_STEP: u32 = 50;
const STEP_KB: i32 = 64;

/// What is to be run.
#[derive(Clone, Copy)]
pub enum Run<'a> {
    /// A script of EVAL.
    Script(&'a Arc<Script>),
    /// A function of FCALL; its library has been handed to [`Engine::sync`].
    Function {
        /// The library's name.
        library: &'a str,
        /// The function's name, as the library has it.
        name: &'a str,
    },
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its reply is written.
    Done,
    /// An error is written, with this code; `counted`: the command that failed has counted it already.
    Failed {
        /// The first word of the error.
        code: String,
        /// See the variant.
        counted: bool,
    },
    /// The watchdog stopped it; an error is written.
    Killed,
    /// The host or the watchdog abandoned it; nothing is written.
    Abandoned,
}

/// See the module's head.
pub struct Engine {
    sandbox: Sandbox,
    shared: Rc<Shared>,
    scripts: HashMap<Sha, (Arc<Script>, Function)>,
    libraries: HashMap<String, Loaded>,
    runs: u32,
    bytes_max: core::cell::Cell<usize>,
}

/// A library whose code has run here.
struct Loaded {
    library: Arc<Library>,
    functions: HashMap<String, Function>,
}

impl Engine {
    /// A fresh state of Lua of at most so many bytes.
    ///
    /// # Errors
    /// A text: not even the libraries fit.
    pub fn new(watchdog: Box<dyn Watchdog>, bytes_max: usize) -> Result<Engine, String> {
        let shared = Rc::new(Shared::new(watchdog));
        let sandbox = Sandbox::new(&shared, bytes_max).map_err(|error| error.to_string())?;
        Ok(Engine {
            sandbox,
            shared,
            scripts: HashMap::new(),
            libraries: HashMap::new(),
            runs: 0,
            bytes_max: core::cell::Cell::new(bytes_max),
        })
    }

    /// Bytes of the state of Lua.
    pub fn used_bytes(&self) -> usize {
        self.sandbox.lua.used_memory()
    }

    /// Lets it use other than the bytes it was made with.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.set(bytes_max);
        // It fails only where Lua does not use the binding's allocator.
        let _ = self.sandbox.lua.set_memory_limit(bytes_max);
    }

    /// Compiles a script, if it is not compiled yet.
    ///
    /// # Errors
    /// The text of the refusal, without its code.
    pub fn compile(&mut self, script: &Arc<Script>) -> Result<(), String> {
        if let Some((known, _)) = self.scripts.get_mut(&script.sha) {
            // The same text; that it is no longer in the cache is told by the one that was in it.
            *known = Arc::clone(script);
            return Ok(());
        }
        if self.scripts.len() >= COMPILED_MAX {
            self.scripts.retain(|_, (script, _)| !script.is_gone());
            if self.scripts.len() >= COMPILED_MAX {
                self.scripts.clear();
            }
        }
        let function = compile(&self.sandbox, script.code(), "@user_script", None)
            .map_err(|text| format!("Error compiling script (new function): {text}"))?;
        let entry = (Arc::clone(script), function);
        self.scripts.insert(script.sha, entry);
        Ok(())
    }

    /// A script that is compiled here.
    pub fn compiled(&self, sha: &Sha) -> Option<&Arc<Script>> {
        self.scripts.get(sha).map(|(script, _)| script)
    }

    /// Forgets the compiled scripts that are no longer in the cache.
    pub fn forget_gone(&mut self) {
        self.scripts.retain(|_, (script, _)| !script.is_gone());
    }

    /// Runs code with these keys and arguments; its reply or error is appended to `out`.
    pub fn run(
        &mut self,
        run: Run<'_>,
        host: &mut dyn Host,
        (keys, args): (&[&[u8]], &[&[u8]]),
        resp: Resp,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let start = out.len();
        let mut reply = Reply::new(out, resp);
        let name = match run {
            Run::Script(script) => String::from_utf8_lossy(&script.sha).into_owned(),
            Run::Function { name, .. } => name.to_owned(),
        };
        let ended = self.call(run, host, (keys, args), &mut reply);
        let stop = self.shared.take_stop(&self.sandbox.lua);
        self.collect();
        if let Ok(Some(stop)) = stop {
            out.truncate(start);
            let Halt::Kill(text) = stop else {
                return Outcome::Abandoned;
            };
            let source = match run {
                Run::Script(_) => "@user_script",
                Run::Function { .. } => "@user_function",
            };
            let place = self.shared.stopped_at.take().map_or(String::new(), |line| {
                format!(" script: {name}, on {source}:{line}.")
            });
            let text = format!("{text}{place}");
            write_line(b'-', text.as_bytes(), &mut Reply::new(out, resp));
            return Outcome::Killed;
        }
        let error = match ended {
            Ok(None) => return Outcome::Done,
            Ok(Some(error)) => error,
            Err(error) => {
                let text = short(&error.to_string());
                Failure::plain(format!("ERR Error running script {name}, {text}"))
            }
        };
        out.truncate(start);
        let text = error.text(&name);
        write_line(b'-', &text, &mut Reply::new(out, resp));
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        Outcome::Failed {
            code: String::from_utf8_lossy(code).into_owned(),
            counted: error.counted,
        }
    }

    /// Runs and writes the reply; an error of the script is returned.
    fn call(
        &self,
        run: Run<'_>,
        host: &mut dyn Host,
        (keys, args): (&[&[u8]], &[&[u8]]),
        reply: &mut Reply<'_>,
    ) -> mlua::Result<Option<Failure>> {
        let lua = &self.sandbox.lua;
        let list = |words: &[&[u8]]| {
            let words: mlua::Result<Vec<_>> =
                words.iter().map(|word| lua.create_string(word)).collect();
            lua.create_sequence_from(words?)
        };
        let (keys, args) = (list(keys)?, list(args)?);
        let mut calls = Calls::new(host, Rc::clone(&self.shared));
        let door = core::cell::RefCell::new(&mut calls);
        let results: MultiValue = lua.scope(|scope| {
            let host = scope.create_function_mut(|lua, args: MultiValue| {
                let result = door.borrow_mut().run(lua, args);
                bundled::answer(lua, result)
            })?;
            self.sandbox.bridge.raw_set(1, host)?;
            let results = match run {
                Run::Script(script) => {
                    let globals = &self.sandbox.globals;
                    globals.raw_set("KEYS", keys)?;
                    globals.raw_set("ARGV", args)?;
                    let function = self.scripts.get(&script.sha).map(|(_, function)| function);
                    self.sandbox.run_script.call(function.ok_or_else(missing)?)
                }
                Run::Function { library, name } => {
                    let loaded = self.libraries.get(library);
                    let function = loaded.and_then(|loaded| loaded.functions.get(name));
                    let function = function.ok_or_else(missing)?;
                    self.sandbox.run_function.call((function, keys, args))
                }
            };
            self.sandbox.bridge.raw_set(1, Value::Nil)?;
            results
        })?;
        let mut results = results.into_iter();
        let succeeded = results.next() == Some(Value::Boolean(true));
        let value = results.next().unwrap_or(Value::Nil);
        if !succeeded {
            return Ok(Some(Failure::of(&value)));
        }
        let returned = returned_error(&value);
        match reply::write(&value, calls.resp, reply, 0) {
            Ok(()) => Ok(returned),
            Err(Unwritten::TooLarge) => Ok(Some(Failure::plain(
                "ERR the script's reply is too large".to_owned(),
            ))),
            Err(Unwritten::Lua) => Ok(Some(Failure::plain(
                "ERR the script's reply cannot be read".to_owned(),
            ))),
        }
    }

    fn collect(&mut self) {
        let lua = &self.sandbox.lua;
        if lua.used_memory() > self.bytes_max.get() / 2 {
            // Lua collects nothing when it meets its limit: the next script must not pay for this one's garbage.
            let _ = lua.gc_collect();
        }
        self.runs += 1;
        if self.runs >= RUNS_PER_STEP {
            self.runs = 0;
            // A finaliser may fail; none of ours does.
            let _ = self.sandbox.lua.gc_step_kbytes(STEP_KB);
        }
    }

    /// Runs the code of a library for what it registers. It is kept as loaded if it has a name and functions.
    ///
    /// # Errors
    /// The text of the refusal, without its code.
    pub fn load(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Arc<Library>, String> {
        let (name, at) = library_name(code)?;
        let functions = self.register(&code[at..], host)?;
        let library = Arc::new(Library {
            name: name.clone(),
            code: code.to_vec(),
            functions: functions.iter().map(|(f, _)| f.clone()).collect(),
            wide: AtomicBool::new(false),
            long: functions.iter().map(|_| AtomicBool::new(false)).collect(),
        });
        let functions = functions.into_iter();
        let loaded = Loaded {
            library: Arc::clone(&library),
            functions: functions.map(|(f, run)| (f.name, run)).collect(),
        };
        self.libraries.insert(name, loaded);
        Ok(library)
    }

    fn register(
        &mut self,
        code: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<(crate::library::Function, Function)>, String> {
        let env = &self.sandbox.function_env;
        let chunk = compile(&self.sandbox, code, "@user_function", Some(env))
            .map_err(|text| format!("Error compiling function: {text}"))?;
        *self.shared.loading.borrow_mut() = Some(Vec::new());
        let ran = self.run_chunk(&chunk, host);
        let functions = self.shared.loading.borrow_mut().take().unwrap_or_default();
        let failed = |text: &str| Err(format!("Error registering functions: {text}"));
        match self.shared.take_stop(&self.sandbox.lua) {
            Ok(Some(Halt::Kill(text))) => return failed(&text),
            // (What is loaded calls nothing, and no watchdog moves it.)
            Ok(Some(Halt::Abandon)) => return failed("abandoned"),
            Ok(None) => {}
            Err(error) => return failed(&error.to_string()),
        }
        match ran {
            Ok(None) => {}
            Ok(Some(text)) => return failed(&String::from_utf8_lossy(&text)),
            Err(error) => return failed(&short(&error.to_string())),
        }
        if functions.is_empty() {
            return Err("No functions registered".to_owned());
        }
        let functions = functions.into_iter();
        Ok(functions.map(|new| (new.function, new.callback)).collect())
    }

    /// The error that a chunk of a library ended with, if it did.
    fn run_chunk(&self, chunk: &Function, host: &mut dyn Host) -> mlua::Result<Option<Vec<u8>>> {
        let lua = &self.sandbox.lua;
        let mut calls = Calls::new(host, Rc::clone(&self.shared));
        let door = core::cell::RefCell::new(&mut calls);
        self.sandbox.set_loading(true)?;
        let results: mlua::Result<MultiValue> = lua.scope(|scope| {
            let host = scope.create_function_mut(|lua, args: MultiValue| {
                let result: Result<MultiValue, Fault> = door.borrow_mut().run(lua, args);
                bundled::answer(lua, result)
            })?;
            self.sandbox.bridge.raw_set(1, host)?;
            let results = self.sandbox.run_script.call(chunk);
            self.sandbox.bridge.raw_set(1, Value::Nil)?;
            results
        });
        self.sandbox.set_loading(false)?;
        let mut results = results?.into_iter();
        if results.next() == Some(Value::Boolean(true)) {
            return Ok(None);
        }
        Ok(Some(
            Failure::of(&results.next().unwrap_or(Value::Nil)).message,
        ))
    }

    /// Loads libraries that others have loaded, and forgets those that are gone. One that stays keeps its state.
    pub fn sync(&mut self, libraries: &Libraries, host: &mut dyn Host) {
        self.libraries.retain(|name, loaded| {
            let known = libraries.get(name);
            known.is_some_and(|known| Arc::ptr_eq(known, &loaded.library))
        });
        for library in libraries.iter() {
            if self.libraries.contains_key(&library.name) {
                continue;
            }
            let Ok((_, at)) = library_name(&library.code) else {
                continue;
            };
            // It has been loaded elsewhere; should it fail here, its functions are not found.
            if let Ok(functions) = self.register(&library.code[at..], host) {
                let functions = functions.into_iter();
                let loaded = Loaded {
                    library: Arc::clone(library),
                    functions: functions.map(|(f, run)| (f.name, run)).collect(),
                };
                self.libraries.insert(library.name.clone(), loaded);
            }
        }
    }
}

fn missing() -> mlua::Error {
    mlua::Error::runtime("the code is not loaded here")
}

fn compile(
    sandbox: &Sandbox,
    code: &[u8],
    name: &str,
    env: Option<&Table>,
) -> Result<Function, String> {
    if code.first() == Some(&b'\x1b') {
        let shown = name.trim_start_matches('@');
        return Err(format!("{shown}:1: unexpected symbol near '<ESC>'"));
    }
    let mut chunk = sandbox.lua.load(code).set_name(name);
    if let Some(env) = env {
        chunk = chunk.set_environment(env.clone());
    }
    chunk.into_function().map_err(|error| match error {
        mlua::Error::SyntaxError { message, .. } => message,
        other => short(&other.to_string()),
    })
}

/// The beginning of a text of Lua's own.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("runtime error: ").unwrap_or(line);
    line.strip_prefix("memory error: ")
        .unwrap_or(line)
        .chars()
        .take(100)
        .collect()
}

/// An error that a script ended with or has returned.
struct Failure {
    message: Vec<u8>,
    place: Option<(Vec<u8>, i64)>,
    counted: bool,
    /// It is no table: the script failed in a way that its error handler did not see.
    bare: bool,
}

impl Failure {
    fn plain(message: String) -> Failure {
        Failure {
            message: message.into_bytes(),
            place: None,
            counted: false,
            bare: false,
        }
    }

    fn of(value: &Value) -> Failure {
        let text = |value: Value| match value {
            Value::String(text) => Some(text.as_bytes().to_vec()),
            other => bundled::number_of(&other).map(|n| {
                let mut text = Vec::new();
                bundled::write_general(n, 14, &mut text);
                text
            }),
        };
        let Value::Table(table) = value else {
            let message = text(value.clone()).unwrap_or_else(|| match value {
                Value::Error(error) => short(&error.to_string()).into_bytes(),
                _ => b"execution failure".to_vec(),
            });
            return Failure {
                bare: true,
                ..Failure::plain(String::from_utf8_lossy(&message).into_owned())
            };
        };
        let field = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
        let line = bundled::number_of(&field("line")).map(|line| line as i64);
        let mut message = text(field("err")).unwrap_or_else(|| b"ERR unknown error".to_vec());
        // An error ends at a zero byte, as a C string does.
        let end = message.iter().position(|byte| *byte == 0);
        message.truncate(end.unwrap_or(message.len()));
        Failure {
            message,
            place: text(field("source")).zip(line),
            counted: field("ignore_error_stats_update") == Value::Boolean(true),
            bare: false,
        }
    }

    fn text(&self, name: &str) -> Vec<u8> {
        let mut text = Vec::new();
        if self.bare {
            text.extend(format!("ERR Error running script {name}, ").into_bytes());
            text.extend(self.message.iter().take(100));
            return text;
        }
        text.extend_from_slice(&self.message);
        if let Some((source, line)) = &self.place {
            text.extend(format!(" script: {name}, on ").into_bytes());
            text.extend_from_slice(source);
            text.extend(format!(":{line}.").into_bytes());
        }
        text
    }
}

/// The error that a script returns as its value: it is written as it is, and counts as one.
fn returned_error(value: &Value) -> Option<Failure> {
    let Value::Table(table) = value else {
        return None;
    };
    match table.raw_get::<Value>("err") {
        Ok(Value::String(_)) => {
            let mut failure = Failure::of(value);
            failure.place = None;
            let len = reply::error_line(&failure.message).len();
            failure.message.truncate(len);
            Some(failure)
        }
        _ => None,
    }
}
