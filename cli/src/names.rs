//! Units as people type them, and what they may have meant.

use std::str::FromStr;

use model::{InvalidIdentity, LinkKey, UnitKey};

/// A Unit as it was typed: `NAME`, `NAMESPACE/NAME`, or what `-o name` printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitArg {
    namespace: Option<String>,
    name: String,
}

impl UnitArg {
    /// The Unit meant, in `default_namespace` where none was typed.
    pub fn key(&self, default_namespace: &str) -> Result<UnitKey, InvalidIdentity> {
        UnitKey::new(
            self.namespace.as_deref().unwrap_or(default_namespace),
            self.name.clone(),
        )
    }
}

impl FromStr for UnitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = match text.split_once('/') {
            // A namespace cannot hold a dot, so the resource's full name is unambiguous.
            Some(("unit.multiactive.dev" | "units.multiactive.dev", name)) => (None, name),
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        // Checked here with a stand-in namespace so that a bad name is a usage error.
        UnitKey::new(namespace.as_deref().unwrap_or("default"), name)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            namespace,
            name: name.to_owned(),
        })
    }
}

/// A `SyncLink` as it was typed: `NAME`, `NAMESPACE/NAME`, or what `-o name` printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkArg {
    namespace: Option<String>,
    name: String,
}

impl LinkArg {
    /// The link meant, in `default_namespace` where none was typed.
    pub fn key(&self, default_namespace: &str) -> Result<LinkKey, InvalidIdentity> {
        LinkKey::new(
            self.namespace.as_deref().unwrap_or(default_namespace),
            self.name.clone(),
        )
    }
}

impl FromStr for LinkArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = match text.split_once('/') {
            // A namespace cannot hold a dot, so the resource's full name is unambiguous.
            Some(("synclink.multiactive.dev" | "synclinks.multiactive.dev", name)) => (None, name),
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        LinkKey::new(namespace.as_deref().unwrap_or("default"), name)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            namespace,
            name: name.to_owned(),
        })
    }
}

/// Those of `known` that somebody who typed `wanted` may have meant, best first, at most three.
///
/// The same name in another namespace comes before a similar name in the same one.
pub fn similar_units<'a>(wanted: &UnitKey, known: &'a [UnitKey]) -> Vec<&'a UnitKey> {
    let mut found: Vec<(usize, &UnitKey)> = known
        .iter()
        .filter_map(|key| {
            let names = similarity(wanted.name(), key.name())?;
            let elsewhere = usize::from(key.namespace() != wanted.namespace());
            Some((2 * names + elsewhere, key))
        })
        .collect();
    found.sort();
    found.into_iter().take(3).map(|(_, key)| key).collect()
}

/// The words of `known` that are like `wanted`, best first, at most three.
pub fn similar_words<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|word| Some((similarity(wanted, word)?, word)))
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, word)| word).collect()
}

/// How far apart two names are, if they are near enough to be taken for one another: a third of
/// the letters, or one contains the other.
fn similarity(wanted: &str, known: &str) -> Option<usize> {
    let distance = edit_distance(wanted.as_bytes(), known.as_bytes());
    let near = distance <= wanted.len().max(known.len()).div_ceil(3);
    let contained =
        wanted.len() >= 3 && known.contains(wanted) || known.len() >= 3 && wanted.contains(known);
    (near || contained).then_some(distance)
}

/// Edits that make one name of the other; swapping two neighbours is one edit.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let width = right.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, b) in right.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            row[j + 1] = replaced.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                row[j + 1] = row[j + 1].min(rows[i - 1][j - 1] + 1);
            }
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> UnitKey {
        text.parse().unwrap()
    }

    #[test]
    fn a_unit_may_come_with_or_without_its_namespace() {
        let key_of = |text: &str| {
            text.parse::<UnitArg>()
                .unwrap()
                .key("shop")
                .unwrap()
                .to_string()
        };
        assert_eq!(key_of("orders"), "shop/orders");
        assert_eq!(key_of("bank/orders"), "bank/orders");
        assert_eq!(key_of("unit.multiactive.dev/orders"), "shop/orders");
    }

    #[test]
    fn a_link_may_come_with_or_without_its_namespace() {
        let key_of = |text: &str| {
            let link: LinkArg = text.parse().unwrap();
            link.key("shop").unwrap().to_string()
        };
        assert_eq!(key_of("orders-sh-bj"), "shop/orders-sh-bj");
        assert_eq!(key_of("bank/a-b"), "bank/a-b");
        assert_eq!(key_of("synclink.multiactive.dev/a-b"), "shop/a-b");
        assert!("A".parse::<LinkArg>().is_err() && "a/b/c".parse::<LinkArg>().is_err());
    }

    #[test]
    fn a_name_that_cannot_be_one_is_refused_with_the_rule() {
        let message = "Orders".parse::<UnitArg>().unwrap_err();
        assert!(message.contains("lower-case"), "{message}");
        assert!("a/b/c".parse::<UnitArg>().is_err());
        assert!("".parse::<UnitArg>().is_err());
    }

    #[test]
    fn similar_names_are_suggested_and_strange_ones_are_not() {
        let known = [
            key("shop/orders"),
            key("shop/order-items"),
            key("bank/ledger"),
        ];
        assert_eq!(similar_units(&key("shop/oders"), &known), [&known[0]]);
        assert_eq!(similar_units(&key("default/orders"), &known), [&known[0]]);
        assert_eq!(
            similar_units(&key("shop/zzz"), &known),
            Vec::<&UnitKey>::new()
        );
        assert_eq!(similar_words("hs", ["sh", "bj"]), ["sh"]);
    }

    #[test]
    fn the_same_name_elsewhere_comes_first() {
        let known = [key("shop/order"), key("bank/orders")];
        assert_eq!(
            similar_units(&key("shop/orders"), &known),
            [&known[1], &known[0]]
        );
    }
}
