//! The accounting rounds as the server's allocators do.
#![allow(missing_docs, reason = "tests")]
#![allow(unsafe_code, reason = "asks the allocator, which is C")]

use storage::account::class_size;

fn good_size(bytes: usize) -> usize {
    if bytes <= heap::SMALL_BYTES_MAX {
        return heap::good_size(bytes);
    }
    // SAFETY: a pure function of a number.
    unsafe { libmimalloc_sys::mi_good_size(bytes) }
}

/// The same sizes up to the end of the allocator's classes; beyond, pages.
#[test]
fn classes_are_those_of_the_allocators() {
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
