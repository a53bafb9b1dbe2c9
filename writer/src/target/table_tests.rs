use change::Column;

use super::*;

pub(crate) fn source(columns: &[(&str, ColumnKind)]) -> TableSchema {
    let columns = columns.iter().map(|(name, kind)| Column {
        name: (*name).to_owned(),
        kind: *kind,
        unsigned: false,
        nullable: true,
        collation: 45,
        length: 0,
        decimals: 0,
        members: Vec::new(),
    });
    TableSchema {
        database: "shop".into(),
        table: "orders".into(),
        columns: columns.collect(),
        primary_key: vec![0],
    }
}

pub(crate) fn target(columns: &[(&str, &str)]) -> TargetTable {
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, data_type)| TargetColumn {
            name: (*name).to_owned(),
            data_type: (*data_type).to_owned(),
            column_type: (*data_type).to_owned(),
            length: None,
            precision: None,
            nullable: true,
            has_default: false,
            extra: String::new(),
            character_set: "utf8mb4".to_owned(),
        })
        .collect();
    let key = vec![Some(columns[0].name.clone())];
    TargetTable {
        database: "shop".into(),
        name: "orders".into(),
        kind: "BASE TABLE".into(),
        engine: "InnoDB".into(),
        columns,
        unique: vec![UniqueIndex {
            name: "PRIMARY".into(),
            columns: key,
            nullable: false,
        }],
        triggers: Vec::new(),
        foreign: ForeignKeys::default(),
        cascading: Vec::new(),
    }
}

const PLAIN: &[(&str, ColumnKind)] = &[("id", ColumnKind::Int), ("note", ColumnKind::VarChar)];

#[test]
fn columns_are_found_by_name() {
    let mut swapped = target(&[("Id", "bigint"), ("NOTE", "text")]);
    swapped.columns.swap(0, 1);
    let mapping = map(&source(PLAIN), &swapped).unwrap();
    let names: Vec<_> = mapping
        .columns
        .iter()
        .map(|c| (c.index, c.name.as_str()))
        .collect();
    assert_eq!(names, [(0, "Id"), (1, "NOTE")]);
    assert_eq!(mapping.key[0].index, 0);
}

#[test]
fn generated_columns_are_not_written() {
    let mut table = target(&[("id", "int"), ("note", "varchar")]);
    table.columns[1].extra = "STORED GENERATED".into();
    assert_eq!(map(&source(PLAIN), &table).unwrap().columns.len(), 1);
    table.columns[1].extra = "DEFAULT_GENERATED".into();
    assert_eq!(map(&source(PLAIN), &table).unwrap().columns.len(), 2);
}

#[test]
fn what_cannot_be_applied_safely_is_refused() {
    let refused = |change: &dyn Fn(&mut TargetTable)| {
        let mut table = target(&[("id", "int"), ("note", "varchar")]);
        change(&mut table);
        map(&source(PLAIN), &table).unwrap_err()
    };
    let error = refused(&|table| table.triggers.push("t1".into()));
    assert!(error.to_string().contains("DROP TRIGGER t1"), "{error}");
    let error = refused(&|table| table.engine = "MyISAM".into());
    assert!(error.to_string().contains("ENGINE=InnoDB"), "{error}");
    let error = refused(&|table| table.unique.clear());
    assert!(matches!(error, Unfit::NoKey { .. }), "{error}");
    let error = refused(&|table| table.unique[0].nullable = true);
    assert!(matches!(error, Unfit::NoKey { .. }), "{error}");
    let error = refused(&|table| table.columns[1].data_type = "uuid".into());
    assert!(matches!(error, Unfit::Type { .. }), "{error}");
    let error = refused(&|table| drop(table.columns.pop()));
    assert!(matches!(error, Unfit::ColumnMissing { .. }), "{error}");
    let error = refused(&|table| table.kind = "VIEW".into());
    assert!(matches!(error, Unfit::Kind { .. }), "{error}");
}

#[test]
fn columns_that_keep_fewer_digits_are_known() {
    let form = |kind, column_type: &str| {
        let from = source(&[("id", ColumnKind::Int), ("c", kind)]);
        let mut to = target(&[("id", "int"), ("c", "double")]);
        column_type.clone_into(&mut to.columns[1].column_type);
        map(&from, &to).unwrap().columns[1].form
    };
    assert_eq!(form(ColumnKind::Double, "double"), Form::Plain);
    assert_eq!(form(ColumnKind::Double, "double(10,2)"), Form::Rounded(2));
    assert_eq!(
        form(ColumnKind::Float, "double(7,0) unsigned"),
        Form::Rounded(0)
    );
}

#[test]
fn what_the_server_would_change_silently_is_refused() {
    let fits = |kind, change: &dyn Fn(&mut change::Column, &mut TargetColumn), data_type| {
        let mut from = source(&[("id", ColumnKind::Int), ("c", kind)]);
        let mut to = target(&[("id", "int"), ("c", data_type)]);
        change(&mut from.columns[1], &mut to.columns[1]);
        map(&from, &to).is_ok()
    };
    let digits = |has: u64| {
        move |from: &mut change::Column, to: &mut TargetColumn| {
            from.decimals = 3;
            to.precision = Some(has);
        }
    };
    assert!(fits(ColumnKind::DateTime, &digits(3), "datetime"));
    assert!(!fits(ColumnKind::DateTime, &digits(0), "datetime"));
    let length = |has: u64| {
        move |from: &mut change::Column, to: &mut TargetColumn| {
            from.length = 8;
            to.length = Some(has);
        }
    };
    assert!(fits(ColumnKind::Binary, &length(8), "binary"));
    assert!(!fits(ColumnKind::Binary, &length(16), "binary"));
    let same = |_: &mut change::Column, _: &mut TargetColumn| {};
    for (kind, data_type, expected) in [
        (ColumnKind::VarBinary, "varbinary", true),
        (ColumnKind::Blob, "varbinary", true),
        (ColumnKind::VarBinary, "binary", false),
        (ColumnKind::Blob, "binary", false),
        (ColumnKind::Char, "char", true),
        (ColumnKind::Char, "varchar", true),
        (ColumnKind::VarChar, "text", true),
        (ColumnKind::VarChar, "char", false),
        (ColumnKind::Text, "char", false),
    ] {
        assert_eq!(
            fits(kind, &same, data_type),
            expected,
            "{kind:?} into {data_type}"
        );
    }
    let members = |text: &'static str| {
        move |from: &mut change::Column, to: &mut TargetColumn| {
            from.members = vec!["a".into(), "it's".into()];
            text.clone_into(&mut to.column_type);
        }
    };
    assert!(fits(
        ColumnKind::Enum,
        &members("enum('a','it''s')"),
        "enum"
    ));
    assert!(!fits(
        ColumnKind::Enum,
        &members("enum('it''s','a')"),
        "enum"
    ));
    assert!(!fits(
        ColumnKind::Enum,
        &members("enum('a','it''s','c')"),
        "enum"
    ));
}

#[test]
fn a_column_that_only_the_target_has_needs_a_default() {
    let mut table = target(&[("id", "int"), ("note", "varchar"), ("new", "int")]);
    assert!(map(&source(PLAIN), &table).is_ok());
    table.columns[2].nullable = false;
    assert!(matches!(
        map(&source(PLAIN), &table),
        Err(Unfit::ColumnExtra { .. })
    ));
    table.columns[2].has_default = true;
    assert!(map(&source(PLAIN), &table).is_ok());
}
