//! What differs between two specs, in words: a pure function.

use serde_json::Value;

/// More than these are not told one by one.
const AT_MOST: usize = 4;

/// What the first has in the place of what the second has: `priority 50 of member bj (not 60)`. Empty
/// if they are equal.
pub fn differences(theirs: &Value, ours: &Value) -> String {
    let mut found = Vec::new();
    walk(theirs, ours, &mut Vec::new(), &mut found);
    let more = found.len().saturating_sub(AT_MOST);
    found.truncate(AT_MOST);
    let mut text = found.join(", ");
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

/// One step into a spec.
#[derive(Debug, Clone)]
enum Place {
    Field(String),
    Member(String),
    Item(usize),
}

fn walk(theirs: &Value, ours: &Value, at: &mut Vec<Place>, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let place = Place::Field(key.clone());
                step(one.get(key), other.get(key), place, at, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => match (members(one), members(other)) {
            (Some(one), Some(other)) => {
                let mut names: Vec<&str> = one.iter().chain(&other).map(|it| it.0).collect();
                names.sort_unstable();
                names.dedup();
                let of = |list: &[(&str, &Value)], name: &str| -> Option<Value> {
                    let found = list.iter().find(|(idc, _)| *idc == name);
                    found.map(|(_, member)| (*member).clone())
                };
                for name in names {
                    let (theirs, ours) = (of(&one, name), of(&other, name));
                    let place = Place::Member(name.to_owned());
                    step(theirs.as_ref(), ours.as_ref(), place, at, found);
                }
            }
            _ if one.len() == other.len() => {
                for (number, (one, other)) in one.iter().zip(other).enumerate() {
                    step(Some(one), Some(other), Place::Item(number), at, found);
                }
            }
            _ => found.push(sentence(Some(theirs), Some(ours), at)),
        },
        _ if theirs == ours => {}
        _ => found.push(sentence(Some(theirs), Some(ours), at)),
    }
}

fn step(
    theirs: Option<&Value>,
    ours: Option<&Value>,
    place: Place,
    at: &mut Vec<Place>,
    found: &mut Vec<String>,
) {
    at.push(place);
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => walk(theirs, ours, at, found),
        (theirs, ours) => found.push(sentence(theirs, ours, at)),
    }
    at.pop();
}

/// The entries of a list in which each has an IDC of its own.
fn members(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    list.iter()
        .map(|entry| Some((entry.get("idc")?.as_str()?, entry)))
        .collect()
}

fn sentence(theirs: Option<&Value>, ours: Option<&Value>, at: &[Place]) -> String {
    let mut path = String::new();
    let mut member = None;
    for place in at {
        match place {
            Place::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Place::Member(name) => {
                member = Some(name);
                path.clear();
            }
            Place::Item(number) => path.push_str(&format!("[{number}]")),
        }
    }
    match (member, path.is_empty()) {
        (Some(member), true) if theirs.is_none() => format!("no member {member}"),
        (Some(member), true) if ours.is_none() => format!("a member {member}"),
        (Some(member), true) => format!("another member {member}"),
        (member, _) => {
            let of = member.map_or_else(String::new, |member| format!(" of member {member}"));
            let not = ours.map_or_else(|| "not set".to_owned(), short);
            match theirs {
                Some(theirs) => format!("{path} {}{of} (not {not})", short(theirs)),
                None => format!("no {path}{of} (not {not})"),
            }
        }
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 40 {
        return text;
    }
    let head: String = text.chars().take(37).collect();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(priority: u32) -> Value {
        json!({
            "databases": ["orders"],
            "members": [
                {"idc": "sh", "priority": 100},
                {"idc": "bj", "endpoint": {"host": "b"}, "priority": priority},
            ],
            "paused": false,
        })
    }

    #[test]
    fn a_changed_field_is_told_with_its_member() {
        assert_eq!(
            differences(&spec(50), &spec(60)),
            "priority 50 of member bj (not 60)"
        );
        assert_eq!(differences(&spec(50), &spec(50)), "");
    }

    #[test]
    fn members_that_only_one_has_are_told() {
        let mut fewer = spec(50);
        fewer["members"].as_array_mut().unwrap().pop();
        assert_eq!(differences(&fewer, &spec(50)), "no member bj");
        assert_eq!(differences(&spec(50), &fewer), "a member bj");
    }

    #[test]
    fn other_fields_are_told_by_their_path() {
        let mut other = spec(50);
        other["paused"] = json!(true);
        other["databases"] = json!(["orders", "bills"]);
        other["failover"] = json!({"mode": "Manual"});
        assert_eq!(
            differences(&spec(50), &other),
            "databases [\"orders\"] (not [\"orders\",\"bills\"]), no failover (not \
             {\"mode\":\"Manual\"}), paused false (not true)"
        );
    }
}
