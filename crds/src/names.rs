//! Names of what the operator makes, derived from the names of what people made.

use model::IdcName;
use sha2::{Digest, Sha256};

/// The longest name of a Unit: with `-rw` it must still be a Service name, and with two IDCs of
/// usual length still a link's.
pub const LONGEST_UNIT_NAME: usize = 40;

/// The longest name of a SyncLink: `<link>-syncer` is a Service name and a label value.
pub const LONGEST_LINK_NAME: usize = 52;

/// The SyncLink of a Unit's mesh from one IDC to another: `<unit>-<source>-<target>`. Where that
/// is longer than a link's name may be, its end gives way to a hash of the whole.
pub fn mesh_link(unit: &str, source: &IdcName, target: &IdcName) -> String {
    shortened(&format!("{unit}-{source}-{target}"), LONGEST_LINK_NAME)
}

/// What runs for one link of a `DataRepair`, whose name may be long and have dots:
/// `repair-<repair>-<hash>`, the hash being of both names.
pub fn repair_worker(repair: &str, link: &str) -> String {
    let plain: String = repair
        .chars()
        .take(40)
        .map(|it| if it == '.' { '-' } else { it })
        .collect();
    // No name has a slash, so different pairs are different texts.
    let hash = hash(&format!("{repair}/{link}"));
    format!("repair-{}-{hash}", plain.trim_end_matches('-'))
}

/// The name as it is, or its beginning and eight hexadecimal digits of its SHA-256.
fn shortened(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let tail = hash(name);
    // Names are ASCII (DNS labels), so every byte is a boundary.
    let head = name[..longest - tail.len() - 1].trim_end_matches('-');
    format!("{head}-{tail}")
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().take(4).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesh_links_are_named_after_what_they_join() {
        let (sh, bj) = (IdcName::new("sh").unwrap(), IdcName::new("bj").unwrap());
        assert_eq!(mesh_link("orders", &sh, &bj), "orders-sh-bj");
    }

    #[test]
    fn long_names_stay_different_and_short_enough() {
        let (a, b) = (
            IdcName::new("a".repeat(32)).unwrap(),
            IdcName::new("b".repeat(32)).unwrap(),
        );
        let unit = "u".repeat(LONGEST_UNIT_NAME);
        let (there, back) = (mesh_link(&unit, &a, &b), mesh_link(&unit, &b, &a));
        assert!(there.len() <= LONGEST_LINK_NAME && back.len() <= LONGEST_LINK_NAME);
        assert_ne!(there, back);
    }

    #[test]
    fn workers_of_different_repairs_have_different_names_that_services_may_have() {
        let name = repair_worker("2026.nightly", "orders-sh-bj");
        assert!(
            name.starts_with("repair-2026-nightly-") && name.len() == 28,
            "{name}"
        );
        assert_ne!(name, repair_worker("2026-nightly", "orders-sh-bj"));
        assert_ne!(repair_worker("a", "b-c"), repair_worker("a-b", "c"));
        assert!(repair_worker(&"a.".repeat(120), "b").len() <= 63);
    }
}
