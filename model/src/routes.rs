//! Which tables a link copies, and to which table of the target each one goes. Pure.

use crate::{
    ConflictDetection, ConflictResolution, LinkConfig, Route, SnapshotMode, TableSelection,
};

/// The schema of our own, which is neither selected nor routed.
const OWN_SCHEMA: &str = "multiactive";

/// Schemas of the servers.
const SYSTEM_SCHEMAS: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

impl TableSelection {
    /// Whether a table of one of the link's databases is copied.
    pub fn has(&self, database: &str, table: &str) -> bool {
        let name = format!("{database}.{table}");
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, &name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// Whether every table that a database can have is copied, as far as it is plain from the
    /// patterns: one includes the database whole, and none excludes anything in it.
    pub fn has_all(&self, database: &str) -> bool {
        let whole = [format!("{database}.*"), "*".to_owned(), "*.*".to_owned()];
        let may_exclude = |pattern: &String| match pattern.split_once('.') {
            Some((of, _)) => matches(of, database),
            None => true,
        };
        (self.include.is_empty() || self.include.iter().any(|it| whole.contains(it)))
            && !self.exclude.iter().any(may_exclude)
    }
}

impl Route {
    /// Database and table that it leads to.
    pub fn target(&self) -> (&str, &str) {
        self.to.split_once('.').unwrap_or(("", &self.to))
    }

    fn leads_to(&self, database: &str, table: &str) -> bool {
        self.target() == (database, table)
    }

    /// Whether a table of this database may match.
    fn may_match_in(&self, database: &str) -> bool {
        let pattern = self.from.split_once('.').map_or("*", |(of, _)| of);
        matches(pattern, database)
    }
}

/// The routes of a link. Names are compared as they are written, and each table takes one route:
/// what goes to a table is not routed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    databases: Vec<String>,
    tables: TableSelection,
}

impl Routes {
    /// Those of a link.
    pub fn of(config: &LinkConfig) -> Self {
        Self {
            databases: config.databases.clone(),
            tables: config.tables.clone(),
        }
    }

    /// The routes, in order.
    pub fn all(&self) -> &[Route] {
        &self.tables.routes
    }

    /// The route that a source table takes, if any matches.
    fn taken(&self, database: &str, table: &str) -> Option<&Route> {
        if database.eq_ignore_ascii_case(OWN_SCHEMA) {
            return None;
        }
        let name = format!("{database}.{table}");
        let mut routes = self.tables.routes.iter();
        routes.find(|route| matches(&route.from, &name))
    }

    /// Database and table at the target of a source table.
    pub fn target<'a>(&'a self, database: &'a str, table: &'a str) -> (&'a str, &'a str) {
        self.taken(database, table)
            .map_or((database, table), Route::target)
    }

    /// The route that gives a source table another name, or brings it together with others.
    pub fn moves(&self, database: &str, table: &str) -> Option<&Route> {
        let route = self.taken(database, table)?;
        let stays = route.leads_to(database, table) && !self.shares(database, table);
        (!stays).then_some(route)
    }

    /// Whether more than one source table may go to this table of the target. What the patterns
    /// allow counts, not which tables there are now.
    pub fn shares(&self, database: &str, table: &str) -> bool {
        let routes = self.tables.routes.iter();
        let here: Vec<&Route> = routes
            .filter(|route| route.leads_to(database, table))
            .collect();
        let itself = || {
            self.databases.iter().any(|name| name == database)
                && self.tables.has(database, table)
                && self.target(database, table) == (database, table)
        };
        match here.as_slice() {
            [] => false,
            [only] => only.from.contains('*') || (only.from != only.to && itself()),
            _ => true,
        }
    }

    /// The route that a statement on a source object meets: the object's own, or one that leads to
    /// a table of its name. Without a name it is the database itself.
    pub fn met_by(&self, database: &str, name: Option<&str>) -> Option<&Route> {
        let mut routes = self.tables.routes.iter();
        match name {
            None => {
                routes.find(|route| route.target().0 == database || route.may_match_in(database))
            }
            Some(name) => self.moves(database, name).or_else(|| {
                routes.find(|route| route.leads_to(database, name) && route.from != route.to)
            }),
        }
    }
}

/// Why the routes of a link cannot be carried out, with the way out.
pub fn routes_problem(config: &LinkConfig) -> Option<String> {
    let routes = Routes::of(config);
    let all = routes.all();
    for (index, route) in all.iter().enumerate() {
        let why = why_not(route, &routes)
            .or_else(|| differs_in_case(route, &all[..index]))
            .or_else(|| why_not_shared(route, &routes, config));
        if let Some(why) = why {
            return Some(format!(
                "tables.routes (from {} to {}): {why}",
                route.from, route.to
            ));
        }
    }
    None
}

