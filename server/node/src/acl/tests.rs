//! ACL as clients meet it: rules told back, requests refused, connections closed.

use crate::testing::{Bench, Client};

/// Plays `request -> reply` lines; `\r\n` stands as a blank.
fn play(bench: &mut Bench, client: Client, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (request, expected) = line.split_once(" -> ").unwrap();
        let reply = bench.call(client, request);
        assert_eq!(reply.trim_end().replace("\r\n", " "), expected, "{request}");
    }
}

/// The rules of a user as ACL LIST tells them, after some rules.
fn told(rules: &str) -> String {
    let mut bench = Bench::new(1);
    let client = bench.connect(0);
    let reply = bench.call(client, &format!("ACL SETUSER u {rules}"));
    if reply != "+OK\r\n" {
        return reply.trim_end().to_owned();
    }
    let list = bench.call(client, "ACL LIST");
    let line = list.lines().find(|line| line.starts_with("user u "));
    line.unwrap().trim_start_matches("user u ").to_owned()
}

#[test]
fn rules_are_told_as_redis_tells_them() {
    let foo = "#2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let cases = [
        ("", "off sanitize-payload resetchannels -@all"),
        (
            "on nopass ~* &* +@all",
            "on nopass sanitize-payload ~* &* +@all",
        ),
        (
            "on >foo >foo allkeys",
            &format!("on sanitize-payload {foo} ~* resetchannels -@all"),
        ),
        (
            ">foo nopass",
            "off nopass sanitize-payload resetchannels -@all",
        ),
        (
            "nopass resetpass skip-sanitize-payload",
            "off skip-sanitize-payload resetchannels -@all",
        ),
        (">foo <foo", "off sanitize-payload resetchannels -@all"),
        (
            "%R~a %W~a %rw~b %R~c ~d ~d",
            "off sanitize-payload ~a ~b %R~c ~d resetchannels -@all",
        ),
        ("&a &b &a", "off sanitize-payload resetchannels &a &b -@all"),
        (
            "+get +set -get",
            "off sanitize-payload resetchannels -@all +set -get",
        ),
        (
            "+@all -@dangerous +KEYS",
            "off sanitize-payload resetchannels +@all -@dangerous +keys",
        ),
        (
            "+config|get +config|set +config",
            "off sanitize-payload resetchannels -@all +config",
        ),
        (
            "+config -config|set",
            "off sanitize-payload resetchannels -@all +config -config|set",
        ),
        (
            "+select|0 +select|1",
            "off sanitize-payload resetchannels -@all +select|0 +select|1",
        ),
        (
            "+@read +get +@read",
            "off sanitize-payload resetchannels -@all +get +@read",
        ),
        (
            "+@all allcommands nocommands",
            "off sanitize-payload resetchannels -@all",
        ),
        (
            "on ~* (+get ~a*) ( %R~b +@read )",
            "on sanitize-payload ~* resetchannels -@all (~a* resetchannels -@all +get) (%R~b resetchannels -@all +@read)",
        ),
        (
            "(+get) clearselectors",
            "off sanitize-payload resetchannels -@all",
        ),
        (
            "on >foo ~* +@all (+get) reset",
            "off sanitize-payload resetchannels -@all",
        ),
    ];
    for (rules, expected) in cases {
        assert_eq!(told(rules), expected, "{rules}");
    }
}

