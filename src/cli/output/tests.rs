use std::rc::Rc;

use super::*;

#[derive(Serialize)]
struct Row {
    name: &'static str,
    reason: Option<&'static str>,
}

impl Item for Row {
    const HEADERS: &'static [&'static str] = &["NAME", "REASON"];
    const WRAPPED: &'static [&'static str] = &["REASON"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.to_owned(), self.reason.unwrap_or("-").to_owned()]
    }

    fn name(&self) -> String {
        self.name.to_owned()
    }
}

const ROWS: [Row; 2] = [
    Row { name: "frontend-server", reason: None },
    Row { name: "b", reason: Some("because of a long reason") },
];

#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a printer on a terminal of this width, or on a pipe, prints.
fn printed(width: Option<u16>, print: impl FnOnce(&Printer) -> Outcome) -> String {
    let buffer = Buffer::default();
    let printer = Printer {
        out: RefCell::new(Box::new(buffer.clone())),
        terminal: width.is_some(),
        color: false,
        width,
        quiet: false,
    };
    print(&printer).expect("printed");
    printer.finish().expect("flushed");
    let bytes = buffer.0.borrow().clone();
    String::from_utf8(bytes).expect("UTF-8")
}

fn list(width: Option<u16>, format: Option<Format>) -> String {
    printed(width, |printer| printer.list(format, &ROWS))
}

#[test]
fn a_terminal_gets_a_table() {
    insta::assert_snapshot!(list(Some(80), None), @r"
    NAME              REASON
    frontend-server   -
    b                 because of a long reason
    ");
}

#[test]
fn a_narrow_terminal_wraps_inside_the_column() {
    insta::assert_snapshot!(list(Some(32), None), @r"
    NAME              REASON
    frontend-server   -
    b                 because of a
                      long reason
    ");
}

#[test]
fn columns_come_closer_before_a_table_is_given_up() {
    assert!(list(Some(30), None).starts_with("NAME              REASON\n"));
    assert!(list(Some(29), None).starts_with("NAME             REASON\n"));
}

/// Names are never wrapped, so a table may need more than there is.
#[test]
fn a_terminal_too_narrow_for_a_table_gets_records() {
    insta::assert_snapshot!(list(Some(28), None), @r"
    NAME    frontend-server
    REASON  -

    NAME    b
    REASON  because of a long reason
    ");
}

#[test]
fn a_pipe_gets_a_line_per_item() {
    assert_eq!(list(None, None), "frontend-server\t-\nb\tbecause of a long reason\n");
}

#[test]
fn a_table_can_be_asked_for() {
    assert!(list(None, Some(Format::Table)).starts_with("NAME              REASON\n"));
}

#[test]
fn documents() {
    insta::assert_snapshot!(list(Some(80), Some(Format::Json)), @r#"
    [
      {
        "name": "frontend-server",
        "reason": null
      },
      {
        "name": "b",
        "reason": "because of a long reason"
      }
    ]
    "#);
    insta::assert_snapshot!(list(None, Some(Format::Yaml)), @r"
    - name: frontend-server
      reason: null
    - name: b
      reason: because of a long reason
    ");
}

#[test]
fn names() {
    assert_eq!(list(None, Some(Format::Name)), "frontend-server\nb\n");
    assert_eq!(list(Some(80), Some(Format::Name)), "frontend-server\nb\n");
}

#[test]
fn an_empty_list() {
    let empty = |width, format| printed(width, |printer| printer.list::<Row>(format, &[]));
    assert_eq!(empty(Some(80), None), "");
    assert_eq!(empty(None, None), "");
    assert_eq!(empty(None, Some(Format::Json)), "[]\n");
    assert_eq!(empty(None, Some(Format::Yaml)), "[]\n");
}

#[test]
fn fields() {
    let fields = [("package".to_owned(), "a".to_owned()), ("id".to_owned(), "b c".to_owned())];
    let print = |width, format| printed(width, |printer| printer.fields(format, &ROWS[0], &fields, "a@1"));
    assert_eq!(print(None, None), "package\ta\nid\tb c\n");
    assert_eq!(print(Some(80), None), "package  a\nid       b c\n");
    assert_eq!(print(None, Some(Format::Table)), "package  a\nid       b c\n");
    assert_eq!(print(None, Some(Format::Name)), "a@1\n");
}

/// A name in a ledger is somebody's input: it must neither forge a line nor drive the terminal.
#[test]
fn control_characters_are_escaped_in_every_form() {
    const HOSTILE: &str = "a\nb\tc\u{1b}[2Jd\u{9b}e\u{202e}f";
    let row = [Row { name: HOSTILE, reason: Some(HOSTILE) }];
    for format in [None, Some(Format::Table), Some(Format::Json), Some(Format::Yaml), Some(Format::Name)] {
        let text = printed(None, |printer| printer.list(format, &row));
        let escaped = |letter: char| {
            !['\u{1b}', '\u{9b}', '\u{202e}'].contains(&letter) && (letter != '\t' || format.is_none())
        };
        assert!(text.chars().all(escaped), "{format:?}: {text:?}");
    }
    assert_eq!(
        printed(None, |printer| printer.list(None, &row)),
        "a\\u{a}b\\u{9}c\\u{1b}[2Jd\\u{9b}e\\u{202e}f\ta\\u{a}b\\u{9}c\\u{1b}[2Jd\\u{9b}e\\u{202e}f\n"
    );
    let json = printed(None, |printer| printer.list(Some(Format::Json), &row));
    let back: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(back[0]["name"], HOSTILE);
}

#[test]
fn colour_is_around_the_header_only() {
    let buffer = Buffer::default();
    let printer = Printer {
        out: RefCell::new(Box::new(buffer.clone())),
        terminal: true,
        color: true,
        width: Some(80),
        quiet: false,
    };
    printer.list(None, &ROWS).expect("printed");
    let text = String::from_utf8(buffer.0.borrow().clone()).expect("UTF-8");
    assert!(text.starts_with("\u{1b}[1mNAME              REASON\u{1b}[0m\nfrontend-server"), "{text:?}");
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
    struct Failing(io::ErrorKind);
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let outcome = |kind| {
        let out: RefCell<Box<dyn Write>> = RefCell::new(Box::new(Failing(kind)));
        Printer { out, terminal: false, color: false, width: None, quiet: false }.line("x")
    };
    assert!(matches!(outcome(io::ErrorKind::BrokenPipe), Err(Failure::ClosedPipe)));
    match outcome(io::ErrorKind::StorageFull) {
        Err(Failure::Error(error)) => {
            assert_eq!(crate::exit::Exit::from(&error), crate::exit::Exit::LocalIo);
            assert!(error.to_string().starts_with("cannot write to standard output: "), "{error}");
        }
        other => panic!("{other:?}"),
    }
}
