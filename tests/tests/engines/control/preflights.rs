//! Findings on real servers, and the account as the documents grant it.

use super::*;
use model::{Epoch, Finding, Generation, Severity, UnitKey};
use mysql::control::{
    FenceOptions, GuardOrder, OpenOrder, OpenOutcome, Owner, Ownership, PromotionOrder,
};
use mysql::preflight::{MemberReport, Role, Subject, across, member};

const ACCOUNTS: &str = include_str!("../../../../docs/database-accounts.md");

fn subject(server: &Server<'_>) -> Result<Subject> {
    Ok(Subject {
        idc: server.idc()?,
        endpoint: server.options.endpoint().clone(),
        databases: vec!["orders".to_owned()],
        members: 2,
        role: Role::Member {
            max_lag_millis: 5_000,
            unit: None,
        },
    })
}

async fn look(server: &Server<'_>) -> Result<MemberReport> {
    Ok(member(&server.options, &subject(server)?).await)
}

/// The first finding of a check; its object and fix must hold these words.
fn found(report: &MemberReport, check: &str, severity: Severity, words: &[&str]) -> Result<()> {
    let of = |finding: &&Finding| finding.check == check;
    let finding = report.findings.iter().find(of);
    let finding = finding.with_context(|| format!("no {check} in {:#?}", report.findings))?;
    ensure!(finding.severity == severity, "{finding:?}");
    let text = format!("{} {} {}", finding.object, finding.message, finding.fix);
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in {text}");
    }
    Ok(())
}

/// Runs statements as root, looks, and runs others to put things right.
async fn with(server: &Server<'_>, before: &str, after: &str) -> Result<MemberReport> {
    let mut root = server.root().await?;
    let made = root
        .query_drop(format!("SET sql_log_bin = 0; {before}"))
        .await;
    made.with_context(|| before.to_owned())?;
    let report = look(server).await;
    root.query_drop(after)
        .await
        .with_context(|| after.to_owned())?;
    report
}

#[test]
fn a_server_of_the_harness_passes() -> Result<()> {
    on_each(async |server, identity| {
        let report = look(server).await?;
        ensure!(report.passed(), "{:#?}", report.findings);
        let facts = report.facts.context("no facts")?;
        ensure!(facts.identity == Some(identity.0), "{:?}", facts.identity);
        Ok(())
    })
}

#[test]
fn what_cannot_be_copied_is_named_with_its_fix() -> Result<()> {
    on_each(async |server, _| {
        use Severity::{Blocking, Warning};
        let report = with(
            server,
            "CREATE TABLE orders.keyless (a INT, b INT NULL, UNIQUE (b)); \
             CREATE TABLE orders.old (a INT PRIMARY KEY) ENGINE = MyISAM; \
             CREATE TRIGGER orders.shadow AFTER INSERT ON orders.t FOR EACH ROW \
             INSERT INTO orders.old VALUES (NEW.id); \
             CREATE TABLE orders.child (a INT PRIMARY KEY, p INT, \
             CONSTRAINT chain FOREIGN KEY (p) REFERENCES orders.t (id) ON DELETE CASCADE); \
             CREATE EVENT orders.nightly ON SCHEDULE EVERY 1 DAY DO DO 1",
            "SET sql_log_bin = 1",
        )
        .await?;
        ensure!(!report.passed());
        found(
            &report,
            "TableWithoutKey",
            Blocking,
            &["orders.keyless", "ADD PRIMARY KEY"],
        )?;
        found(
            &report,
            "TableEngine",
            Blocking,
            &["orders.old", "MyISAM", "ENGINE = InnoDB"],
        )?;
        found(
            &report,
            "Trigger",
            Blocking,
            &["orders.t", "DROP TRIGGER `orders`.`shadow`"],
        )?;
        found(
            &report,
            "ServerEvent",
            Warning,
            &["orders.nightly", "DISABLE"],
        )?;
        if server.engine == Engine::MariaDb {
            mariadb_s_own(server, &report).await?;
        }
        Ok(())
    })
}