#[test]
fn wrong_rules_are_refused_and_change_nothing() {
    let why = |rule: &str, why: &str| format!("-ERR Error in ACL SETUSER modifier '{rule}': {why}");
    let cases = [
        ("nonsense", "Syntax error"),
        ("%x~a", "Syntax error"),
        ("%~a", "Syntax error"),
        ("+nosuch", "Unknown command or category name in ACL"),
        ("-@nosuch", "Unknown command or category name in ACL"),
        ("+config|nosuch", "Unknown command or category name in ACL"),
        ("-select|0", "Unknown command or category name in ACL"),
        (
            "+config|get|x",
            "Allowing first-arg of a subcommand is not supported",
        ),
        ("+select|", "Syntax error"),
        (
            "<nosuch",
            "The password you are trying to remove from the user does not exist",
        ),
        (
            "#123",
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
        ),
        ("(on)", "Syntax error"),
    ];
    for (rule, text) in cases {
        assert_eq!(told(&format!("on {rule}")), why(rule, text));
    }
    assert!(told("~* ~a").contains("Adding a pattern after the * pattern (or the 'allkeys' flag)"));
    assert!(told("&* &a").contains("Try 'resetchannels' to start with an empty list of channels"));
    assert_eq!(
        told("(+get ~a"),
        "-ERR Unmatched parenthesis in acl selector starting at '(+get'."
    );
    let mut bench = Bench::new(1);
    let client = bench.connect(0);
    bench.call(client, "ACL SETUSER u on nonsense");
    assert_eq!(bench.call(client, "ACL USERS"), "*1\r\n$7\r\ndefault\r\n");
}

