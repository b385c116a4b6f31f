//! Names of servers that somebody else may have chosen: a SackerLedger of a tenant, a URI in a pipeline. One that turns out to
//! be a link-local address, where clouds keep machine credentials, is not connected to.

use std::io;
use std::net::IpAddr;

use crate::model::is_link_local;

/// The addresses of a name, as the system resolves it.
///
/// # Errors
/// The system's own; and `PermissionDenied` where one of them is link-local.
pub(crate) async fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    match addresses.iter().find(|address| is_link_local(**address)) {
        Some(address) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("'{name}' is {address}, a link-local address, where clouds keep machine credentials"),
        )),
        None => Ok(addresses),
    }
}

/// Whether a name is that of a link-local address. One that cannot be resolved is not: whoever connects tells that better.
pub(crate) async fn is_of_link_local(name: &str) -> bool {
    addresses(name).await.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_a_link_local_address_is_refused() {
        // The system resolves a number to itself.
        let why = addresses("169.254.169.254").await.expect_err("refused").to_string();
        assert!(why.starts_with("'169.254.169.254' is 169.254.169.254, a link-local address"), "{why}");
        assert!(is_of_link_local("169.254.169.254").await);
        let found = addresses("localhost").await.expect("the loopback device");
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        assert!(!is_of_link_local("no-such-name.invalid").await);
    }
}
