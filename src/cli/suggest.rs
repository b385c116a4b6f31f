//! Did you mean: which of the names that exist is closest to what was typed.

/// The candidate that is one or a few typing errors away from `typed`; nothing when all are further.
pub(super) fn closest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is another word; one wrong letter may always be a slip.
    let allowed = (typed.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != typed)
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, remove, change or swap with their neighbour (optimal string alignment), ignoring
/// case.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let changed = above[column] + usize::from(a != b);
            let mut least = changed.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("live", "live", 0),
            ("live", "LIVE", 0),
            ("live", "liev", 1),
            ("live", "lve", 1),
            ("live", "alive", 1),
            ("live", "like", 1),
            ("kitten", "sitting", 3),
            ("größe", "grosse", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn the_closest_is_offered_and_strangers_are_not() {
        let known = ["frontend-server", "frontend-static", "backend", "a"];
        assert_eq!(closest("frontend-sever", known), Some("frontend-server"));
        assert_eq!(closest("bakcend", known), Some("backend"));
        assert_eq!(closest("Backend", known), Some("backend"));
        assert_eq!(closest("database", known), None);
        assert_eq!(closest("b", known), Some("a"), "one letter may always be a slip");
        assert_eq!(closest("live", []), None);
    }
}
