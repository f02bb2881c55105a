//! What a key may be called (R34).

/// The most characters of a name.
const MAX_CHARS: usize = 64;

/// Unicode's format characters (category Cf) and its two separators of lines and paragraphs. They are invisible, or turn
/// the text around them: a name that holds one shows as another. Control characters (Cc) `char` knows by itself.
///
/// Taken in whole small blocks where what lies between is unassigned, so that a later Unicode cannot slip in there.
const FORMAT: [(char, char); 18] = [
    ('\u{AD}', '\u{AD}'),       // soft hyphen
    ('\u{600}', '\u{605}'),     // Arabic number signs
    ('\u{61C}', '\u{61C}'),     // Arabic letter mark (bidi)
    ('\u{6DD}', '\u{6DD}'),     // Arabic end of ayah
    ('\u{70F}', '\u{70F}'),     // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),     // Arabic currency marks
    ('\u{8E2}', '\u{8E2}'),     // Arabic disputed end of ayah
    ('\u{180E}', '\u{180E}'),   // Mongolian vowel separator
    ('\u{200B}', '\u{200F}'),   // zero-width characters, left-to-right and right-to-left mark
    ('\u{2028}', '\u{202E}'),   // line and paragraph separator, bidi embeddings and overrides
    ('\u{2060}', '\u{206F}'),   // word joiner, invisible operators, bidi isolates
    ('\u{FEFF}', '\u{FEFF}'),   // byte order mark
    ('\u{FFF9}', '\u{FFFB}'),   // interlinear annotations
    ('\u{110BD}', '\u{110CD}'), // Kaithi number signs
    ('\u{13430}', '\u{1343F}'), // Egyptian hieroglyph format controls
    ('\u{1BCA0}', '\u{1BCA3}'), // shorthand format controls
    ('\u{1D173}', '\u{1D17A}'), // musical beams and slurs
    ('\u{E0000}', '\u{E007F}'), // tags
];

/// The name without white space around it, if it is one.
pub(crate) fn check(name: &str) -> Option<&str> {
    let name = name.trim();
    let count = name.chars().take(MAX_CHARS + 1).count();
    let sound = (1..=MAX_CHARS).contains(&count) && !name.chars().any(is_hidden);
    sound.then_some(name)
}

/// Whether a character is invisible or turns the text around it.
fn is_hidden(character: char) -> bool {
    character.is_control() || FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn r34_a_name_is_1_to_64_characters_after_trimming() {
        assert_eq!(check("  Production Key\t\n"), Some("Production Key"));
        assert_eq!(check(""), None);
        assert_eq!(check(" \u{A0}\u{3000} "), None);
        let longest = "\u{1F511}".repeat(64);
        assert_eq!(check(&longest), Some(&*longest));
        assert_eq!(check(&format!(" {longest} ")), Some(&*longest));
        assert_eq!(check(&format!("{longest}x")), None);
        assert_eq!(check(&"x".repeat(10_000)), None);
    }

    #[test]
    fn c11_11_markup_is_text_and_stays_as_it_is() {
        for name in [
            "<script>alert(1)</script>",
            "\"><img onerror=x>",
            "{{7*7}}",
            "=HYPERLINK(\"x\")",
            "Schlüssel",
            "مفتاح",
        ] {
            assert_eq!(check(name), Some(name));
        }
    }

    #[test]
    fn c11_11_control_bidi_and_format_characters_are_refused() {
        let control = (0..0x20).chain(0x7F..0xA0);
        let bidi = [0x061C, 0x200E, 0x200F].into_iter().chain(0x202A..=0x202E).chain(0x2066..=0x2069);
        let others = [0xAD, 0x200B, 0x200C, 0x200D, 0x2028, 0x2029, 0x2060, 0xFEFF, 0xFFF9, 0x110BD, 0xE0041];
        for code in control.chain(bidi).chain(others) {
            let character = char::from_u32(code).unwrap();
            assert_eq!(check(&format!("a{character}b")), None, "U+{code:04X}");
        }
    }

    #[test]
    fn the_ranges_stand_in_order_and_neighbours_are_free() {
        assert!(super::FORMAT.windows(2).all(|pair| pair[0].1 < pair[1].0));
        for code in
            [0xAC, 0xAE, 0x200A, 0x2010, 0x2027, 0x202F, 0x205F, 0x2070, 0xFEFE, 0xFF00, 0xFFF8, 0xFFFC]
        {
            let character = char::from_u32(code).unwrap();
            assert_eq!(check(&format!("a{character}b")), Some(&*format!("a{character}b")), "U+{code:04X}");
        }
    }
}
