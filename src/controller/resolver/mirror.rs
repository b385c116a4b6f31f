//! A package as a status shows it. Pure.

use std::cmp::Reverse;
use std::fmt::Write as _;

use crate::api::{SackerPackageStatus, TagStatus, VersionStatus};
use crate::model::{PackageView, TagView, Version, VersionRecord, time};

/// How many tags a status shows: an object must stay far below the size that etcd takes.
const TAGS: usize = 100;

/// How long the line of tags for tables gets, in characters.
const SUMMARY: usize = 60;

/// Makes `status` show `view`.
pub(super) fn show(status: &mut SackerPackageStatus, view: &PackageView) {
    let tags = shown_tags(view);
    status.latest = view.latest.as_deref().map(version);
    status.tag_summary = summary(&tags);
    status.tags = tags;
    status.version_count = i64::try_from(view.version_count).ok();
    status.recent_versions = view.recent.iter().map(|record| version(record)).collect();
}

fn version(record: &VersionRecord) -> VersionStatus {
    VersionStatus {
        version: record.version.get(),
        sha256: record.sha256.to_string(),
        basename: Some(record.basename.clone()),
        size: record.size.and_then(|size| i64::try_from(size).ok()),
        added_at: record.added_at.map(time::format),
        added_by: record.added_by.clone(),
    }
}

fn shown_tags(view: &PackageView) -> Vec<TagStatus> {
    let mut there: Vec<(&TagView, Version)> =
        view.tags.iter().filter_map(|tag| Some((tag, tag.state.version?))).collect();
    if there.len() > TAGS {
        there.sort_by_key(|(tag, _)| Reverse(tag.state.event.as_ref().map(|event| event.at)));
        there.truncate(TAGS);
        there.sort_by(|(one, _), (other, _)| one.state.tag.cmp(&other.state.tag));
    }
    let tag = |(tag, version): (&TagView, Version)| TagStatus {
        name: tag.state.tag.as_str().to_owned(),
        version: version.get(),
        sha256: tag.record.as_ref().map(|record| record.sha256.to_string()),
        since: tag.state.event.as_ref().map(|event| time::format(event.at)),
        by: tag.state.event.as_ref().map(|event| event.by.clone()),
    };
    there.into_iter().map(tag).collect()
}

/// `canary=31 live=23`, cut with how many more there are.
fn summary(tags: &[TagStatus]) -> Option<String> {
    let mut text = String::new();
    for (position, tag) in tags.iter().enumerate() {
        let next = format!("{}={}", tag.name, tag.version);
        if position > 0 && text.len() + next.len() >= SUMMARY {
            let _ = write!(text, " +{}", tags.len() - position);
            break;
        }
        if position > 0 {
            text.push(' ');
        }
        text.push_str(&next);
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{TagName, TagState};

    fn record(number: i64) -> Arc<VersionRecord> {
        Arc::new(VersionRecord::example("p", number, b"x"))
    }

    fn view(tags: usize) -> PackageView {
        let tag = |number: usize| TagView {
            state: Arc::new(TagState {
                tag: TagName::existing(format!("tag-{number:04}")),
                version: Version::new(1),
                event: None,
            }),
            record: Some(record(1)),
        };
        PackageView {
            latest: Some(record(2)),
            tags: (0..tags).map(tag).collect(),
            version_count: 2,
            recent: vec![record(2), record(1)],
        }
    }

    #[test]
    fn a_package_is_shown() {
        let mut status = SackerPackageStatus::default();
        show(&mut status, &view(2));
        assert_eq!(status.latest.as_ref().map(|latest| latest.version), Some(2));
        assert_eq!(status.tag_summary.as_deref(), Some("tag-0000=1 tag-0001=1"));
        assert_eq!((status.version_count, status.recent_versions.len()), (Some(2), 2));
    }

    #[test]
    fn many_tags_are_cut() {
        let mut status = SackerPackageStatus::default();
        show(&mut status, &view(500));
        assert_eq!(status.tags.len(), TAGS);
        let summary = status.tag_summary.expect("there is one");
        assert!(summary.len() < SUMMARY + 8 && summary.ends_with("+95"), "{summary}");
    }

    #[test]
    fn a_tag_without_a_version_is_not_shown() {
        let mut gone = view(1);
        gone.tags[0].state = Arc::new(TagState { version: None, ..TagState::clone(&gone.tags[0].state) });
        let mut status = SackerPackageStatus::default();
        show(&mut status, &gone);
        assert!(status.tags.is_empty() && status.tag_summary.is_none());
    }
}