fn why_not(route: &Route, routes: &Routes) -> Option<String> {
    for (field, name) in [("from", &route.from), ("to", &route.to)] {
        let mut parts = name.split('.');
        let sound = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
        if !sound(parts.next()) || !sound(parts.next()) || parts.next().is_some() {
            return Some(format!("{field} is {name:?}; write it as database.table"));
        }
    }
    if route.to.contains('*') {
        return Some("to holds a *; name one table".to_owned());
    }
    let (database, table) = route.target();
    let is = |name: &&str| database.eq_ignore_ascii_case(name);
    if is(&OWN_SCHEMA) || SYSTEM_SCHEMAS.iter().any(is) {
        return Some(format!(
            "the schema {database} is not for tables of a link; choose a table of another database"
        ));
    }
    let (next_database, next_table) = routes.target(database, table);
    if (next_database, next_table) != (database, table) {
        return Some(format!(
            "a table {} of the source goes on to {next_database}.{next_table} by another route, and \
             a table is routed once: give it another name in to, or route to {next_database}.{next_table} \
             directly",
            route.to
        ));
    }
    None
}

/// A server that does not tell the case of names would take two tables for one.
fn differs_in_case(route: &Route, earlier: &[Route]) -> Option<String> {
    let same = |other: &&Route| other.to != route.to && other.to.eq_ignore_ascii_case(&route.to);
    let other = earlier.iter().find(same)?;
    Some(format!(
        "another route leads to {}, which differs in case only, and some servers take the two for \
         one table: write both alike, or give them different names",
        other.to
    ))
}

/// What several tables in one need so that none of them changes rows of another.
fn why_not_shared(route: &Route, routes: &Routes, config: &LinkConfig) -> Option<String> {
    let (database, table) = route.target();
    if !routes.shares(database, table) {
        return None;
    }
    let several = format!("several tables of the source may go to {}", route.to);
    if config.conflicts.detect != ConflictDetection::BeforeImage
        || config.conflicts.resolve != ConflictResolution::Halt
    {
        return Some(format!(
            "{several}, so each change is to be compared with the row that is there, and one that \
             meets a row of another table is to halt the link: set conflicts.detect: BeforeImage and \
             conflicts.resolve: Halt; or, if only {} is meant, exclude {} and name {} in from \
             without *",
            route.from, route.to, route.from
        ));
    }
    (config.snapshot.mode == SnapshotMode::Always).then(|| {
        format!(
            "{several}, and snapshot.mode Always would put the rows of one over those of another: \
             empty {} at the target and set snapshot.mode: IfEmpty",
            route.to
        )
    })
}

/// Whether a name fits a pattern in which `*` stands for any characters, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(exclude: &[&str], routes: &[(&str, &str)]) -> Routes {
        let route = |(from, to): &(&str, &str)| Route {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
        };
        Routes {
            databases: vec!["orders".to_owned(), "more".to_owned()],
            tables: TableSelection {
                include: Vec::new(),
                exclude: exclude.iter().map(ToString::to_string).collect(),
                routes: routes.iter().map(route).collect(),
            },
        }
    }

    #[test]
    fn patterns_match_as_written() {
        let cases = [
            ("orders.*", "orders.items", true),
            ("orders.*", "other.items", false),
            ("orders.tmp_*", "orders.tmp_1", true),
            ("orders.tmp_*", "orders.items", false),
            ("orders.items", "orders.items", true),
            ("orders.items", "orders.items2", false),
            ("*.log_*_old", "orders.log_a_b_old", true),
            ("*.log_*_old", "orders.log_old", false),
            ("*", "orders.x", true),
            ("a*a", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn the_first_match_counts_and_ours_are_not_routed() {
        let routes = routes(&[], &[("*.log_*", "orders.log"), ("orders.*", "all.rest")]);
        assert_eq!(routes.target("more", "log_1"), ("orders", "log"));
        assert_eq!(routes.target("orders", "items"), ("all", "rest"));
        assert_eq!(routes.target("more", "items"), ("more", "items"));
        let own = super::tests::routes(&[], &[("*.*", "all.rest")]);
        assert_eq!(own.target("multiactive", "epoch"), ("multiactive", "epoch"));
    }

    #[test]
    fn a_table_is_shared_if_the_patterns_allow_it() {
        let of = |exclude: &[&str], to: &[(&str, &str)]| routes(exclude, to);
        assert!(of(&[], &[("orders.log_*", "orders.log")]).shares("orders", "log"));
        assert!(
            of(&[], &[("orders.a", "orders.b"), ("orders.c", "orders.b")]).shares("orders", "b")
        );
        // The source may have a table of that name, which goes there as well.
        assert!(of(&[], &[("orders.a", "orders.b")]).shares("orders", "b"));
        assert!(!of(&["orders.b"], &[("orders.a", "orders.b")]).shares("orders", "b"));
        assert!(!of(&[], &[("orders.a", "all.b")]).shares("all", "b"));
        assert!(!of(&[], &[("orders.a", "orders.a")]).shares("orders", "a"));
        assert!(!of(&[], &[("orders.a", "orders.b")]).shares("orders", "a"));
    }

    #[test]
    fn statements_meet_the_routes_of_their_tables() {
        let routes = routes(&[], &[("orders.log_*", "all.log"), ("more.a", "more.a")]);
        let met = |database: &str, name| routes.met_by(database, name).is_some();
        assert!(met("orders", Some("log_1")) && met("all", Some("log")));
        assert!(!met("orders", Some("items")) && !met("more", Some("a")));
        assert!(met("orders", None) && met("all", None) && met("more", None));
        assert!(!met("other", None));
    }
}