/// What only MariaDB has.
async fn mariadb_s_own(server: &Server<'_>, report: &MemberReport) -> Result<()> {
    use Severity::{Blocking, Warning};
    found(
        report,
        "CascadingForeignKey",
        Warning,
        &["orders.child", "`chain`"],
    )?;
    let report = with(
        server,
        "CREATE SEQUENCE orders.numbers; CREATE TABLE orders.odd (a INT PRIMARY KEY, \
         b TEXT COMPRESSED)",
        "DROP SEQUENCE orders.numbers; DROP TABLE orders.odd",
    )
    .await?;
    found(
        &report,
        "Sequence",
        Blocking,
        &["orders.numbers", "DROP SEQUENCE"],
    )?;
    found(
        &report,
        "ColumnType",
        Blocking,
        &["orders.odd", "COMPRESSED"],
    )
}

#[test]
fn databases_are_named_that_are_not_there_or_not_the_user_s() -> Result<()> {
    on_each(async |server, _| {
        use Severity::{Blocking, Warning};
        let mut elsewhere = subject(server)?;
        elsewhere.databases = vec!["nowhere".into()];
        let report = member(&server.options, &elsewhere).await;
        found(
            &report,
            "Privilege",
            Blocking,
            &["`nowhere`.*", "GRANT SELECT, INSERT"],
        )?;
        let mut root = server.root().await?;
        for database in ["nowhere", "mysql"] {
            let grant = documented(server.engine)?
                .split(';')
                .find(|statement| statement.contains("`orders`"))
                .map(|statement| statement.replace("orders", database))
                .map(|statement| statement.replace("'documented'", "'multiactive'"))
                .context("no grant on a database")?;
            root.query_drop(format!("SET sql_log_bin = 0; {grant}"))
                .await?;
        }
        elsewhere.databases.push("mysql".into());
        let report = member(&server.options, &elsewhere).await;
        let names = "`nowhere`.* FROM 'multiactive'@'%'";
        root.query_drop(format!("REVOKE ALL ON {names}")).await?;
        root.query_drop(
            "REVOKE ALL ON `mysql`.* FROM 'multiactive'@'%'; \
             GRANT SELECT ON `mysql`.* TO 'multiactive'@'%'",
        )
        .await?;
        found(
            &report,
            "DatabaseMissing",
            Warning,
            &["nowhere", "CREATE DATABASE `nowhere`"],
        )?;
        found(&report, "ReservedDatabase", Blocking, &["mysql"])
    })
}

#[test]
fn settings_are_named_with_value_and_statement() -> Result<()> {
    on_each(async |server, _| {
        use Severity::{Blocking, Warning};
        let report = with(
            server,
            "SET GLOBAL binlog_format = 'STATEMENT', GLOBAL binlog_row_image = 'MINIMAL', \
             GLOBAL binlog_row_metadata = 'MINIMAL', GLOBAL sync_binlog = 0, \
             GLOBAL auto_increment_increment = 1",
            "SET GLOBAL binlog_format = 'ROW', GLOBAL binlog_row_image = 'FULL', \
             GLOBAL binlog_row_metadata = 'FULL', GLOBAL sync_binlog = 1, \
             GLOBAL auto_increment_increment = 2",
        )
        .await?;
        let set = match server.engine {
            Engine::MySql => "SET PERSIST",
            Engine::MariaDb => "SET GLOBAL",
        };
        let fix = |variable: &str| format!("{set} {variable} = ");
        found(
            &report,
            "BinlogFormat",
            Blocking,
            &["STATEMENT", &fix("binlog_format")],
        )?;
        found(
            &report,
            "BinlogRowImage",
            Blocking,
            &["MINIMAL", &fix("binlog_row_image")],
        )?;
        found(
            &report,
            "BinlogRowMetadata",
            Blocking,
            &["MINIMAL", &fix("binlog_row_metadata")],
        )?;
        found(&report, "SyncBinlog", Blocking, &["sync_binlog is 0"])?;
        found(&report, "AutoIncrement", Warning, &["2 servers"])?;
        if server.engine == Engine::MySql {
            let on = "SET GLOBAL super_read_only = 1, GLOBAL binlog_row_value_options = \
                      PARTIAL_JSON, GLOBAL binlog_order_commits = 0";
            let off = "SET GLOBAL super_read_only = 0, GLOBAL read_only = 0, \
                       GLOBAL binlog_row_value_options = '', GLOBAL binlog_order_commits = 1";
            let report = with(server, on, off).await?;
            found(
                &report,
                "SuperReadOnly",
                Blocking,
                &["SET PERSIST super_read_only = OFF"],
            )?;
            found(
                &report,
                "PartialJson",
                Blocking,
                &["SET PERSIST binlog_row_value_options = ''"],
            )?;
            found(&report, "BinlogOrderCommits", Warning, &["OFF"])?;
        }
        let report = with(
            server,
            "XA START 'p'; INSERT INTO orders.t VALUES (70, 70); XA END 'p'; XA PREPARE 'p'",
            "XA ROLLBACK 'p'; SET sql_log_bin = 1",
        )
        .await?;
        found(&report, "Xa", Warning, &["1 prepared now"])
    })
}

