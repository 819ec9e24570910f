//! Scans of a shard whose cursors have become stale.

use storage::{Key, Limits, Shard, Slot, Ttl};

fn shard() -> Shard {
    Shard::new(1, (0..16384).map(Slot), Limits::default(), 1)
}

/// A scan that stood inside a slot when its last key went away turned for ever: the slot's table was
/// empty, and the place in it was never left.
#[test]
fn a_scan_leaves_a_slot_that_was_emptied() {
    let mut shard = shard();
    let names: Vec<String> = (0..50).map(|n| format!("{{tag}}{n}")).collect();
    for name in &names {
        let key = Key::new(0, name.as_bytes());
        shard.edit().put_string(&key, b"v", Ttl::Clear);
    }
    let cursor = shard.scan(0, 0, 16384, 10, |_, _| {}).unwrap();
    assert_ne!(cursor, Shard::cursor_at(Shard::cursor_slot(cursor)));
    for name in &names {
        assert!(shard.edit().remove(&Key::new(0, name.as_bytes())));
    }
    assert_eq!(shard.scan(0, cursor, 16384, 10, |_, _| {}), None);
}

#[test]
fn made_up_cursors_end() {
    let mut shard = shard();
    shard
        .edit()
        .put_string(&Key::new(0, b"k"), b"v", Ttl::Clear);
    for cursor in [1, 1 << 37, (1 << 38) + 1, u64::MAX >> 1, u64::MAX] {
        shard.scan(0, cursor, 16384, 10, |_, _| {});
        shard.scan(0, cursor, 7, 10, |_, _| {});
    }
}