#[test]
fn users_may_do_what_their_rules_say() {
    for cores in [1, 2] {
        let mut bench = Bench::new(cores);
        let (admin, client) = (bench.connect(0), bench.connect(cores - 1));
        let no_key = "-NOPERM No permissions to access a key";
        play(&mut bench, admin, "
            ACL SETUSER u on >pw ~rw:* %R~r:* %W~w:* &news.* +@all -@admin -flushall +acl|whoami (~sel:* -@all +get) -> +OK
            ACL SETUSER v on nopass +ping +select|0 +debug|object -> +OK
            SET rw:1 x -> +OK
        ");
        play(&mut bench, client, &format!("
            AUTH u wrong -> -WRONGPASS invalid username-password pair or user is disabled.
            AUTH nosuch pw -> -WRONGPASS invalid username-password pair or user is disabled.
            AUTH u pw -> +OK
            ACL WHOAMI -> $1 u
            GET rw:1 -> $1 x
            SET r:1 x -> {no_key}
            GET r:1 -> $-1
            STRLEN r:1 -> :0
            GET w:1 -> {no_key}
            SET w:1 x -> +OK
            EXISTS w:1 -> :1
            SET w:1 y GET -> {no_key}
            BITFIELD r:1 GET u8 0 -> *1 :0
            BITFIELD r:1 SET u8 0 1 -> {no_key}
            MGET rw:1 other -> {no_key}
            COPY r:1 w:2 -> :0
            COPY w:1 r:2 -> {no_key}
            GET sel:1 -> $-1
            SET sel:1 x -> {no_key}
            FLUSHALL -> -NOPERM User u has no permissions to run the 'flushall' command
            CONFIG GET x -> -NOPERM User u has no permissions to run the 'config|get' command
            SORT rw:1 BY x* -> -ERR BY option of SORT denied due to insufficient ACL permissions.
            SORT rw:1 BY x GET # -> -ERR GET option of SORT denied due to insufficient ACL permissions.
            ZUNIONSTORE rw:9 2 r:1 w:1 -> {no_key}
            ZUNIONSTORE rw:9 nan r:1 -> -ERR value is not an integer or out of range
            MULTI -> +OK
            SET r:1 x -> {no_key}
            SET rw:2 x -> +QUEUED
            EXEC -> -EXECABORT Transaction discarded because of previous errors.
            AUTH v any -> +OK
            PING -> +PONG
            SELECT 0 -> +OK
            SELECT 1 -> -NOPERM User v has no permissions to run the 'select' command
            GET rw:1 -> -NOPERM User v has no permissions to run the 'get' command
            RESET -> +RESET
            GET rw:1 -> $1 x
        "));
    }
}

#[test]
fn changes_reach_connections_at_once_and_deleted_users_lose_theirs() {
    for cores in [1, 3] {
        let mut bench = Bench::new(cores);
        let (admin, client) = (bench.connect(0), bench.connect(cores - 1));
        let idle = bench.connect(cores / 2);
        play(&mut bench, admin, "ACL SETUSER u on nopass ~* +@all -> +OK");
        play(
            &mut bench,
            client,
            "AUTH u x -> +OK
            SET a 1 -> +OK
            MULTI -> +OK
            GET a -> +QUEUED",
        );
        play(&mut bench, idle, "AUTH u x -> +OK");
        play(&mut bench, admin, "ACL SETUSER u -get -> +OK");
        let reply = bench.call(client, "EXEC");
        assert!(
            reply.starts_with("*1\r\n-NOPERM ACLs rules changed between the moment"),
            "{reply}"
        );
        assert!(reply.ends_with("reason: no permission to execute the command or subcommand\r\n"));
        play(
            &mut bench,
            client,
            "GET a -> -NOPERM User u has no permissions to run the 'get' command",
        );
        play(&mut bench, admin, "ACL SETUSER u off -> +OK");
        play(&mut bench, client, "PING -> +PONG");
        play(&mut bench, admin, "ACL DELUSER u nosuch -> :1");
        assert!(bench.is_closed(client) && bench.is_closed(idle), "{cores}");
        play(
            &mut bench,
            admin,
            "ACL DELUSER default -> -ERR The 'default' user cannot be removed
            ACL GETUSER u -> $-1",
        );
        // Somebody who deletes itself is told so first.
        play(&mut bench, admin, "ACL SETUSER u on nopass ~* +@all -> +OK");
        let own = bench.connect(cores - 1);
        play(
            &mut bench,
            own,
            "AUTH u x -> +OK
            ACL DELUSER u -> :1",
        );
        assert!(bench.is_closed(own) && !bench.is_closed(admin));
    }
}

#[test]
fn the_default_user_and_requirepass_are_one() {
    let mut bench = Bench::with(2, |config| config.requirepass = b"secret"[..].into());
    let client = bench.connect(0);
    play(
        &mut bench,
        client,
        "
        GET a -> -NOAUTH Authentication required.
        HELLO 3 AUTH default wrong -> -WRONGPASS invalid username-password pair or user is disabled.
        AUTH secret -> +OK
        ACL SETUSER default resetpass >other -> +OK
        CONFIG GET requirepass -> *2 $11 requirepass $6 secret
    ",
    );
    let other = bench.connect(1);
    play(&mut bench, other, "
        AUTH secret -> -WRONGPASS invalid username-password pair or user is disabled.
        AUTH other -> +OK
        ACL SETUSER default nopass -> +OK
        AUTH any -> -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
        AUTH default any -> +OK
        CONFIG SET requirepass third -> +OK
        ACL SETUSER default off -> +OK
        PING -> +PONG
    ");
    let late = bench.connect(0);
    play(
        &mut bench,
        late,
        "
        PING -> -NOAUTH Authentication required.
        AUTH third -> -WRONGPASS invalid username-password pair or user is disabled.
    ",
    );
}

#[test]
fn denials_are_logged() {
    let mut bench = Bench::new(2);
    let (admin, client) = (bench.connect(0), bench.connect(1));
    play(&mut bench, admin, "ACL SETUSER u on >pw +@all ~a -> +OK");
    for request in [
        "AUTH u no",
        "AUTH u pw",
        "GET b",
        "GET b",
        "MULTI",
        "GET b",
        "DISCARD",
    ] {
        bench.call(client, request);
    }
    play(&mut bench, admin, "ACL SETUSER u -@all -> +OK");
    bench.call(client, "CONFIG GET x");
    let log = bench.call(admin, "ACL LOG");
    let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('$')).collect();
    let field = |name: &str| -> Vec<&str> {
        let at = lines.iter().enumerate().filter(|(_, line)| **line == name);
        at.map(|(at, _)| lines[at + 1]).collect()
    };
    assert_eq!(field("count"), [":1", ":1", ":2", ":1"]);
    assert_eq!(field("reason"), ["command", "key", "key", "auth"]);
    assert_eq!(
        field("context"),
        ["toplevel", "multi", "toplevel", "toplevel"]
    );
    assert_eq!(field("object"), ["config|get", "b", "b", "AUTH"]);
    assert_eq!(field("username"), ["u"; 4]);
    assert_eq!(field("age-seconds"), ["0"; 4]);
    assert_eq!(field("entry-id"), [":3", ":2", ":1", ":0"]);
    assert!(
        field("client-info")[1].contains(" flags=x ")
            && field("client-info")[1].ends_with(" lib-ver=")
    );
    assert!(bench.call(admin, "ACL LOG 1").starts_with("*1\r\n*20\r\n"));
    let stats = bench.call(admin, "INFO stats");
    assert!(stats.contains("acl_access_denied_auth:1\r\nacl_access_denied_cmd:1\r\nacl_access_denied_key:3\r\nacl_access_denied_channel:0"));
    play(
        &mut bench,
        admin,
        "ACL LOG RESET -> +OK
        ACL LOG -> *0
        ACL LOG x -> -ERR value is not an integer or out of range",
    );
}

#[test]
fn users_are_described_tried_and_counted() {
    let mut bench = Bench::new(1);
    let client = bench.connect(0);
    play(&mut bench, client, "
        ACL SETUSER u on nopass %R~a* &c +get +info (+set ~b) -> +OK
        ACL GETUSER u -> *12 $5 flags *3 $2 on $6 nopass $16 sanitize-payload $9 passwords *0 $8 commands $16 -@all +get +info $4 keys $5 %R~a* $8 channels $2 &c $9 selectors *1 *6 $8 commands $10 -@all +set $4 keys $2 ~b $8 channels $0 
        ACL DRYRUN u get a1 -> +OK
        ACL DRYRUN u get b -> $47 User u has no permissions to access the 'b' key
        ACL DRYRUN u set b x -> +OK
        ACL DRYRUN u set c x -> $47 User u has no permissions to access the 'c' key
        ACL DRYRUN u del b -> $50 User u has no permissions to run the 'del' command
        ACL DRYRUN u config get -> -ERR wrong number of arguments for 'config|get' command
        ACL DRYRUN u config nosuch -> -ERR Command 'config' not found
        ACL DRYRUN nosuch get a -> -ERR User 'nosuch' not found
        ACL LOAD -> -ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.
        ACL GENPASS 5000 -> -ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096
        CLIENT KILL USER u -> :0
        CLIENT KILL USER nosuch -> -ERR No such user 'nosuch'
    ".replace("$0 \n", "$0\n").as_str());
    assert_eq!(
        bench.call(client, "ACL GENPASS 10").len(),
        "$3\r\nabc\r\n".len()
    );
}

#[test]
fn files_hold_users_and_broken_ones_change_nothing() {
    let folder = std::env::temp_dir().join(format!("meridian-acl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("users.acl");
    std::fs::write(&file, "user default on nopass ~* &* +@all\n\nuser u on #2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae ~a -@all +get\r\n").unwrap();
    let mut bench = Bench::with(2, |config| {
        config.dir = folder.display().to_string();
        config.aclfile = "users.acl".to_owned();
    });
    let (admin, client) = (bench.connect(0), bench.connect(1));
    play(
        &mut bench,
        client,
        "AUTH u foo -> +OK
        GET a -> $-1",
    );
    play(
        &mut bench,
        admin,
        "ACL SETUSER w on nopass +@all (~x +get) -> +OK
        ACL SAVE -> +OK",
    );
    let saved = std::fs::read_to_string(&file).unwrap();
    assert_eq!(saved.lines().count(), 3);
    assert!(saved.contains(
        "\nuser w on nopass sanitize-payload resetchannels +@all (~x resetchannels -@all +get)\n"
    ));
    std::fs::write(
        &file,
        "user u on bad\nusr\nuser u +nosuch\nuser z +nosuch\n",
    )
    .unwrap();
    assert_eq!(
        bench.call(admin, "ACL LOAD"),
        "-ERR users.acl:1: Syntax error. users.acl:2 should start with user keyword followed by the username. WARNING: Duplicate user 'u' found on line 3. users.acl:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. WARNING: ACL errors detected, no change to the previously active ACL rules was performed\r\n"
    );
    play(&mut bench, client, "GET a -> $-1");
    std::fs::write(&file, saved).unwrap();
    play(
        &mut bench,
        admin,
        "ACL LOAD -> +OK
        PING -> +PONG",
    );
    assert!(
        bench.is_closed(client),
        "as in Redis, users that are loaded are new ones"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
