use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::log::LogTail;
use super::super::model::{Question, Request, Verb};
use super::*;
use crate::text;

const HEADINGS: [&str; 11] = [
    "NAME", "STATE", ">CLIENTS", ">CPU", ">MEMORY", ">UP", "KEPT", ">PID", ">PORT", ">TIME",
    "PROJECT",
];

fn row(name: &str, cells: [&str; 10]) -> Row {
    let cells = cells.map(str::to_owned);
    Row {
        object: format!("object of {name}"),
        name: Some(name.to_owned()),
        cells: std::iter::once(text::shown(name)).chain(cells).collect(),
        is_running: true,
        ..Row::default()
    }
}

/// Returns a model with four services, one of them with a long name that has control characters.
fn model() -> Model {
    let green = "\u{1b}[32mready\u{1b}[0m";
    let rows = vec![
        Row {
            is_pinned: true,
            log: Some("/run/db.log".into()),
            holders: (1..=9)
                .map(|pid| format!("  pid {pid}, running for 3s: psql"))
                .collect(),
            ..row(
                "db",
                [
                    green,
                    "9",
                    "12%",
                    "512M",
                    "3m 2s",
                    "pinned",
                    "4711",
                    "5432",
                    "7.1s",
                    "/src/shop",
                ],
            )
        },
        row(
            "数据库",
            [
                green,
                "0",
                "0.0%",
                "18.2M",
                "2h 5m",
                "linger 8.3s",
                "812",
                "-",
                "1m 4s",
                "/src/shop",
            ],
        ),
        row(
            "a-service-with-a-very-long-name\n\u{1b}[2J",
            [
                "starting by 9 (suspended)",
                "1",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-",
            ],
        ),
        row(
            "web",
            ["dead", "0", "-", "-", "-", "-", "99", "8080", "-", "-"],
        ),
    ];
    Model {
        headings: HEADINGS.to_vec(),
        rows,
        ..Model::default()
    }
}

/// Compares a screen with its snapshot, which is outside of `src`, because packages contain only code there.
#[track_caller]
fn assert_screen(name: &str, screen: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(format!("watch_{name}"), screen));
}

