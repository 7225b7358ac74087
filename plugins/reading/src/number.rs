//! Numbers in decimal text, correctly rounded.

/// Powers of ten that an f64 holds exactly.
pub const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// The same that fit 64 bits.
const WHOLE_POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};
/// Integers up to here are exact in an f64.
pub const EXACT_MAX: u64 = 1 << 53;
/// So many digits fit 64 bits, whatever they are.
pub const DIGITS_MAX: usize = 19;

/// Reads the number at the start of `bytes` (`-1.5e3`, `.5`, `1.`): its value, which may be infinite when it is too large, and its
/// length. A leading `+`, `inf` and `nan` are no numbers here. The caller looks at what follows.
#[inline]
pub fn float(bytes: &[u8]) -> Option<(f64, usize)> {
    plain(bytes).or_else(|| {
        let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
        // Not `inf`.
        let is_number = matches!(digits, [b'0'..=b'9' | b'.', ..]);
        is_number.then(|| fast_float2::parse_partial(bytes).ok())?
    })
}

/// As [`float`], of a number that has no exponent and at most [`DIGITS_MAX`] digits; others are none here.
#[inline]
pub fn plain(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let first = usize::from(negative);
    let (mut mantissa, mut at) = digits(bytes, first, 0);
    let mut count = at - first;
    let mut scale = 0;
    if bytes.get(at) == Some(&b'.') {
        let point = at + 1;
        (mantissa, at) = digits(bytes, point, mantissa);
        scale = at - point;
        count += scale;
    }
    if count == 0 || count > DIGITS_MAX || matches!(bytes.get(at), Some(b'e' | b'E')) {
        return None;
    }
    let value = match mantissa <= EXACT_MAX {
        // Both numbers are exact, so the division rounds once: correctly.
        true => mantissa as f64 / EXACT_POWERS[scale],
        false => divided(mantissa, WHOLE_POWERS[scale]),
    };
    Some((if negative { -value } else { value }, at))
}

/// A number that is not 0 by a power of ten, correctly rounded.
fn divided(number: u64, power: u64) -> f64 {
    let (shift, power_shift) = (number.leading_zeros(), power.leading_zeros());
    let (number, power) = (u128::from(number << shift), u128::from(power << power_shift));
    // At least 63 bits of the quotient. The last stands for all behind it, so that what is rounded to 53 bits is neither half nor whole
    // where the quotient is not.
    let dividend = number << 63;
    let quotient = dividend / power;
    let bits = quotient as u64 | u64::from(quotient * power != dividend);
    bits as f64 * f64::from_bits(u64::from(1023 + power_shift - shift - 63) << 52)
}

/// Takes the digits at `at` behind those of a number: what it comes to, modulo 2^64, and where they end. Eight at a time: how many digits
/// a number has cannot be foreseen, and a loop that ends where it was not expected to costs more than all else.
#[inline]
pub fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some((eight, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()) {
        let numbers = u64::from_le_bytes(*eight) ^ u64::from_le_bytes([b'0'; 8]);
        // Marks those above 9; behind the first of them others may be marked, too.
        let others =
            (numbers.wrapping_add(u64::from_le_bytes([0x76; 8])) | numbers) & u64::from_le_bytes([0x80; 8]);
        if others == 0 {
            value = value.wrapping_mul(100_000_000).wrapping_add(together(numbers));
            at += 8;
            continue;
        }
        let count = others.trailing_zeros() / 8;
        // Zeros before them: the first digit is the lowest byte.
        let numbers = numbers << (56 - 8 * count) << 8;
        value = value
            .wrapping_mul(POWERS[count as usize])
            .wrapping_add(together(numbers));
        return (value, at + count as usize);
    }
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Eight digits, each in a byte of its own and the first in the lowest, as one number: pairs, then fours, then all.
#[inline(always)]
fn together(ones: u64) -> u64 {
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xFFFF_FFFF
}

/// Eight ASCII digits as a number, all at once; `None`: not all are digits.
#[inline]
pub fn eight_digits(bytes: &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(bytes.try_into().ok()?);
    let high = 0xF0F0_F0F0_F0F0_F0F0;
    // A digit has 3 in its upper half, and still has it with 6 added.
    let digits = word & high == 0x3030_3030_3030_3030
        && word.wrapping_add(0x0606_0606_0606_0606) & high == 0x3030_3030_3030_3030;
    if !digits {
        return None;
    }
    Some(together(word & 0x0F0F_0F0F_0F0F_0F0F))
}

/// A text that is a number as a whole, or one of `NaN`, `Inf`, `+Inf`, `-Inf` (in any case, as Go writes and reads them); it may
/// have a `+` before it.
pub fn float_or_special(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    if let Some((value, len)) = float(bytes)
        && len == bytes.len()
    {
        return Some(value);
    }
    let (sign, rest) = match bytes.first()? {
        b'+' => (1.0, &text[1..]),
        b'-' => (-1.0, &text[1..]),
        _ => (1.0, text),
    };
    match rest.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        _ if bytes[0] == b'+' && !rest.starts_with('-') => float(rest.as_bytes())
            .filter(|(_, len)| *len == rest.len())
            .map(|(v, _)| v),
        _ => None,
    }
}

