//! The conformance suite: what every ledger must do, run on every ledger. A case is an `async fn(Bench)`; it is listed
//! once below and becomes one test per target.

pub(crate) mod bench;
mod removal;
mod tags;
mod versions;
mod views;

use std::future::Future;

use bench::Bench;
use sacker::model::PackageName;

use crate::support::ledgers::Target;
use crate::support::unique;

/// Runs one case on one target with a package of its own.
fn run<F: Future<Output = ()>>(target: Target, case: &str, body: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let Some(opened) = target.open().await else { return };
        let package = PackageName::new(unique(&case[..case.len().min(60)])).expect("an allowed name");
        body(Bench { ledger: opened.ledger.clone(), numbering: opened.numbering, package }).await;
        drop(opened);
    });
}

macro_rules! case {
    ($variant:ident, $group:ident::$case:ident, ($(#[$attribute:meta])*)) => {
        #[test]
        $(#[$attribute])*
        fn $case() {
            super::run(crate::support::ledgers::Target::$variant, stringify!($case), super::$group::$case);
        }
    };
}

macro_rules! on_target {
    ($target:ident, $variant:ident, $attributes:tt, $($group:ident::$case:ident),* $(,)?) => {
        mod $target {
            $(case!($variant, $group::$case, $attributes);)*
        }
    };
}

macro_rules! conformance {
    ($($cases:tt)*) => {
        on_target!(memory, Memory, (), $($cases)*);
        on_target!(file, File, (), $($cases)*);
        on_target!(minio, Minio, (), $($cases)*);
        on_target!(minio_sequence, MinioSequence, (), $($cases)*);
        on_target!(versitygw, Versitygw, (), $($cases)*);
        on_target!(dynamo, Dynamo, (), $($cases)*);
        on_target!(zookeeper, ZooKeeper, (), $($cases)*);
        on_target!(git, Git, (), $($cases)*);
        on_target!(
            git_http,
            GitHttp,
            (#[ignore = "soak: a repository on disk stands for git in every run"]),
            $($cases)*
        );
    };
}

conformance! {
    versions::init_again_changes_nothing,
    versions::the_first_version_is_as_promised,
    versions::versions_increase,
    versions::a_version_is_read_as_it_was_added,
    versions::added_at_is_the_time_of_the_add_in_milliseconds,
    versions::latest_is_the_newest,
    versions::latest_of_an_unknown_package_is_not_found,
    versions::versions_of_an_unknown_package_are_not_found,
    versions::newest_of_an_unknown_package_is_not_found,
    versions::an_unknown_version_is_not_found,
    versions::resolving_a_version_of_an_unknown_package_names_the_package,
    versions::resolving_an_unknown_version_names_the_version,
    versions::resolving_a_version_gives_its_record,
    versions::resolving_latest_gives_the_newest,
    versions::versions_are_listed_oldest_first,
    versions::versions_are_ordered_as_numbers,
    versions::newest_is_newest_first_with_the_whole_count,
    versions::newest_of_fewer_versions_gives_them_all,
    versions::metadata_may_be_empty,
    versions::metadata_keeps_any_text,
    versions::metadata_may_be_larger_than_http_headers,
    versions::a_file_name_keeps_spaces_and_letters,
    versions::the_whole_mode_is_kept,
    versions::sizes_beyond_32_bits_are_kept,
    versions::the_same_bytes_may_be_two_versions,
    versions::add_on_condition_of_the_newest_succeeds,
    versions::add_on_condition_of_another_newest_is_a_conflict,
    versions::add_refuses_file_names_that_are_paths,
    versions::add_refuses_package_names_outside_the_rules,
    versions::packages_may_be_nested,
    versions::packages_with_a_common_beginning_are_apart,
    versions::package_names_may_have_any_letters,
    versions::every_package_is_listed_once,
    versions::nothing_of_our_own_is_listed_as_a_package,
    versions::forty_packages_are_all_listed,
    versions::a_lookup_never_leaves_the_ledger,
    versions::adds_in_parallel_get_versions_of_their_own,
    tags::setting_a_tag_is_event_one,
    tags::an_event_says_who_why_when_and_through_what,
    tags::moving_a_tag_continues_its_history,
    tags::moving_back_is_a_move_too,
    tags::moving_to_where_it_is_writes_nothing,
    tags::a_tag_needs_a_version_that_exists,
    tags::a_tag_needs_a_package_that_exists,
    tags::tags_outside_the_rules_are_refused,
    tags::tags_within_the_rules_are_kept,
    tags::tags_are_listed_by_name_with_their_versions,
    tags::a_package_without_tags_has_none,
    tags::tags_of_an_unknown_package_are_not_found,
    tags::an_unknown_tag_is_nothing,
    tags::resolving_a_tag_gives_record_and_tag,
    tags::resolving_an_unknown_tag_names_the_tag,
    tags::resolving_a_tag_of_an_unknown_package_names_the_package,
    tags::a_move_on_condition_of_the_version_succeeds,
    tags::a_move_on_condition_of_another_version_is_a_conflict,
    tags::a_move_on_condition_of_the_event_succeeds,
    tags::a_move_on_condition_of_another_event_is_a_conflict,
    tags::a_condition_is_checked_also_where_nothing_would_change,
    tags::an_untagged_tag_is_gone_and_keeps_its_history,
    tags::removed_tags_are_known_by_name,
    tags::latest_is_no_tag_to_change,
    tags::setting_an_untagged_tag_continues_its_numbers,
    tags::a_condition_on_the_event_holds_over_an_untag,
    tags::untagging_what_is_not_there_writes_nothing,
    tags::untag_takes_a_condition,
    tags::history_of_an_unknown_tag_is_not_found,
    tags::tags_have_histories_of_their_own,
    tags::a_long_history_is_read_whole,
    tags::the_same_change_repeated_is_one_event,
    tags::the_same_untag_repeated_is_one_event,
    tags::an_owner_keeps_others_out,
    tags::ownership_can_be_taken_over,
    tags::people_do_not_keep_each_other_out,
    tags::a_tag_without_owner_can_be_adopted,
    tags::moving_to_where_it_is_as_owner_adopts,
    tags::an_owner_can_give_a_tag_up,
    tags::an_untag_ends_ownership,
    tags::only_an_existing_tag_can_be_adopted_or_held,
    tags::a_held_tag_does_not_move,
    tags::a_held_tag_may_be_asked_to_stay,
    tags::a_release_ends_the_hold,
    tags::releasing_what_is_not_held_writes_nothing,
    tags::a_move_can_hold_in_the_same_step,
    tags::ownership_can_be_given_up_under_a_hold,
    tags::a_view_shows_latest_tags_and_the_newest_ten,
    tags::a_view_of_an_unknown_package_is_not_found,
    views::many_views_are_the_views_of_each,
    views::what_is_known_is_forgotten_with_its_package,
    tags::racers_on_one_tag_have_one_winner_a_round,
    tags::unconditional_racers_all_win_in_one_line,
    removal::a_removed_version_leaves_a_tombstone,
    removal::a_removal_needs_no_reason,
    removal::a_removed_version_is_not_found,
    removal::latest_is_the_newest_that_was_not_removed,
    removal::a_number_is_not_used_again,
    removal::a_package_may_have_removed_versions_only,
    removal::a_tagged_version_is_not_removed,
    removal::removing_again_changes_nothing,
    removal::what_was_never_added_cannot_be_removed,
    removal::no_tag_moves_to_a_removed_version,
    removal::tags_move_on_after_a_removal,
    removal::removers_of_one_version_agree,
    removal::no_race_leaves_a_tag_on_a_removed_version,
    removal::adds_and_removals_at_once_keep_every_number,
}
