//! The memory of empty pages goes back to the system.
#![allow(missing_docs, reason = "tests")]

#[global_allocator]
static HEAP: heap::Small<std::alloc::System> = heap::Small(std::alloc::System);

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).map(str::parse::<usize>);
    pages.and_then(Result::ok).unwrap_or(0) * 4096
}

#[test]
fn the_memory_of_empty_pages_goes_back() {
    let blocks = |n| -> Vec<Box<[u8; 200]>> { (0..n).map(|_| Box::new([1; 200])).collect() };
    let bytes = 200_000 * 200;
    for _ in 0..3 {
        let before = resident();
        drop(blocks(200_000));
        // A thread that has ended leaves its heap to whoever comes next.
        std::thread::scope(|scope| {
            scope.spawn(|| drop(blocks(200_000)));
        });
        let full = resident();
        assert!(heap::empty_bytes() > 190_000 * 200);
        assert!(full > before + bytes, "{before} {full}");
        let purged = heap::purge();
        let after = resident();
        assert_eq!(heap::empty_bytes(), 0);
        assert!(
            purged > bytes && after + bytes < full,
            "{purged}: {full} to {after}"
        );
    }
}
