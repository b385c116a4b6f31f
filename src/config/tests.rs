use super::*;

/// A home directory and the environment that points to it.
struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let home = directory.path().display().to_string();
        Self { directory, variables: vec![("HOME".into(), home)] }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn file(self, relative: &str, content: &str) -> Self {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("a file");
        self
    }

    fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn environment(&self) -> Environment {
        self.variables.iter().cloned().collect()
    }

    fn resolve(&self) -> Result<Configuration> {
        Configuration::resolve(Flags::default(), &self.environment())
    }

    fn refusal(&self) -> String {
        let error = self.resolve().expect_err("a refusal");
        assert_eq!(crate::exit::Exit::from(&error), crate::exit::Exit::Usage);
        error.to_string().replace(&self.directory.path().display().to_string(), "~")
    }
}

fn ledger_of(configuration: &Configuration) -> (String, Origin) {
    let setting = configuration.ledger().expect("a ledger");
    (setting.value.to_string(), setting.origin.clone())
}

fn store_of(configuration: &Configuration) -> (String, Origin) {
    let setting = configuration.store().expect("a store");
    (setting.value.to_string(), setting.origin.clone())
}

const OLD: &str = r#"{
  "ledger": "dynamo://us-east-1/old",
  "store": "s3://old-blobs"
}"#;

#[test]
fn nothing_configured_is_a_directory_below_the_data_home() {
    let home = Home::new();
    let expected = home.path(".local/share/sacker/ledger");
    assert_eq!(
        ledger_of(&home.resolve().expect("it")),
        (format!("file://{}", expected.display()), Origin::Default)
    );

    let home = home.variable("XDG_DATA_HOME", "/srv/data");
    assert_eq!(store_of(&home.resolve().expect("it")).0, "file:///srv/data/sacker/store");

    let relative = Home::new().variable("XDG_DATA_HOME", "data");
    assert!(ledger_of(&relative.resolve().expect("it")).0.ends_with("/.local/share/sacker/ledger"));
}

#[test]
fn the_old_file_is_read_as_it_is() {
    let home = Home::new().file(".sacker.json", OLD);
    let origin = Origin::File(home.path(".sacker.json"));
    let configuration = home.resolve().expect("it");
    assert_eq!(ledger_of(&configuration), ("dynamo://us-east-1/old".into(), origin.clone()));
    assert_eq!(store_of(&configuration), ("s3://old-blobs".into(), origin));
}

