//! The rules for names of keys (R34).

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// The maximum number of characters of a name.
const MAX_CHARS: usize = 64;

/// Characters that are invisible or change the direction of text, so that a name with them can look like another
/// name: those that Unicode says may be ignored (`Default_Ignorable_Code_Point`: zero-width and bidirectional
/// characters, fillers, variation selectors, tags), control characters, line separators, invisible format
/// characters, and blank glyphs.
const HIDDEN: &str = r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Zl}\p{Zp}[\p{Cf}--\p{Prepended_Concatenation_Mark}]\x{2800}\x{13441}\x{13442}\x{16FE4}\x{1D159}]";
/// Digits, `#` and `*` have the Unicode property `Emoji`, but are not emoji by themselves.
const EMOJI: &str = r"[\p{Emoji}--\p{ASCII}]";
const LETTER_OR_MARK: &str = r"[\p{L}\p{M}]";

const NON_JOINER: char = '\u{200C}';
const JOINER: char = '\u{200D}';
/// Selects the emoji presentation of the character before it.
const AS_EMOJI: char = '\u{FE0F}';
/// After `AS_EMOJI`, it turns a digit, `#` or `*` into a keycap.
const KEYCAP: char = '\u{20E3}';

/// Unicode's tables, from the `regex` crate, because they change with each version of Unicode.
struct Properties {
    hidden: ClassUnicode,
    emoji: ClassUnicode,
    letter_or_mark: ClassUnicode,
}

/// `None` if a class above has a syntax error: then no name is valid, and a test fails.
static PROPERTIES: LazyLock<Option<Properties>> = LazyLock::new(|| {
    Some(Properties { hidden: class(HIDDEN)?, emoji: class(EMOJI)?, letter_or_mark: class(LETTER_OR_MARK)? })
});

fn class(text: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(text).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}

fn has(class: &ClassUnicode, character: char) -> bool {
    let ranges = class.ranges();
    let after = ranges.partition_point(|range| range.start() <= character);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| character <= range.end())
}

/// Returns the name without surrounding white space, if it is valid.
pub(crate) fn check(name: &str) -> Option<&str> {
    let name = name.trim();
    let count = name.chars().take(MAX_CHARS + 1).count();
    // A name of white space alone is empty after trimming. Every other first character is visible.
    let sound = (1..=MAX_CHARS).contains(&count) && PROPERTIES.as_ref()?.are_seen(name);
    sound.then_some(name)
}

impl Properties {
    /// Whether each character is visible, or changes how its neighbours look.
    fn are_seen(&self, name: &str) -> bool {
        let mut before = None;
        let mut rest = name.chars();
        while let Some(character) = rest.next() {
            let next = rest.clone().next();
            let seen = match character {
                // They are used in Persian and Sinhala words, and in joined emoji.
                NON_JOINER | JOINER => {
                    before.is_some_and(|before| self.joins(before))
                        && next.is_some_and(|next| self.joins(next))
                }
                AS_EMOJI => before.is_some_and(|before| {
                    has(&self.emoji, before)
                        || (matches!(before, '0'..='9' | '#' | '*') && next == Some(KEYCAP))
                }),
                _ => !has(&self.hidden, character),
            };
            if !seen {
                return false;
            }
            before = Some(character);
        }
        true
    }

    fn joins(&self, character: char) -> bool {
        !matches!(character, NON_JOINER | JOINER)
            && (has(&self.letter_or_mark, character) || has(&self.emoji, character))
    }
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
        let others = [0xAD, 0x200B, 0x2028, 0x2029, 0x2060, 0xFEFF, 0xFFF9, 0x1_3430, 0xE_0041];
        for code in control.chain(bidi).chain(others) {
            let character = char::from_u32(code).unwrap();
            assert_eq!(check(&format!("a{character}b")), None, "U+{code:04X}");
        }
    }

    #[test]
    fn c17_d4_what_nobody_sees_is_no_name_and_part_of_none() {
        let fillers = [0x115F, 0x1160, 0x3164, 0xFFA0, 0x17B4, 0x17B5];
        let ignorable =
            [0x034F, 0x180B, 0x180E, 0x180F, 0x2064, 0x206F, 0x1_D173, 0xE_0020, 0xE_0100, 0xE_0FFF];
        let blank = [0x2800, 0x1_3441, 0x1_3442, 0x1_6FE4, 0x1_D159];
        let selectors = 0xFE00..=0xFE0F;
        for code in fillers.into_iter().chain(ignorable).chain(blank).chain(selectors).chain([0x200C, 0x200D])
        {
            let character = char::from_u32(code).unwrap();
            for name in [
                format!("{character}"),
                format!("{character}a"),
                format!("a{character}"),
                format!("a {character} b"),
            ] {
                assert_eq!(check(&name), None, "U+{code:04X} in {name:?}");
            }
        }
    }

    #[test]
    fn c17_d4_joiners_between_letters_marks_and_emoji_are_part_of_a_name() {
        for name in [
            "می\u{200C}خواهم",     // Persian: "I want"
            "ශ්\u{200D}රී ලංකා",      // Sinhala: Sri Lanka
            "क्\u{200D}ष",          // Devanagari, after a mark
            "ക്\u{200C}ഷ",          // Malayalam
            "👩\u{200D}💻 laptop", // joined emoji
            "👩🏽\u{200D}💻",        // with a colour of skin
            "❤\u{FE0F}\u{200D}🔥", // a joiner after a selector after an emoji
            "🏳\u{FE0F}\u{200D}🌈",
            "☁\u{FE0F} cloud",
            "Key 1\u{FE0F}\u{20E3}",    // a key of a keypad
            "\u{0600}\u{0661}\u{0662}", // a sign over Arabic numbers, which is drawn
            "🇩🇪 CI",
            "e\u{0301}tude",
        ] {
            assert_eq!(check(name), Some(name), "{name}");
            assert_eq!(check(&format!(" {name}\n")), Some(name), "{name}");
        }
        for name in [
            "a\u{200D}",
            "\u{200D}a",
            "a\u{200C} b",
            "a \u{200C}b",
            "a\u{200D}\u{200D}b",
            "a\u{200C}\u{200D}b",
            "1\u{200D}2",
            "a\u{200D}.",
            "-\u{200C}-",
            "a\u{FE0F}",
            "1\u{FE0F}",
            "1\u{FE0F}2",
            "☁\u{FE0F}\u{FE0F}",
            "☁\u{FE0E}",
            "👩\u{200D}\u{FE0F}💻",
            "👩\u{200D}",
        ] {
            assert_eq!(check(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_classes_are_understood_and_neighbours_are_free() {
        assert!(super::PROPERTIES.is_some());
        for code in [
            0xAC, 0xAE, 0x200A, 0x2010, 0x2027, 0x202F, 0x205F, 0x2070, 0x27FF, 0x2801, 0x3163, 0x3165,
            0xFF9F, 0xFFFC,
        ] {
            let character = char::from_u32(code).unwrap();
            assert_eq!(check(&format!("a{character}b")), Some(&*format!("a{character}b")), "U+{code:04X}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 2048, failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn c17_b3_no_text_makes_the_judge_of_names_panic(name in "(\\PC|\\p{Cf}|\\p{Mn}|[\u{200C}\u{200D}\u{FE0F} a1☁]){0,70}") {
            if let Some(checked) = check(&name) {
                proptest::prop_assert_eq!(check(checked), Some(checked));
                proptest::prop_assert!(name.contains(checked) && checked.chars().count() <= 64);
            }
        }
    }
}
