//! [`all`]: asks the same of every byte of a text, sixteen at a time.

/// Whether every byte is `sound`.
///
/// It looks at whole blocks, without an early exit inside of one, so that the compiler uses vector instructions. What
/// is left at the end is covered by a block that overlaps the one before. For `sound`, write comparisons joined by `|`
/// or `&`: `matches!` compiles to a table, which cannot be vectorized.
#[inline(always)]
pub(crate) fn all(text: &[u8], sound: impl Fn(u8) -> bool + Copy) -> bool {
    if let Some(last) = text.last_chunk::<16>() {
        text.as_chunks::<16>().0.iter().all(|block| all_of(block, sound)) && all_of(last, sound)
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        all_of(first, sound) && all_of(last, sound)
    } else {
        all_of(text, sound)
    }
}

#[inline(always)]
fn all_of(bytes: &[u8], sound: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & sound(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_byte_is_found_wherever_it_is() {
        for len in 0..=50 {
            let text = vec![b'a'; len];
            assert!(all(&text, |byte| byte == b'a'), "{len}");
            for bad in 0..len {
                let mut text = text.clone();
                text[bad] = b'b';
                assert!(!all(&text, |byte| byte == b'a'), "{bad} of {len}");
            }
        }
    }
}