#[test]
fn accounts_that_pass_read_only_by_are_named() -> Result<()> {
    on_each(async |server, _| {
        let privilege = match server.engine {
            Engine::MySql => "CONNECTION_ADMIN",
            Engine::MariaDb => "READ_ONLY ADMIN",
        };
        let report = with(
            server,
            &format!("CREATE USER 'mighty'@'%'; GRANT {privilege} ON *.* TO 'mighty'@'%'"),
            "DROP USER 'mighty'@'%'",
        )
        .await?;
        let fix = format!("REVOKE {privilege} ON *.* FROM 'mighty'@'%'");
        found(
            &report,
            "PassesReadOnly",
            Severity::Warning,
            &["'mighty'@'%'", &fix],
        )?;
        let others: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.check == "PassesReadOnly")
            .collect();
        ensure!(others.len() == 1, "{others:#?}");
        Ok(())
    })
}

/// `information_schema` of MariaDB leaves out what an account holds through a role, of a role too.
#[test]
fn accounts_that_pass_read_only_by_through_a_role_are_named() -> Result<()> {
    on_each(async |server, _| {
        if server.engine == Engine::MySql {
            return Ok(());
        }
        let report = with(
            server,
            "CREATE ROLE passing; GRANT READ_ONLY ADMIN ON *.* TO passing; CREATE ROLE outer_role; \
             GRANT passing TO outer_role; CREATE USER 'direct'@'%'; GRANT passing TO 'direct'@'%'; \
             SET DEFAULT ROLE passing FOR 'direct'@'%'; CREATE USER 'nested'@'10.%'; \
             GRANT outer_role TO 'nested'@'10.%'",
            "DROP USER 'direct'@'%', 'nested'@'10.%'; DROP ROLE passing, outer_role",
        )
        .await?;
        let named: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| finding.check == "PassesReadOnly")
            .map(|finding| finding.fix.split(';').next().unwrap_or_default())
            .collect();
        ensure!(
            named
                == [
                    "REVOKE `passing` FROM 'direct'@'%'",
                    "REVOKE `outer_role` FROM 'nested'@'10.%'"
                ],
            "{:#?}",
            report.findings
        );
        Ok(())
    })
}

