//! Who acts: the name that the history will carry for what this process does.

use crate::config::{Origin, Setting};
use crate::environment::Environment;

/// Who started a CI job, by the variables that CI systems set.
const CI_VARIABLES: [&str; 3] = ["GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER"];

/// The name for the history: `SACKER_USER` as it is; else who started the CI job; else `<user>@<host>`.
///
/// It says who the environment claims to be. What proves it is the credential, in the backend's own audit log.
pub(super) fn actor(environment: &Environment, host: &str) -> Setting<String> {
    let whole = ["SACKER_USER"].into_iter().chain(CI_VARIABLES);
    if let Some((variable, user)) = first(environment, whole) {
        return Setting { value: user.to_owned(), origin: Origin::Variable(variable) };
    }
    let found = first(environment, ["USER", "LOGNAME"]);
    let (origin, user) = match found {
        Some((variable, user)) => (Origin::Variable(variable), user),
        None => (Origin::Default, "unknown"),
    };
    Setting { value: if host.is_empty() { user.to_owned() } else { format!("{user}@{host}") }, origin }
}

/// The first of the variables that is set, and its value.
fn first(
    environment: &Environment,
    variables: impl IntoIterator<Item = &'static str>,
) -> Option<(&'static str, &str)> {
    variables.into_iter().find_map(|name| environment.get(name).map(|value| (name, value)))
}

/// The name of this machine.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_set_counts() {
        let mut variables: Vec<(String, String)> = Vec::new();
        let mut with = |name: &str, value: &str| {
            variables.push((name.to_owned(), value.to_owned()));
            let actor = actor(&variables.iter().cloned().collect(), "host");
            format!("{} by {}", actor.value, actor.origin)
        };
        assert_eq!(with("OTHER", "x"), "unknown@host by the default");
        assert_eq!(with("LOGNAME", "log"), "log@host by LOGNAME");
        assert_eq!(with("USER", "ann"), "ann@host by USER");
        assert_eq!(with("BUILD_USER", "jenkins-ann"), "jenkins-ann by BUILD_USER");
        assert_eq!(with("GITHUB_ACTOR", "octo"), "octo by GITHUB_ACTOR");
        assert_eq!(with("SACKER_USER", "release-robot"), "release-robot by SACKER_USER");
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!host().is_empty());
    }
}
