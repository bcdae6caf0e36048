//! The two textual encodings the C2SP formats share, read strictly: one spelling per value, because
//! two spellings of one value are how two readers come to disagree.

use data_encoding::BASE64;

use crate::tree::Hash;

/// Tree sizes stop here: other people's readers hold them in a signed 64-bit integer.
pub(crate) const MAX_SIZE: u64 = i64::MAX as u64;

/// A decimal without sign or leading zero, at most [`MAX_SIZE`].
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = match text.as_bytes() {
        [b'0'] => true,
        [] | [b'0', ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return None;
    }
    text.parse().ok().filter(|&number| number <= MAX_SIZE)
}

/// Standard base64, padded at its end and nowhere else, whose unused trailing bits are zero.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    // the decoder takes several padded texts in a row for one, which would be a second spelling
    if text.trim_end_matches('=').contains('=') {
        return None;
    }
    BASE64.decode(text.as_bytes()).ok()
}

/// A 32-byte hash in base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    // 44 characters hold 32 bytes; anything else is refused before it is decoded
    if text.len() != 44 {
        return None;
    }
    Some(Hash(base64(text)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("70000"), Some(70_000));
        assert_eq!(decimal("9223372036854775807"), Some(MAX_SIZE));
        for bad in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1_0",
            "9223372036854775808",
            "99999999999999999999",
            "١",
        ] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn base64_refuses_loose_trailing_bits() {
        assert_eq!(base64("AA=="), Some(vec![0]));
        for bad in ["AB==", "AA", "AA=", "A A=", "AA==\n", "-_=="] {
            assert_eq!(base64(bad), None, "{bad:?}");
        }
    }

    /// Found by fuzzing checkpoints: two padded texts in a row were one hash.
    #[test]
    fn regression_base64_was_padded_in_the_middle() {
        for bad in ["AA==AA==", "AAA=AAAA", "AA======", "=AAA", "===="] {
            assert_eq!(base64(bad), None, "{bad:?}");
        }
        let text = "llllllllllllll4=llllllllllllllllllllllllllll";
        assert_eq!((text.len(), hash(text)), (44, None));
    }
}
