//! The objects that say something of packages, read from the API server page by page.

use std::fmt::{Debug, Write as _};

use kube::Api;
use kube::api::ListParams;
use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::api::{SackerPackage, SackerTag};
use crate::model::PackageName;

/// How many objects an answer of the API server holds.
const PAGE: u32 = 500;

/// What was found, and where was looked (`namespace 'web'`, `the cluster`).
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) place: String,
    pub(super) packages: Vec<SackerPackage>,
    pub(super) tags: Vec<SackerTag>,
}

/// All objects of a kind; where a package is given, those about it, and others where the API server cannot select.
pub(super) async fn list<K>(api: &Api<K>, package: Option<&PackageName>) -> kube::Result<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let all = ListParams::default().limit(PAGE);
    let Some(package) = package else { return pages(api, all).await };
    match pages(api, all.clone().fields(&selector(package.as_str()))).await {
        // Kubernetes before 1.31 does not know fields of ours.
        Err(error) if is_status(&error, 400) => pages(api, all).await,
        found => found,
    }
}

async fn pages<K>(api: &Api<K>, mut parameters: ListParams) -> kube::Result<Vec<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut objects = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// `spec.package=<package>`, with what means something in a selector escaped.
fn selector(package: &str) -> String {
    let mut text = "spec.package=".to_owned();
    for letter in package.chars() {
        if matches!(letter, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// `<namespace>/<name>`.
pub(super) fn title(metadata: &ObjectMeta) -> String {
    let mut title = String::new();
    if let Some(namespace) = &metadata.namespace {
        // Writing to a String cannot fail.
        let _ = write!(title, "{namespace}/");
    }
    title + metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_one_word_of_a_selector() {
        assert_eq!(selector("web/frontend-server"), "spec.package=web/frontend-server");
        assert_eq!(selector(r"a,b=c\"), r"spec.package=a\,b\=c\\");
    }
}