#[test]
fn backup_locks_that_cannot_be_seen_are_told() -> Result<()> {
    on_each(async |server, _| {
        if server.engine == Engine::MariaDb {
            return Ok(());
        }
        let of = format!(
            "performance_schema.metadata_locks TO '{}'@'%'",
            server.database.user
        );
        let revoke = of.replace(" TO ", " FROM ");
        let report = with(
            server,
            &format!("REVOKE SELECT ON {revoke}"),
            &format!("GRANT SELECT ON {of}"),
        )
        .await?;
        let fix = format!("GRANT SELECT ON {of};");
        found(&report, "LocksNotSeen", Severity::Warning, &[&fix])?;
        let after = look(server).await?;
        ensure!(
            after
                .findings
                .iter()
                .all(|finding| finding.check != "LocksNotSeen"),
            "{after:?}"
        );
        Ok(())
    })
}

#[test]
fn a_server_of_another_unit_is_refused() -> Result<()> {
    on_each(async |server, _| {
        let unit = |name: &str| UnitKey::new("shop", name);
        let owner = Owner {
            installation: "/multiactive/".to_owned(),
            unit: unit("first")?,
            idc: server.idc()?,
        };
        let mut control = server.control().await?;
        ensure!(control.claim(&owner, |_, _| true).await? == Ownership::Claimed);
        let of = async |name: &str| -> Result<MemberReport> {
            let subject = Subject {
                role: Role::Member {
                    max_lag_millis: 5_000,
                    unit: Some(unit(name)?),
                },
                ..subject(server)?
            };
            Ok(member(&server.options, &subject).await)
        };
        let report = of("second").await?;
        let words = ["unit shop/first", "/multiactive/"];
        found(&report, "SharedServer", Severity::Blocking, &words)?;
        let none = |report: &MemberReport| {
            let mut findings = report.findings.iter();
            findings.all(|finding| finding.check != "SharedServer")
        };
        ensure!(none(&of("first").await?));
        let mut root = server.root().await?;
        let away = "SET sql_log_bin = 0; \
                    UPDATE multiactive.owner SET at = UTC_TIMESTAMP(6) - INTERVAL 60 SECOND";
        root.query_drop(away).await?;
        let words = ["DELETE FROM multiactive.owner"];
        found(
            &of("second").await?,
            "SharedServer",
            Severity::Warning,
            &words,
        )?;
        root.query_drop("DELETE FROM multiactive.owner").await?;
        ensure!(none(&of("second").await?));
        Ok(())
    })
}

#[test]
fn what_keeps_us_out_is_a_finding_too() -> Result<()> {
    on_each(async |server, _| {
        let credentials = |username: &str, password: &str| Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
            ca: None,
        };
        let at = |port, mode| Endpoint {
            host: server.database.host.clone(),
            port,
            tls: TlsSettings { mode },
        };
        let port = server.database.port;
        let plain = model::TlsMode::Disabled;
        let right = credentials(&server.database.user, &server.database.password);
        let wrong = credentials(&server.database.user, "wrong");
        let cases = [
            ("AccessDenied", at(port, plain), wrong),
            ("Unreachable", at(port + 1, plain), right.clone()),
        ];
        for (check, endpoint, credentials) in cases {
            let options = SessionOptions::new(&endpoint, &credentials, Program::Mactl)?;
            let report = member(&options, &subject(server)?).await;
            ensure!(!report.passed() && report.facts.is_none());
            found(&report, check, Severity::Blocking, &[&server.database.host])?;
        }
        if server.engine == Engine::MariaDb {
            // The harness gives this one no certificate.
            let endpoint = at(port, model::TlsMode::Required);
            let options = SessionOptions::new(&endpoint, &right, Program::Mactl)?;
            let report = member(&options, &subject(server)?).await;
            found(&report, "Tls", Severity::Blocking, &["certificate"])?;
        }
        Ok(())
    })
}

#[test]
fn two_names_for_one_server_are_found() -> Result<()> {
    on_each(async |server, _| {
        let facts = look(server).await?.facts.context("no facts")?;
        let one = (subject(server)?, facts);
        let mut two = one.clone();
        two.0.idc = IdcName::new("elsewhere")?;
        let findings = across(&[one, two]);
        ensure!(
            findings.iter().any(|finding| finding.check == "SameServer"),
            "{findings:?}"
        );
        Ok(())
    })
}

