//! Libraries of functions: what FUNCTION LOAD registers. Plain data; the code runs in an `Engine`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use mlua::Value;

use crate::bundled::Words;
use crate::sandbox::text_like;
use crate::source::{BAD_NAME, Flags, is_name};

/// A function of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, unlike that of any other function of the server.
    pub name: String,
    /// What it says of itself.
    pub description: Option<Vec<u8>>,
    /// What it declares.
    pub flags: Flags,
}

/// A library: its code and what that registers.
#[derive(Debug)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// The whole text, the first line included.
    pub code: Vec<u8>,
    /// Its functions.
    pub functions: Vec<Function>,
    pub(crate) wide: AtomicBool,
    /// Which of the functions have run for long.
    pub(crate) long: Box<[AtomicBool]>,
}

impl Library {
    /// Whether one of its functions has used keys beside those that it was given: they start with all slots in place.
    pub fn is_wide(&self) -> bool {
        self.wide.load(Relaxed)
    }

    /// Notes that one has.
    pub fn set_wide(&self) {
        self.wide.store(true, Relaxed);
    }

    fn long_of(&self, name: &str) -> Option<&AtomicBool> {
        let mut functions = self.functions.iter().zip(&self.long);
        let found = functions.find(|(function, _)| function.name == name);
        found.map(|(_, long)| long)
    }

    /// Whether one of its functions has run for so long that it is to start beside the cores.
    pub fn is_long(&self, name: &str) -> bool {
        // (Mostly none has, and no name is compared.)
        self.long.iter().any(|long| long.load(Relaxed))
            && self.long_of(name).is_some_and(|long| long.load(Relaxed))
    }

    /// Notes that it has, or that its last run was short.
    pub fn set_long(&self, name: &str, is_long: bool) {
        if let Some(long) = self.long_of(name) {
            long.store(is_long, Relaxed);
        }
    }
}

/// All libraries of a server.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    by_name: BTreeMap<String, Arc<Library>>,
}

impl Libraries {
    /// All libraries, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    /// The library of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Library>> {
        self.by_name.get(name)
    }

    /// The library that has a function, and the function.
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        self.by_name.values().find_map(|library| {
            let mut functions = library.functions.iter();
            let function =
                functions.find(|function| function.name.as_bytes().eq_ignore_ascii_case(name))?;
            Some((library, function))
        })
    }

    /// Number of functions of all libraries.
    pub fn functions(&self) -> usize {
        self.iter().map(|library| library.functions.len()).sum()
    }

    /// Bytes of the libraries' texts.
    pub fn bytes(&self) -> usize {
        self.iter().map(|library| library.code.len()).sum()
    }

    /// Adds libraries, all or none; those with the same names are replaced if `replace`.
    ///
    /// # Errors
    /// The text of the refusal, without its code: a name that is taken.
    pub fn add(&mut self, new: &[Arc<Library>], replace: bool) -> Result<(), String> {
        let mut joined = self.clone();
        for library in new {
            if joined.by_name.remove(&library.name).is_some() && !replace {
                return Err(format!("Library {} already exists", library.name));
            }
        }
        for library in new {
            let taken = |function: &&Function| joined.function(function.name.as_bytes()).is_some();
            if let Some(function) = library.functions.iter().find(taken) {
                return Err(format!("Function {} already exists", function.name));
            }
            let library = Arc::clone(library);
            joined.by_name.insert(library.name.clone(), library);
        }
        *self = joined;
        Ok(())
    }

    /// Removes a library; whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let name = core::str::from_utf8(name).unwrap_or_default();
        self.by_name.remove(name).is_some()
    }
}

/// What `redis.register_function` was given.
pub(crate) struct Registered {
    pub(crate) function: Function,
    pub(crate) callback: mlua::Function,
}

impl Registered {
    pub(crate) fn has_name(&self, other: &Registered) -> bool {
        let name = &self.function.name;
        name.eq_ignore_ascii_case(&other.function.name)
    }

    /// Reads the arguments: a table with names, or name and function.
    pub(crate) fn read(args: &Words) -> Result<Registered, String> {
        let (name, callback, description, flags) = match args.len() {
            1 => named(args.get(0))?,
            2 => {
                let name = text_like(args.get(0))
                    .ok_or("first argument to redis.register_function must be a string")?;
                let Value::Function(callback) = args.get(1) else {
                    let text = "second argument to redis.register_function must be a function";
                    return Err(text.to_owned());
                };
                (name, callback.clone(), None, Flags::default())
            }
            _ => {
                let text = "wrong number of arguments to redis.register_function";
                return Err(text.to_owned());
            }
        };
        if !is_name(&name) {
            return Err(BAD_NAME.to_owned());
        }
        Ok(Registered {
            function: Function {
                name: String::from_utf8_lossy(&name).into_owned(),
                description,
                flags,
            },
            callback,
        })
    }
}

type Named = (Vec<u8>, mlua::Function, Option<Vec<u8>>, Flags);

fn named(argument: &Value) -> Result<Named, String> {
    let Value::Table(table) = argument else {
        let text = "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).";
        return Err(text.to_owned());
    };
    let (mut name, mut callback, mut description, mut flags) = (None, None, None, Flags::default());
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let key = text_like(&key)
            .ok_or("named argument key given to redis.register_function is not a string")?;
        match key.to_ascii_lowercase().as_slice() {
            b"function_name" => {
                let text =
                    "function_name argument given to redis.register_function must be a string";
                name = Some(text_like(&value).ok_or(text)?);
            }
            b"description" => {
                let text = "description argument given to redis.register_function must be a string";
                description = Some(text_like(&value).ok_or(text)?);
            }
            b"callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => {
                    let text =
                        "callback argument given to redis.register_function must be a function";
                    return Err(text.to_owned());
                }
            },
            b"flags" => flags = read_flags(&value)?,
            _ => return Err("unknown argument given to redis.register_function".to_owned()),
        }
    }
    Ok((
        name.ok_or("redis.register_function must get a function name argument")?,
        callback.ok_or("redis.register_function must get a callback argument")?,
        description,
        flags,
    ))
}

fn read_flags(value: &Value) -> Result<Flags, String> {
    let Value::Table(table) = value else {
        let text =
            "flags argument to redis.register_function must be a table representing function flags";
        return Err(text.to_owned());
    };
    let mut flags = Flags::default();
    for name in table.sequence_values::<Value>() {
        let name = name.ok().as_ref().and_then(text_like);
        let flag = name.and_then(|name| Flags::named(&name, true));
        flags = flags.and(flag.ok_or("unknown flag given")?);
    }
    Ok(flags)
}
