//! Which character set a collation id belongs to, over both engines' numbering.

use mysql_common::collations::{Collation, CollationId};

/// The name of the character set that the collation with this id belongs to, or `None` if neither
/// engine's numbering has it.
///
/// Up to 323 the engines agree so far as each of them has the id. MariaDB's collations without
/// padding are the padded one's id plus 1024; its UCA 14.0.0 collations are 2048 plus 256 for each
/// step along utf8mb3, utf8mb4, ucs2, utf16, utf32 (`strings/ctype-uca1400.h`).
pub(crate) fn of_collation(id: u16) -> Option<&'static str> {
    match id {
        // MariaDB's Croatian and Myanmar collations (`strings/ctype-uca.c`).
        576 | 577 => Some("utf8mb3"),
        608 | 609 => Some("utf8mb4"),
        640 | 641 => Some("ucs2"),
        672 | 673 => Some("utf32"),
        736 | 737 => Some("utf16"),
        1025..2048 => of_collation(id - 1024),
        2048..3328 => {
            Some(["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"][usize::from((id - 2048) / 256)])
        }
        _ => {
            let collation = Collation::from(CollationId::from(id));
            let name = if collation.charset() == "utf8" {
                "utf8mb3"
            } else {
                collation.charset()
            };
            CHARSETS.into_iter().find(|known| *known == name)
        }
    }
}

/// Every character set of either engine.
const CHARSETS: [&str; 41] = [
    "armscii8", "ascii", "big5", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850",
    "cp852", "cp866", "cp932", "dec8", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "geostd8",
    "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7",
    "macce", "macroman", "sjis", "swe7", "tis620", "ucs2", "ujis", "utf16", "utf16le", "utf32",
    "utf8mb3", "utf8mb4",
];

/// The character set to announce a literal's bytes in, so that its characters stay what they are
/// in a column of `charset`.
///
/// Every utf8mb3 text is the same bytes in utf8mb4, and every ucs2 text the same in utf16; MySQL
/// warns whenever it reads the old names, and a warning holds up the link.
pub(crate) fn introducer(charset: &'static str) -> &'static str {
    match charset {
        "utf8mb3" => "utf8mb4",
        "ucs2" => "utf16",
        other => other,
    }
}

/// Whether a text of bytes below 128 is the same bytes in this character set and in ASCII, so that
/// such a literal needs no introducer.
pub(crate) fn holds_ascii(charset: &str) -> bool {
    !matches!(charset, "ucs2" | "utf16" | "utf16le" | "utf32" | "swe7")
}

/// Whether bytes below 128 may be parts of other characters in this character set.
pub(crate) fn hides_ascii(charset: &str) -> bool {
    !holds_ascii(charset) || matches!(charset, "big5" | "cp932" | "gb18030" | "gbk" | "sjis")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collations_of_both_engines_have_their_charset() {
        for (id, charset) in [
            (8, "latin1"),
            (28, "gbk"),
            (33, "utf8mb3"),
            (45, "utf8mb4"),
            (46, "utf8mb4"),
            (47, "latin1"),
            (63, "binary"),
            (255, "utf8mb4"),
            (309, "utf8mb4"),
            (1069, "utf8mb4"),
            (1032, "latin1"),
            (608, "utf8mb4"),
            (2304, "utf8mb4"),
            (2048, "utf8mb3"),
            (2816, "utf16"),
        ] {
            assert_eq!(of_collation(id), Some(charset), "collation {id}");
        }
        assert_eq!(of_collation(0), None);
        assert_eq!(of_collation(9999), None);
    }
}
