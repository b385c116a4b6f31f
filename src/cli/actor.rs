//! Who acts: the name that the history will carry for what this process does.

use crate::environment::Environment;

/// Who started a CI job, by the variables that CI systems set.
const CI_VARIABLES: [&str; 3] = ["GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER"];

/// The name for the history: `SACKER_USER` as it is; else who started the CI job; else `<user>@<host>`.
///
/// It says who the environment claims to be. What proves it is the credential, in the backend's own audit log.
pub(super) fn actor(environment: &Environment, host: &str) -> String {
    if let Some(user) = environment.get("SACKER_USER") {
        return user.to_owned();
    }
    if let Some(user) = CI_VARIABLES.iter().find_map(|name| environment.get(name)) {
        return user.to_owned();
    }
    let user = environment.get("USER").or_else(|| environment.get("LOGNAME")).unwrap_or("unknown");
    if host.is_empty() { user.to_owned() } else { format!("{user}@{host}") }
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
            actor(&variables.iter().cloned().collect(), "host")
        };
        assert_eq!(with("OTHER", "x"), "unknown@host");
        assert_eq!(with("LOGNAME", "log"), "log@host");
        assert_eq!(with("USER", "ann"), "ann@host");
        assert_eq!(with("BUILD_USER", "jenkins-ann"), "jenkins-ann");
        assert_eq!(with("GITHUB_ACTOR", "octo"), "octo");
        assert_eq!(with("SACKER_USER", "release-robot"), "release-robot");
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!host().is_empty());
    }
}
