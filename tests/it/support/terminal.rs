//! A pseudo-terminal: what a program prints on one, as it looks in the end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, ExitStatus};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How a question of `sacker` ends.
const QUESTION: &str = "[y/N] ";

/// The lines of the terminal: nothing here is longer than what it does not show.
const ROWS: u16 = 50;

/// Runs `command` in a terminal of `width` columns, and types `answer` at each question; what it printed, with the line
/// ends of a pipe, and how it ended.
pub(crate) fn run(mut command: Command, width: u16, answer: Option<&str>) -> (String, ExitStatus) {
    let (mut ours, theirs) = open(width);
    let end = || theirs.try_clone().expect("the terminal can be shared");
    command.stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().expect("bash starts");
    // The terminal ends when nobody has its other side any more.
    drop((command, theirs));
    let mut printed = Vec::new();
    let mut chunk = [0; 4096];
    let mut asked = 0;
    // Linux says EIO at the end.
    while let Ok(count @ 1..) = ours.read(&mut chunk) {
        printed.extend_from_slice(&chunk[..count]);
        let questions = String::from_utf8_lossy(&printed).matches(QUESTION).count();
        if let Some(answer) = answer.filter(|_| questions > asked && printed.ends_with(QUESTION.as_bytes())) {
            asked = questions;
            let typed = if answer == "^D" { "\u{4}".to_owned() } else { format!("{answer}\n") };
            ours.write_all(typed.as_bytes()).expect("the terminal takes what is typed");
        }
    }
    let status = child.wait().expect("it ends");
    (String::from_utf8_lossy(&printed).replace("\r\n", "\n"), status)
}

/// Both sides of a new terminal: ours, and the program's.
fn open(width: u16) -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it can be used");
    let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other side");
    let size = Winsize { ws_row: ROWS, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(theirs.as_fd(), size).expect("it has a size");
    (File::from(ours), theirs)
}

/// What is left on the screen of what was drawn: bars are drawn on their line and removed from it.
pub(crate) fn settled(printed: &str) -> String {
    let shown = |line: &str| {
        let line = line.rsplit("\u{1b}[2K").next().unwrap_or_default();
        line.rsplit('\r').next().unwrap_or_default().to_owned()
    };
    printed.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

mod tests {
    use super::*;

    #[test]
    fn a_program_sees_a_terminal_of_this_width_and_gets_the_answer() {
        let mut command = Command::new("bash");
        let script =
            "stty size; read -r -p 'sure? [y/N] ' answer; echo \"<$answer>\"; [ -t 0 -a -t 1 -a -t 2 ]";
        command.args(["-c", script]);
        let (printed, status) = run(command, 43, Some("yes"));
        assert_eq!(printed, "50 43\nsure? [y/N] yes\n<yes>\n");
        assert!(status.success());
    }

    #[test]
    fn bars_leave_nothing() {
        assert_eq!(settled("a\n\r\u{1b}[2Kbar 1\r\u{1b}[2Kbar 2\r\u{1b}[2Kb\n"), "a\nb\n");
    }
}
