//! ACL: who may run which command on which keys and channels.
//!
//! ```text
//!   `user` lines ─┐                                      ┌─> Core::users on each core (a snapshot, taken by mail)
//!   ACL file     ─┼─> rules ─> Users (one Arc in Node) ──┤        └─> Connection::user, looked up anew when the
//!   ACL SETUSER  ─┘                                      └─> ACL LIST, SAVE, CONFIG REWRITE      number changed
//! ```
//! A connection whose user may do everything passes no check at all: it holds the number of the snapshot for which
//! that was found, and dispatch compares two numbers. All others go through the gates, where a command is one bit of a
//! map made when the rules were read, and keys are compared with patterns.
//!
//! For what runs commands on behalf of a client elsewhere (scripts): [`crate::core::Core::may_run`]; for single
//! channels: [`User::may_use_channel`].
//!
//! Not here: the ACL commands (`admin/users.rs`), the gates (`dispatch.rs`).

mod file;
pub mod log;
pub mod password;
mod rules;
#[cfg(test)]
mod tests;
mod user;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use file::{at_start, from_file, grammar, save};
pub use log::{Denial, Log, Place};
pub use rules::{Grammar, RuleError, has_blanks, merged};
pub use user::{Denied, Selector, User, check_sort};

use password::Hash;

/// The user of connections that have not logged in.
pub const DEFAULT_USER: &[u8] = b"default";

/// All users: a snapshot that is replaced as a whole.
#[derive(Clone, Debug)]
pub struct Users {
    by_name: BTreeMap<Vec<u8>, Arc<User>>,
    default: Arc<User>,
    next_id: u64,
    /// The number of this snapshot; never 0.
    pub epoch: u32,
    /// Connections need not log in: the default user is enabled and has no password.
    pub open: bool,
}

impl Users {
    /// The default user alone.
    pub fn new(grammar: Grammar<'_>) -> Users {
        let default = Arc::new(grammar.default_user(1));
        Users {
            by_name: BTreeMap::from([(DEFAULT_USER.to_vec(), Arc::clone(&default))]),
            default,
            next_id: 2,
            epoch: 1,
            open: true,
        }
    }

    /// The default user.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// A user by its name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// What has become of a user; None when it was deleted, even if another has its name now.
    pub fn again(&self, user: &User) -> Option<&Arc<User>> {
        self.get(&user.name).filter(|now| now.id == user.id)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// Puts a user in, in the place of one with its name.
    pub fn put(&mut self, mut user: User) {
        user.settle();
        let user = Arc::new(user);
        if user.name == DEFAULT_USER {
            self.default = Arc::clone(&user);
            self.open = user.enabled && user.nopass;
        }
        self.by_name.insert(user.name.clone(), user);
    }

    /// Takes users away; how many there were. The default user stays.
    pub fn remove<'a>(&mut self, names: impl Iterator<Item = &'a [u8]>) -> usize {
        names
            .filter(|name| *name != DEFAULT_USER && self.by_name.remove(*name).is_some())
            .count()
    }

    /// A number that no user has had.
    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// ACL SETUSER: all rules or none.
    ///
    /// # Errors
    /// The text of the refusal.
    pub fn set(
        &mut self,
        grammar: Grammar<'_>,
        name: &[u8],
        words: &[Vec<u8>],
    ) -> Result<(), String> {
        let rules = merged(words).map_err(|word| {
            let word = String::from_utf8_lossy(word);
            format!("Unmatched parenthesis in acl selector starting at '{word}'.")
        })?;
        let mut user = match self.get(name) {
            Some(user) => User::clone(user),
            None => {
                let id = self.fresh_id();
                grammar.new_user(name, id)
            }
        };
        for rule in rules {
            grammar.apply(&mut user, &rule).map_err(|error| {
                let rule = String::from_utf8_lossy(&rule);
                format!("Error in ACL SETUSER modifier '{rule}': {}", error.text())
            })?;
        }
        self.put(user);
        Ok(())
    }

    /// `requirepass`: the only password of the default user; none when empty.
    pub fn set_default_password(&mut self, password: &[u8]) {
        let mut user = User::clone(&self.default);
        user.passwords.clear();
        user.nopass = password.is_empty();
        if !password.is_empty() {
            user.passwords.push(Hash::of(password));
        }
        self.put(user);
    }

    /// The user that a name and a password open.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        let user = self.get(name).filter(|user| user.enabled)?;
        if user.nopass {
            return Some(user);
        }
        let hash = Hash::of(password);
        // All are compared, so that the time does not tell which one was near.
        let known = user
            .passwords
            .iter()
            .fold(false, |known, one| known | one.is_same(&hash));
        known.then_some(user)
    }
}
