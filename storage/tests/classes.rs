//! The accounting rounds as the server's allocator does.
#![allow(missing_docs, reason = "tests")]
#![allow(unsafe_code, reason = "asks the allocator, which is C")]

use storage::account::class_size;

fn good_size(bytes: usize) -> usize {
    // SAFETY: a pure function of a number.
    unsafe { libmimalloc_sys::mi_good_size(bytes) }
}

/// The same sizes up to the end of the allocator's classes; beyond, pages.
#[test]
fn classes_are_those_of_mimalloc() {
    let wrong: Vec<_> = (1..100_000)
        .filter(|bytes| class_size(*bytes) != good_size(*bytes))
        .map(|bytes| (bytes, class_size(bytes), good_size(bytes)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} sizes, as {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(40)]
    );
}

/// Arrays of buckets do not ask to lie on cache lines, for that costs a class: they do so because blocks
/// of a multiple of 64 bytes do.
#[test]
fn arrays_of_buckets_lie_on_cache_lines() {
    for buckets in 1..=192usize {
        let bytes = buckets * 64;
        if class_size(bytes) != bytes {
            continue;
        }
        for _ in 0..50 {
            // SAFETY: a plain allocation of some bytes, looked at and freed.
            unsafe {
                let block = libmimalloc_sys::mi_zalloc(bytes);
                assert_eq!(block.addr() % 64, 0, "{bytes} bytes");
                assert_eq!(libmimalloc_sys::mi_usable_size(block), bytes);
                libmimalloc_sys::mi_free(block);
            }
        }
    }
}
