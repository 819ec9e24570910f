//! What memory really costs: sizes rounded as the allocator rounds them.

/// Bytes that an allocation of `bytes` really takes: mimalloc's size classes (16-byte steps to 128
/// bytes, then four steps per doubling). Checked against `mi_good_size` in the server's tests.
#[inline]
pub fn class_size(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    if bytes <= 8 {
        return 8;
    }
    if bytes <= 128 {
        return (bytes + 15) & !15;
    }
    // Four classes between powers of two: the step is an eighth of the next power's half.
    let top = usize::BITS - 1 - (bytes - 1).leading_zeros();
    let step = 1usize << (top - 2);
    (bytes + step - 1) & !(step - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_never_round_down_and_waste_at_most_a_quarter() {
        for bytes in 1..100_000 {
            let class = class_size(bytes);
            assert!(class >= bytes);
            assert!(
                bytes <= 16 || class * 4 <= bytes * 5 + 64,
                "{bytes} -> {class}"
            );
            assert_eq!(class_size(class), class);
        }
    }
}
