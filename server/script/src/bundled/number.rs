//! `%.14g`: how Lua writes numbers.

use std::io::Write;

/// Appends a number with so many significant digits, trailing zeroes dropped, as C's `%g` does.
pub(crate) fn write_general(n: f64, digits: usize, out: &mut Vec<u8>) {
    if n.is_nan() {
        out.extend_from_slice(if n.is_sign_negative() {
            b"-nan"
        } else {
            b"nan"
        });
        return;
    }
    if n.is_infinite() {
        out.extend_from_slice(if n < 0.0 { b"-inf" } else { b"inf" });
        return;
    }
    let digits = digits.max(1);
    let scientific = format!("{:.*e}", digits - 1, n);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        out.extend_from_slice(trimmed(mantissa).as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a vector cannot fail.
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
        return;
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    out.extend_from_slice(trimmed(&format!("{n:.places$}")).as_bytes());
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_printf_does() {
        for (n, digits, text) in [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (3.0, 14, "3"),
            (0.1, 14, "0.1"),
            (1e14, 14, "1e+14"),
            (12345678901234.0, 14, "12345678901234"),
            (123456789012345.0, 14, "1.2345678901234e+14"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (1e100, 14, "1e+100"),
            (2.71459, 3, "2.71"),
            (99.99, 3, "100"),
            (1e-7, 1, "1e-07"),
            (f64::INFINITY, 14, "inf"),
        ] {
            let mut out = Vec::new();
            write_general(n, digits, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
