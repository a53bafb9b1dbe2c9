//! Texts for people.

/// So many characters of a statement or a key are told.
pub const SHOWN: usize = 200;

/// Bytes as text, characters that are not UTF-8 replaced, with dots after so many characters.
pub fn shown(text: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shown("a\u{e9}c".as_bytes(), 3), "a\u{e9}c");
        assert_eq!(shown("a\u{e9}cd".as_bytes(), 2), "a\u{e9}...");
        assert_eq!(shown(b"a\xffb", 9), "a\u{fffd}b");
    }
}
