//! Base62 encoding: random text from the operating system's random source, and numbers.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A source of random bytes: the operating system's, or a failing one in tests.
pub(crate) type Fill = fn(&mut [u8]) -> Result<(), getrandom::Error>;

/// Returns `N` characters, each uniform over the alphabet.
///
/// Each takes six random bits; the values 62 and 63 are rejected, because a remainder would favour some characters.
pub(crate) fn random<const N: usize>(fill: Fill) -> Result<[u8; N], getrandom::Error> {
    let mut text = [0_u8; N];
    let mut places = text.iter_mut();
    let mut place = places.next();
    let mut pool = zeroize::Zeroizing::new([0_u8; 64]);
    while place.is_some() {
        fill(pool.as_mut_slice())?;
        for byte in pool.iter() {
            let Some(character) = ALPHABET.get(usize::from(byte & 0b11_1111)) else { continue };
            let Some(free) = place.take() else { break };
            *free = *character;
            place = places.next();
        }
    }
    Ok(text)
}

/// Encodes a 32-bit number in six characters, most significant first (62^6 > 2^32).
pub(crate) fn encode_u32(mut number: u32) -> [u8; 6] {
    let mut text = [0_u8; 6];
    for place in text.iter_mut().rev() {
        *place = ALPHABET.get((number % 62) as usize).copied().unwrap_or(b'0');
        number /= 62;
    }
    text
}
