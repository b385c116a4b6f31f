//! Two texts side by side, line by line, for a person.

use std::fmt::Write as _;

/// Lines that are the same are shown this far around a difference.
const AROUND: usize = 3;

/// The lines of `old` that went (`-`) and those of `new` that came (`+`), with what stands around them. Empty for equal
/// texts.
pub(super) fn difference(old: &str, new: &str) -> String {
    let lines = marked(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let is_near = |position: usize| {
        let (from, to) = (position.saturating_sub(AROUND), (position + AROUND + 1).min(lines.len()));
        lines[from..to].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut last = 0;
    for (position, (mark, line)) in lines.iter().enumerate().filter(|(position, _)| is_near(*position)) {
        if position > last + 1 {
            text.push_str("...\n");
        }
        last = position;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {line}");
    }
    text
}

/// A longest common sequence of lines, and what is beside it.
fn marked<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (row, left) in old.iter().enumerate().rev() {
        for (column, right) in new.iter().enumerate().rev() {
            common[row][column] = if left == right {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    while row < old.len() || column < new.len() {
        if row < old.len() && column < new.len() && old[row] == new[column] {
            lines.push((' ', old[row]));
            (row, column) = (row + 1, column + 1);
        } else if column == new.len()
            || (row < old.len() && common[row + 1][column] >= common[row][column + 1])
        {
            lines.push(('-', old[row]));
            row += 1;
        } else {
            lines.push(('+', new[column]));
            column += 1;
        }
    }
    lines
}

mod tests {
    use super::*;

    #[test]
    fn what_went_and_what_came() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), "");
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), "  a\n- b\n+ x\n  c\n");
        let (old, new) = ("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n5\n6\n7\n8\n");
        assert_eq!(difference(old, new), "...\n  5\n  6\n  7\n+ 8\n");
    }
}