/// The statements of the documents for an engine, for an account of another name.
fn documented(engine: Engine) -> Result<String> {
    let heading = match engine {
        Engine::MySql => "## MySQL",
        Engine::MariaDb => "## MariaDB",
    };
    let (_, rest) = ACCOUNTS.split_once(heading).context("no such heading")?;
    let (_, rest) = rest.split_once("```sql\n").context("no statements")?;
    let (statements, _) = rest.split_once("```").context("no end")?;
    Ok(statements.replace("'multiactive'@'%'", "'documented'@'%'"))
}

/// What a script grants to an account, one privilege and object a line, in order.
fn grants(script: &str, account: &str) -> Result<Vec<String>> {
    let mut grants = Vec::new();
    for statement in script.split(';') {
        let lines = statement.lines().map(str::trim);
        let statement: Vec<&str> = lines.filter(|line| !line.starts_with("--")).collect();
        let statement = statement.join(" ");
        let Some(of_account) = statement.trim().strip_suffix(&format!(" TO {account}")) else {
            continue;
        };
        let grant = of_account.strip_prefix("GRANT ").context("no GRANT")?;
        let (privileges, object) = grant.split_once(" ON ").context("no ON")?;
        let each = privileges.split(',').map(str::trim);
        grants.extend(each.map(|privilege| format!("{privilege} ON {}", object.trim())));
    }
    grants.sort();
    Ok(grants)
}

/// All suites run the product with the account of the harness: they show that the documented one
/// is enough only while the two are the same.
#[test]
fn the_account_of_the_tests_is_the_documented_one() -> Result<()> {
    let scripts = [
        (
            Engine::MySql,
            include_str!("../../../../harness/sql/mysql.sql"),
        ),
        (
            Engine::MariaDb,
            include_str!("../../../../harness/sql/mariadb.sql"),
        ),
    ];
    for (engine, script) in scripts {
        let documented = grants(&documented(engine)?, "'documented'@'%'")?;
        let of_tests = grants(script, "'multiactive'@'%'")?;
        ensure!(documented.len() > 25, "{documented:?}");
        ensure!(
            documented == of_tests,
            "{engine:?}: documented {documented:#?}, in the tests {of_tests:#?}"
        );
    }
    Ok(())
}

/// With the documented grants and nothing more everything works that the arbiter does; and each
/// privilege taken away is missed, by name and with the statement that gives it back.
#[test]
fn the_documented_account_is_enough_and_has_nothing_to_spare() -> Result<()> {
    on_each(async |server, _| {
        let mut root = server.root().await?;
        let statements = documented(server.engine)?;
        root.query_drop("SET sql_log_bin = 0; DROP USER IF EXISTS 'documented'@'%'")
            .await?;
        root.query_drop(statements.as_str())
            .await
            .with_context(|| statements.clone())?;
        let credentials = Credentials {
            username: "documented".into(),
            password: "a password of its own".into(),
            ca: None,
        };
        let endpoint = server.options.endpoint().clone();
        let options = SessionOptions::new(&endpoint, &credentials, Program::Arbiter)?;
        let subject = subject(server)?;
        let report = member(&options, &subject).await;
        // The other account of the product is a stranger to this one.
        let about = |finding: &&Finding| finding.check != "PassesReadOnly";
        let findings: Vec<&Finding> = report.findings.iter().filter(about).collect();
        let told = |finding: &&&Finding| finding.check != "BootsFenced" && finding.check != "Xa";
        let findings: Vec<_> = findings.iter().filter(told).collect();
        ensure!(findings.is_empty(), "{findings:#?}");
        a_life(server, &options).await?;

        for line in statements
            .split(';')
            .map(str::trim)
            .filter(|line| line.starts_with("GRANT"))
        {
            let (privileges, rest) = line[6..].split_once(" ON ").context("no ON")?;
            let (object, _) = rest.split_once(" TO ").context("no TO")?;
            for privilege in privileges.split(',').map(str::trim) {
                let (object, mut root) = (object.trim(), server.root().await?);
                let (revoke, grant) = (
                    format!("REVOKE {privilege} ON {object} FROM 'documented'@'%'"),
                    format!("GRANT {privilege} ON {object} TO 'documented'@'%'"),
                );
                root.query_drop(format!("SET sql_log_bin = 0; {revoke}"))
                    .await?;
                let report = member(&options, &subject).await;
                let missed = report
                    .findings
                    .iter()
                    .any(|finding| finding.fix.starts_with(&grant.replace(" \n", " ")));
                ensure!(
                    missed,
                    "without {privilege} on {object}: {:#?}",
                    report.findings
                );
                root.query_drop(grant).await?;
            }
        }
        // The fence has cut the first session of root where it could.
        server
            .root()
            .await?
            .query_drop("DROP USER 'documented'@'%'")
            .await?;
        Ok(())
    })
}