/// A bucket's bound or a quantile as Prometheus writes it: `0.005`, `1e-09`, `+Inf`.
pub fn bound_text(bound: f64) -> String {
    if bound.is_infinite() {
        return if bound > 0.0 { "+Inf" } else { "-Inf" }.to_string();
    }
    let size = bound.abs();
    if bound != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{bound:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{bound}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn eight_digits_are_read_at_once() {
        for number in [0u64, 1, 12_345_678, 90_000_009, 99_999_999, 10_203_040] {
            assert_eq!(eight_digits(format!("{number:08}").as_bytes()), Some(number));
        }
        for text in [
            "1234567/",
            "1234567:",
            "-1234567",
            " 1234567",
            "123a5678",
            "1234567\n",
        ] {
            assert_eq!(eight_digits(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_taken_to_their_end(before in any::<u64>(), text in "[0-9]{0,30}", behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let one = |value: u64, digit: u8| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            let behind: Vec<u8> = behind.into_iter().skip_while(u8::is_ascii_digit).collect();
            let bytes = [b"x", text.as_bytes(), &behind].concat();
            let want = (text.bytes().fold(before, one), 1 + text.len());
            prop_assert_eq!(digits(&bytes, 1, before), want);
        }

        #[test]
        fn floats_are_those_of_the_standard_library(text in "-?[0-9]{0,22}(\\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?[,x]?") {
            let plain = text.trim_end_matches([',', 'x']);
            match (float(text.as_bytes()), plain.parse::<f64>()) {
                (Some((got, len)), Ok(want)) => {
                    prop_assert_eq!(got.to_bits(), want.to_bits());
                    prop_assert_eq!(len, plain.len());
                }
                (None, Err(_)) => {}
                // Only a part of it is a number.
                (Some((got, len)), Err(_)) => {
                    let want: f64 = plain[..len].parse().expect("a number");
                    prop_assert_eq!(got.to_bits(), want.to_bits());
                }
                (None, Ok(want)) => prop_assert!(false, "{} is {}", text, want),
            }
        }

        #[test]
        fn long_numbers_are_rounded_once(mantissa in EXACT_MAX..10_000_000_000_000_000_000, scale in 0usize..=19) {
            let digits = format!("{mantissa:020}");
            let text = format!("{}.{}", &digits[..20 - scale], &digits[20 - scale..]);
            let want: f64 = text.parse().expect("a number");
            prop_assert_eq!(divided(mantissa, WHOLE_POWERS[scale]).to_bits(), want.to_bits());
        }

        #[test]
        fn every_float_is_read_back(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(float(text.as_bytes()).map(|(v, len)| (v.to_bits(), len)), Some((value.to_bits(), text.len())));
            }
        }
    }

    /// Halves between two floats go to the even one, and what is a little more or less does not.
    #[test]
    fn halves_are_rounded_to_even() {
        for text in [
            "9007199254740993",
            "9007199254740995",
            "900719925474099.3",
            "1801439850948198.5",
            "18014398509481986",
            "18014398509481990",
            "4503599627370497.5",
            "4503599627370496.5",
            "450359962737049.75",
            "4503599627370496.501",
            "4503599627370496.499",
            // A half to 63 bits, and a little more.
            "928205515942067776.1",
            "94877982636220744.01",
            "97615690425188.19532",
            "3883014407.933153391",
            "2530197.011637976626",
            "311.6164659119461078",
            "10.41358733266320602",
            "9.687281241357589502",
            ".3068244722888286147",
        ] {
            let want: f64 = text.parse().expect("a number");
            assert_eq!(float(text.as_bytes()), Some((want, text.len())), "{text}");
        }
    }

    #[test]
    fn bounds_are_written_as_go_writes_them() {
        for (bound, text) in [
            (0.005, "0.005"),
            (1.0, "1"),
            (2.5, "2.5"),
            (0.0, "0"),
            (1e-9, "1e-09"),
            (-2.938735877055719e-39, "-2.938735877055719e-39"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e300, "1e+300"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(bound_text(bound), text);
        }
    }

    #[test]
    fn specials() {
        for (text, want) in [
            ("1.5", Some(1.5)),
            ("+2", Some(2.0)),
            ("+Inf", Some(f64::INFINITY)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("Infinity", Some(f64::INFINITY)),
            ("1e999", Some(f64::INFINITY)),
            ("", None),
            ("+", None),
            ("+-1", None),
            ("++1", None),
            ("1x", None),
            ("-", None),
            (".", None),
            ("infin", None),
        ] {
            assert_eq!(float_or_special(text), want, "{text}");
        }
        assert!(float_or_special("NaN").is_some_and(f64::is_nan));
    }
}
