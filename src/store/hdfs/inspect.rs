//! Who this client is to HDFS, as far as that can be told without the cluster: for `sacker doctor`.
//!
//! Whether the cluster asks for a Kerberos ticket stands in its configuration, which the client library reads by itself.

use crate::environment::Environment;
use crate::inspection::Finding;

/// The user that the environment names, and where a ticket or a token would come from.
pub(super) fn credentials(environment: &Environment) -> Finding {
    let user = match environment.get("HADOOP_USER_NAME") {
        Some(user) => format!("user '{user}' (HADOOP_USER_NAME)"),
        None => "the operating system's user".to_owned(),
    };
    let acts_for = match environment.get("HADOOP_PROXY_USER") {
        Some(other) => format!(", for user '{other}' (HADOOP_PROXY_USER)"),
        None => String::new(),
    };
    let proof = if environment.get("HADOOP_TOKEN_FILE_LOCATION").is_some() {
        "the tokens of HADOOP_TOKEN_FILE_LOCATION"
    } else if environment.get("KRB5CCNAME").is_some() {
        "the ticket of KRB5CCNAME"
    } else {
        "the ticket of 'kinit'"
    };
    Finding::fine("credentials", format!("{user}{acts_for}; where HDFS asks for Kerberos, {proof}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&str, &str)]) -> String {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        credentials(&environment.collect()).text
    }

    #[test]
    fn the_user_is_told_and_no_secret() {
        assert_eq!(
            text(&[]),
            "the operating system's user; where HDFS asks for Kerberos, the ticket of 'kinit'"
        );
        let all = [
            ("HADOOP_USER_NAME", "ann"),
            ("HADOOP_PROXY_USER", "bob"),
            ("HADOOP_TOKEN_FILE_LOCATION", "/run/tokens"),
            ("KRB5CCNAME", "FILE:/run/cache"),
        ];
        assert_eq!(
            text(&all),
            "user 'ann' (HADOOP_USER_NAME), for user 'bob' (HADOOP_PROXY_USER); where HDFS asks for Kerberos, the \
             tokens of HADOOP_TOKEN_FILE_LOCATION"
        );
        assert!(text(&all[3..]).ends_with("the ticket of KRB5CCNAME"));
    }
}