/// Everything an arbiter does, with another account.
async fn a_life(server: &Server<'_>, options: &SessionOptions) -> Result<()> {
    server
        .root()
        .await?
        .query_drop("SET sql_log_bin = 0; DROP DATABASE multiactive")
        .await?;
    let mut control = ControlSession::connect(options, PATIENCE).await?;
    let identity = control.install().await?;
    control.boots_fenced().await?;
    control.adopt(Generation(1)).await?;
    let emergency = FenceOptions {
        generation: Generation(1),
        grace: Duration::ZERO,
        budget: PATIENCE,
        keep: vec![],
        heartbeat: Some((server.idc()?, Epoch(1))),
    };
    control.fence(&emergency).await?;
    let promotion = PromotionOrder {
        epoch: Epoch(1),
        idc: server.idc()?,
        from: None,
        lossy: false,
    };
    control.promote(&promotion).await?;
    control
        .applied_through(&server.idc()?, &model::PositionText("0-1-1".into()))
        .await?;
    let until = clock() + Duration::from_secs(20);
    let guard = GuardOrder {
        until,
        identity: identity.clone(),
        generation: Generation(1),
    };
    let guard = control.start_guard(options, &guard, clock).await?;
    let boot = control.observe(None).await?.boot;
    let order = OpenOrder {
        epoch: Epoch(1),
        until,
        identity,
        boot,
        generation: Generation(1),
    };
    let opened = control.open(&order, clock).await?;
    ensure!(opened == OpenOutcome::Opened, "{opened:?}");
    control
        .heartbeat(NEWEST, &server.idc()?, Epoch(1), true)
        .await?;
    let mut app = server.app().await?;
    app.query_drop("LOCK TABLES t WRITE").await?;
    control.fence(&emergency).await?;
    ensure!(server.read_only().await?);
    drop(guard);
    marked_writes(server.engine, options).await
}

/// What a writer says to its session.
async fn marked_writes(engine: Engine, options: &SessionOptions) -> Result<()> {
    let mut writer = options.connect().await?;
    let marks: &[&str] = match engine {
        Engine::MySql => &[
            "SET SESSION gtid_next = 'AUTOMATIC:ma_gz'",
            "SET SESSION sql_generate_invisible_primary_key = 0",
            "INSERT INTO orders.t VALUES (80, 80)",
            "SET SESSION gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:ma_gz:1'",
            "ALTER TABLE orders.t ADD COLUMN w INT",
        ],
        Engine::MariaDb => &[
            "SET SESSION gtid_domain_id = 77",
            "SET SESSION check_constraint_checks = 0, max_statement_time = 0",
            "INSERT INTO orders.t VALUES (80, 80)",
            "SET SESSION server_id = 4294967295, gtid_seq_no = 500",
            "ALTER TABLE orders.t ADD COLUMN w INT",
        ],
    };
    for statement in marks {
        writer
            .conn
            .query_drop(*statement)
            .await
            .with_context(|| (*statement).to_owned())?;
    }
    Ok(())
}