/// Returns the screen without colors, and checks that it fits into the terminal.
fn screen(model: &Model, width: usize, height: usize) -> String {
    let lines = lines(model, Size { width, height });
    assert_eq!(lines.len(), height);
    let plain: Vec<String> = lines
        .iter()
        .map(|line| strip_ansi_codes(line).into_owned())
        .collect();
    for line in &plain {
        assert!(
            measure_text_width(line) <= width,
            "{line:?} is wider than {width}"
        );
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let ends: Vec<&str> = plain.iter().map(|line| line.trim_end()).collect();
    ends.join("\n") + "\n"
}

fn press(model: &mut Model, code: KeyCode) -> Option<Request> {
    model.press(KeyEvent::new(code, KeyModifiers::NONE), 5)
}

fn press_char(model: &mut Model, key: char) -> Option<Request> {
    press(model, KeyCode::Char(key))
}

#[test]
fn list_shows_all_columns_when_the_terminal_is_wide() {
    assert_screen("wide", &screen(&model(), 150, 8));
}

#[test]
fn list_leaves_columns_out_and_shortens_names_when_the_terminal_is_narrow() {
    assert_screen(
        "narrow",
        &(screen(&model(), 80, 7) + "----\n" + &screen(&model(), 40, 7)),
    );
}

#[test]
fn list_is_empty_without_services() {
    let model = Model {
        headings: HEADINGS.to_vec(),
        ..Model::default()
    };
    assert_screen("empty", &screen(&model, 60, 3));
}

#[test]
fn list_scrolls_to_the_selected_service_when_the_terminal_is_low() {
    let mut model = model();
    press(&mut model, KeyCode::End);
    assert_screen("low", &screen(&model, 20, 5));
}

#[test]
fn selected_row_is_inverted_over_the_whole_width() {
    let lines = lines(
        &model(),
        Size {
            width: 70,
            height: 6,
        },
    );
    assert!(lines[1].starts_with("\u{1b}[7m> db"), "{:?}", lines[1]);
    assert_eq!(measure_text_width(&lines[1]), 70);
    // A color inside would end the inversion.
    assert_eq!(lines[1].matches('\u{1b}').count(), 2, "{:?}", lines[1]);
    assert!(lines[2].contains("\u{1b}[32mready"), "{:?}", lines[2]);
}

#[test]
fn screen_of_any_size_fits_into_the_terminal() {
    let mut log = LogTail::new("db".to_owned(), "/run/db.log".into());
    log.lines = (0..30)
        .map(|it| format!("{it} {}", "long ".repeat(20)))
        .collect();
    log.below = 7;
    let question = || Question {
        object: String::new(),
        name: "db".to_owned(),
    };
    let message = || vec!["word ".repeat(50), "数据库".repeat(30)];
    let mut models = vec![Model::default(), model()];
    models.push(Model {
        view: View::Holders,
        message: message(),
        ..model()
    });
    models.push(Model {
        view: View::Log(log),
        message: message(),
        ..model()
    });
    models.push(Model {
        question: Some(question()),
        message: message(),
        selected: 3,
        ..model()
    });
    for model in &models {
        for width in (0..10).chain([19, 30, 49]) {
            for height in (0..8).chain([19]) {
                screen(model, width, height);
                assert!(page(model, Size { width, height }) > 0);
            }
        }
        screen(model, 500, 200);
    }
}

#[test]
fn message_and_question_are_below_the_list() {
    let mut model = model();
    model.message = vec![
        "procref: service `db` is held by 9 clients and was not stopped by this command".to_owned(),
        "  pid 1, running for 3s: psql".to_owned(),
    ];
    model.question = Some(Question {
        object: "object of db".to_owned(),
        name: "db".to_owned(),
    });
    assert_screen("question", &screen(&model, 60, 9));
}

#[test]
fn holders_that_do_not_fit_are_counted() {
    let mut model = model();
    press_char(&mut model, 'h');
    assert_screen("holders", &screen(&model, 60, 6));
    press(&mut model, KeyCode::Down);
    assert_screen("no_holders", &screen(&model, 60, 4));
    press(&mut model, KeyCode::Esc);
    assert!(matches!(model.view, View::List));
}

#[test]
fn log_shows_its_end_and_scrolls() {
    let mut model = model();
    assert_eq!(press_char(&mut model, 'l'), Some(Request::ReadLog));
    let View::Log(log) = &mut model.view else {
        panic!("no log");
    };
    log.lines = (1..=20).map(|it| format!("line {it}")).collect();
    assert_screen("log", &screen(&model, 60, 6));
    press(&mut model, KeyCode::PageUp);
    assert_screen("log_scrolled", &screen(&model, 60, 6));
    press(&mut model, KeyCode::End);
    press(&mut model, KeyCode::Esc);
    assert!(matches!(model.view, View::List));
}

#[test]
fn log_of_a_service_without_one_is_a_message() {
    let mut model = model();
    model.selected = 3;
    assert_eq!(press_char(&mut model, 'l'), None);
    assert!(matches!(model.view, View::List));
    assert_eq!(
        model.message,
        ["service `web` has no log: it was not started by a command"]
    );
    model.rows[3].is_running = false;
    press_char(&mut model, 'l');
    assert_eq!(
        model.message,
        ["service `web` is not running, and has no log of an earlier run"]
    );
}

#[test]
fn keys_request_changes_of_the_selected_service() {
    let mut model = model();
    let of = |verb, name: &str| Some(Request::Change(verb, format!("object of {name}")));
    assert_eq!(press_char(&mut model, 'p'), of(Verb::Unpin, "db"));
    assert_eq!(press_char(&mut model, 'j'), None);
    assert_eq!(press_char(&mut model, 'p'), of(Verb::Pin, "数据库"));
    assert_eq!(press_char(&mut model, 's'), of(Verb::Stop, "数据库"));
    assert_eq!(press_char(&mut model, 'q'), Some(Request::Quit));
    model.rows[1].name = None;
    assert_eq!(press_char(&mut model, 's'), None);
    assert!(model.message[0].contains("procref gc"));
    model.rows.clear();
    assert_eq!(press_char(&mut model, 's'), None);
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert_eq!(model.press(control('c'), 5), Some(Request::Interrupt));
    assert_eq!(model.press(control('z'), 5), Some(Request::Suspend));
}

#[test]
fn question_is_answered_with_no_by_every_other_key() {
    let ask = |model: &mut Model| {
        model.question = Some(Question {
            object: "object of web".to_owned(),
            name: "web".to_owned(),
        });
    };
    let mut model = model();
    for key in ['n', 'q', 's', ' '] {
        ask(&mut model);
        assert_eq!(press_char(&mut model, key), None);
        assert!(model.question.is_none());
    }
    ask(&mut model);
    let force = Request::Change(Verb::ForceStop, "object of web".to_owned());
    assert_eq!(press_char(&mut model, 'y'), Some(force));
}

#[test]
fn selection_follows_its_service_when_the_list_changes() {
    let mut model = model();
    model.selected = 3;
    let mut rows = model.rows.clone();
    rows.remove(0);
    model.set_rows(rows);
    assert_eq!(
        model.selected().and_then(|it| it.name.as_deref()),
        Some("web")
    );
    model.view = View::Holders;
    let mut rows = model.rows.clone();
    rows.pop();
    model.set_rows(rows);
    assert_eq!(model.selected, 1);
    assert!(
        matches!(model.view, View::List),
        "another service is selected"
    );
    model.set_rows(Vec::new());
    assert_eq!(model.selected, 0);
}