#[test]
fn each_source_beats_those_after_it() {
    let home = Home::new().file(".sacker.json", OLD);

    let home =
        home.file(".config/sacker/config.yaml", "# ours\nledger: s3://from-yaml\nstore: s3://blobs-yaml\n");
    let configuration = home.resolve().expect("it");
    assert_eq!(ledger_of(&configuration).0, "s3://from-yaml");
    assert_eq!(store_of(&configuration).1, Origin::File(home.path(".config/sacker/config.yaml")));

    let home = home.file("elsewhere/config.json", r#"{"ledger": "s3://from-xdg"}"#);
    let home = home.file("x/sacker/config.json", r#"{"ledger": "s3://from-xdg", "store": "s3://blobs-xdg"}"#);
    let xdg = home.path("x").display().to_string();
    let home = home.variable("XDG_CONFIG_HOME", xdg);
    assert_eq!(ledger_of(&home.resolve().expect("it")).0, "s3://from-xdg");

    let named = home.path("named").display().to_string();
    let home = home.file("named", r#"{"ledger": "s3://from-named", "store": "s3://blobs-named"}"#);
    let home = home.variable("SACKER_CONFIG", named);
    assert_eq!(ledger_of(&home.resolve().expect("it")).0, "s3://from-named");

    let home = home.variable("SACKER_LEDGER", "s3://from-variable");
    let configuration = home.resolve().expect("it");
    assert_eq!(ledger_of(&configuration), ("s3://from-variable".into(), Origin::Variable("SACKER_LEDGER")));
    assert_eq!(store_of(&configuration).0, "s3://blobs-named", "the store still comes from the file");

    let flags = Flags { ledger: Some("s3://from-flag"), store: &[] };
    let configuration = Configuration::resolve(flags, &home.environment()).expect("it");
    assert_eq!(ledger_of(&configuration), ("s3://from-flag".into(), Origin::Flag("--ledger")));
}

#[test]
fn flags_for_both_leave_a_broken_file_alone() {
    let home = Home::new().file(".sacker.json", "{");
    let stores = ["s3://store".to_owned()];
    let flags = Flags { ledger: Some("s3://ledger"), store: &stores };
    assert!(Configuration::resolve(flags, &home.environment()).is_ok());
}

#[test]
fn a_ledger_alone_gets_no_local_store() {
    let home = Home::new().variable("SACKER_LEDGER", "s3://ledger");
    let error = home.resolve().expect("it").store().expect_err("no store");
    assert_eq!(error.to_string(), "no store is configured, only a ledger (by SACKER_LEDGER)");
    assert!(error.hint().expect("a hint").contains("--store"));
}

#[test]
fn without_a_home_there_is_no_default() {
    let configuration = Configuration::resolve(Flags::default(), &Environment::default()).expect("it");
    let error = configuration.ledger().expect_err("no ledger").to_string();
    assert_eq!(error, "no ledger is configured, and without HOME there is no place for a local one");
}

#[test]
fn refused_files_name_file_and_line() {
    for (name, content, expected) in [
        (
            ".sacker.json",
            "{\n  \"ledger\": \"s3://abc\",\n  \"lodger\": 1\n}",
            "line 3: unknown key 'lodger', expected 'ledger' or 'store'",
        ),
        (
            ".sacker.json",
            "{\n  \"ledger\": \"s3://abc\"\n  \"store\": \"s3://abc\"\n}",
            "line 3: expected `,` or `}`",
        ),
        (
            ".sacker.json",
            "{\n  \"ledger\": \"bucket\"\n\n\n}",
            "line 2: 'bucket' is not a ledger or store URI",
        ),
        (
            ".sacker.json",
            "{\n  \"ledger\": 5\n}",
            "line 2: invalid type: integer '5', expected a URI in quotes",
        ),
        (
            ".sacker.json",
            "{\"ledger\": [\"s3://abc\"]}",
            "line 1: invalid type: sequence, expected a URI in quotes",
        ),
        (
            ".sacker.json",
            "{\"store\": \"s3://abc\", \"store\": \"s3://abd\"}",
            "line 1: duplicate key 'store'",
        ),
        (".sacker.json", "", "it is empty"),
        (".sacker.json", " \n", "it is empty"),
        (".sacker.json", "{\n\"ledger\": ", "line 2: the file ends too early"),
        (".sacker.json", "\n[]", "line 2: expected an object"),
        (".config/sacker/config.yaml", "- s3://abc\n- s3://abd\n", "line 1: "),
        (".config/sacker/config.yaml", "ledger:\n- s3://abc\n", "line 2: "),
        (".sacker.json", "{\"ledger\": \"s3://k:s@abc\"}", "credentials never stand in a URI"),
        (".config/sacker/config.yaml", "ledger: s3://abc\nlodger: 1\n", "line 2: unknown key 'lodger'"),
        (
            ".config/sacker/config.yaml",
            "ledger: s3://abc\nstore: bucket\n",
            "line 2: 'bucket' is not a ledger or store URI",
        ),
        (".config/sacker/config.yaml", "ledger: s3://abc\nstore: [\n", "line "),
    ] {
        let refusal = Home::new().file(name, content).refusal();
        let begin = format!("cannot use the configuration file '~/{name}': ");
        assert!(refusal.starts_with(&begin), "{refusal}");
        let expected = expected.replace('`', "'");
        assert!(refusal.contains(&expected), "{content:?}: {refusal}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let missing = Home::new().variable("SACKER_CONFIG", "/nowhere/sacker.json").refusal();
    assert_eq!(
        missing,
        "cannot use the configuration file '/nowhere/sacker.json': SACKER_CONFIG names it, and it does not exist"
    );

    let home = Home::new();
    std::fs::create_dir(home.path(".sacker.json")).expect("a directory");
    assert!(home.refusal().ends_with("is a directory"), "{}", home.refusal());

    let home = Home::new();
    std::os::unix::fs::symlink("nowhere", home.path(".sacker.json")).expect("a link");
    assert!(home.refusal().contains("no such file"), "{}", home.refusal());

    let endless = Home::new().variable("SACKER_CONFIG", "/dev/zero").refusal();
    assert!(endless.ends_with("it has more than 1 MiB"), "{endless}");
}

#[test]
fn two_files_in_one_place_are_refused() {
    let home = Home::new().file(".config/sacker/config.yaml", "").file(".config/sacker/config.json", "{}");
    assert!(home.refusal().contains("config.yaml' is there too"), "{}", home.refusal());
}

#[test]
fn a_file_with_comments_only_says_nothing() {
    let home = Home::new().file(".config/sacker/config.yaml", "# ledger: s3://abc\n\n");
    assert_eq!(ledger_of(&home.resolve().expect("it")).1, Origin::Default);
}

#[test]
fn a_broken_value_names_where_it_stands() {
    let home = Home::new().variable("SACKER_STORE", "dynamo://eu-west-1/x");
    assert!(home.refusal().starts_with("SACKER_STORE: "), "{}", home.refusal());
    let flags = Flags { ledger: Some("nonsense"), store: &[] };
    let error = Configuration::resolve(flags, &home.environment()).expect_err("a refusal").to_string();
    assert!(error.starts_with("--ledger: 'nonsense' is not a ledger or store URI"), "{error}");
}

#[test]
fn a_store_may_be_several() {
    let two = "s3://one file:///two";
    let file = |content: &str| Home::new().file(".sacker.json", content).resolve().expect("it resolves");
    let listed = file(r#"{"ledger": "s3://ledger", "store": ["s3://one", "file:///two"]}"#);
    assert_eq!(store_of(&listed).0, two);
    let yaml = Home::new()
        .file(".config/sacker/config.yaml", "ledger: s3://ledger\nstore:\n  - s3://one\n  - file:///two\n");
    assert_eq!(store_of(&yaml.resolve().expect("it resolves")).0, two);
    let home = Home::new()
        .variable("SACKER_LEDGER", "s3://ledger")
        .variable("SACKER_STORE", " s3://one\nfile:///two ");
    assert_eq!(
        store_of(&home.resolve().expect("it resolves")),
        (two.into(), Origin::Variable("SACKER_STORE"))
    );
    let stores = ["s3://one".to_owned(), "file:///two".to_owned()];
    let flags = Flags { ledger: None, store: &stores };
    let flagged = Configuration::resolve(flags, &home.environment()).expect("it resolves");
    assert_eq!(store_of(&flagged), (two.into(), Origin::Flag("--store")));

    for (content, why) in [
        (r#"{"ledger": "s3://ledger", "store": []}"#, "no store is named"),
        (r#"{"ledger": "s3://ledger", "store": ["s3://one", "s3://one"]}"#, "named twice"),
        (r#"{"ledger": "s3://ledger", "store": ["s3://one", 5]}"#, "a URI in quotes"),
    ] {
        let refusal = Home::new().file(".sacker.json", content).refusal();
        assert!(refusal.contains(why) && refusal.contains("line 1"), "{refusal}");
    }
}
