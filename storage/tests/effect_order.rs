//! Effects in the order in which things happened.

use storage::{Key, Limits, OwnedValue, Shard, Slot, Ttl, decode};

fn shard() -> Shard {
    Shard::new(1, (0..16384).map(Slot), Limits::default(), 1)
}

/// A whole value put over a key whose deadline had passed recorded the value first and the expiry
/// behind it, so that whoever applied the effects lost the key.
#[test]
fn a_passed_deadline_is_recorded_before_what_replaces_the_key() {
    let long = vec![b'x'; 5000];
    let puts: [fn(&mut Shard, &Key<'_>, Vec<u8>); 2] = [
        |shard, key, bytes| {
            let value = OwnedValue::String(bytes);
            shard.edit().put_value(key, value, Ttl::Clear);
        },
        |shard, key, bytes| shard.edit().put_owned(key, bytes, Ttl::Clear),
    ];
    for put in puts {
        let (mut here, mut there) = (shard(), shard());
        here.effects().set_recording(true);
        let key = Key::new(0, b"k");
        here.edit().put_string(&key, b"old", Ttl::At(5));
        here.set_now(10);
        put(&mut here, &key, long.clone());
        let effects = here.effects().take();
        let mut rest = &effects[..];
        while !rest.is_empty() {
            let (db, effect, after) = decode(rest).unwrap();
            there.apply(db, &effect).unwrap();
            rest = after;
        }
        assert!(here.contains(&key) && there.contains(&key));
        assert!(here.digest_all() == there.digest_all());
    }
}
