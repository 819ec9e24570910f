//! Users at the start, and the ACL file: one `user` line each, as Redis writes and reads them.

use std::path::{Path, PathBuf};

use super::rules::{Grammar, RuleError, has_blanks, merged};
use super::{DEFAULT_USER, Users};
use crate::config::{Config, Disk, Files, PubsubDefault, UserLine, os_text};
use crate::table::Table;

/// What rules are read against, under this configuration.
pub fn grammar<'a>(config: &Config, table: &'a Table) -> Grammar<'a> {
    Grammar {
        table,
        all_channels: config.acl_pubsub_default == PubsubDefault::AllChannels,
    }
}

/// The users that a configuration declares: by `user` lines, by an ACL file, and by `requirepass`.
///
/// # Errors
/// Why the server must not start.
pub fn at_start(config: &Config, table: &Table) -> Result<Users, String> {
    let grammar = grammar(config, table);
    let mut users = Users::new(grammar);
    users.set_default_password(config.requirepass.as_bytes());
    if !config.aclfile.is_empty() && !config.users.is_empty() {
        return Err(
            "users are declared both by `user` lines and by an `aclfile`: keep them in one place"
                .to_owned(),
        );
    }
    for (at, line) in config.users.iter().enumerate() {
        if config.users[..at]
            .iter()
            .any(|other| other.name == line.name)
        {
            let name = String::from_utf8_lossy(&line.name);
            return Err(format!(
                "Error in user declaration '{name}': Duplicate user found. A user can only be defined once in config files"
            ));
        }
        declare(&mut users, grammar, line)?;
    }
    if !config.aclfile.is_empty() {
        from_file(&mut users, config, table)?;
    }
    Ok(users)
}

/// One `user` line of a redis.conf.
fn declare(users: &mut Users, grammar: Grammar<'_>, line: &UserLine) -> Result<(), String> {
    let name = String::from_utf8_lossy(&line.name);
    // Of the rule only what is no secret is told.
    let failed = |why: &str| format!("Error in user declaration '{name}': {why}");
    if has_blanks(&line.name) {
        return Err(failed("Spaces not allowed in ACL usernames"));
    }
    let rules =
        merged(&line.rules).map_err(|_| failed("Unmatched parenthesis in selector definition"))?;
    let id = match users.get(&line.name) {
        Some(default) => default.id,
        None => users.fresh_id(),
    };
    let mut user = grammar.new_user(&line.name, id);
    for rule in rules {
        grammar
            .apply(&mut user, &rule)
            .map_err(|error| match error {
                RuleError::Unknown => failed(&format!(
                    "{} ('{}')",
                    error.text(),
                    String::from_utf8_lossy(&rule)
                )),
                error => failed(error.text()),
            })?;
    }
    users.put(user);
    Ok(())
}

/// Where the ACL file is: relative to the folder of the data.
fn path_of(config: &Config) -> PathBuf {
    Path::new(&config.dir).join(&config.aclfile)
}

/// Replaces all users by those of the ACL file, or changes nothing. Whoever is connected stays only as the default
/// user, as in Redis: the users of the file are new ones.
///
/// # Errors
/// What is wrong with the file.
pub fn from_file(users: &mut Users, config: &Config, table: &Table) -> Result<(), String> {
    let text = Disk.read(&path_of(config)).map_err(|error| {
        let name = &config.aclfile;
        format!(
            "Error loading ACLs, opening file '{name}': {}",
            os_text(&error)
        )
    })?;
    let new = parse(users, &text, &config.aclfile, grammar(config, table))?;
    *users = new;
    Ok(())
}

/// The users of a file's text.
fn parse(old: &Users, text: &[u8], name: &str, grammar: Grammar<'_>) -> Result<Users, String> {
    let mut users = Users::new(grammar);
    (users.next_id, users.epoch) = (old.next_id, old.epoch);
    users.by_name.clear();
    let mut errors = String::new();
    for (at, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            parse_line(
                &mut users,
                line,
                &format!("{name}:{}", at + 1),
                grammar,
                &mut errors,
            );
        }
    }
    if !errors.is_empty() {
        errors.push_str("WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
        return Err(errors);
    }
    let mut default = match users.get(DEFAULT_USER) {
        Some(user) => super::User::clone(user),
        None => grammar.default_user(0),
    };
    default.id = old.default_user().id;
    users.put(default);
    Ok(users)
}

fn parse_line(
    users: &mut Users,
    line: &[u8],
    place: &str,
    grammar: Grammar<'_>,
    errors: &mut String,
) {
    let words: Vec<Vec<u8>> = line.split(|b| *b == b' ').map(<[u8]>::to_vec).collect();
    let (name, rules) = match words.as_slice() {
        [user, name, rules @ ..] if user == b"user" => (name, rules),
        _ => {
            let text = format!("{place} should start with user keyword followed by the username. ");
            return errors.push_str(&text);
        }
    };
    let told = String::from_utf8_lossy(name);
    if has_blanks(name) {
        let text = format!("'{place}: username '{told}' contains invalid characters. ");
        return errors.push_str(&text);
    }
    if users.get(name).is_some() {
        let line = place.rsplit(':').next().unwrap_or_default();
        let text = format!("WARNING: Duplicate user '{told}' found on line {line}. ");
        return errors.push_str(&text);
    }
    let id = users.fresh_id();
    let mut user = grammar.new_user(name, id);
    let Ok(rules) = merged(rules) else {
        let text = format!("{place}: Unmatched parenthesis in selector definition.");
        return errors.push_str(&text);
    };
    let mut told_one = false;
    for rule in &rules {
        let rule = rule.trim_ascii();
        let Err(error) = grammar.apply(&mut user, rule) else {
            continue;
        };
        if error == RuleError::Unknown {
            let rule = String::from_utf8_lossy(rule);
            let text = format!(
                "{place}: Error in applying operation '{rule}': {}. ",
                error.text()
            );
            errors.push_str(&text);
        } else if !told_one {
            told_one = true;
            errors.push_str(&format!("{place}: {}. ", error.text()));
        }
    }
    users.put(user);
}

/// The text of an ACL file with these users.
fn text_of(users: &Users) -> Vec<u8> {
    let mut text = Vec::new();
    for user in users.iter() {
        text.extend_from_slice(&user.line());
        text.push(b'\n');
    }
    text
}

/// ACL SAVE: the file is replaced as a whole.
///
/// # Errors
/// What the system says.
pub fn save(users: &Users, config: &Config) -> std::io::Result<()> {
    Disk.replace(&path_of(config), &text_of(users))
}
