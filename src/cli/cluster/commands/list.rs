//! `kubectl sacker list`: the packages that objects are about.

use std::collections::BTreeMap;

use crate::api::{SackerPackage, SackerTag};
use crate::cli::arguments::FormatArgs;
use crate::cli::cluster::items::{Everywhere, KeptTagItem, MirroredItem, Pointer};
use crate::cli::cluster::objects::Objects;
use crate::cli::cluster::package::Package;
use crate::cli::cluster::session::Session;
use crate::cli::commands::list::fits;
use crate::cli::failure::Outcome;
use crate::error::Result;
use crate::model::PackageName;

#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  kubectl sacker list\n  kubectl sacker list 'web/**' -A -o json")]
pub(in crate::cli::cluster) struct Args {
    /// Only packages that begin with this, or fit it if it has a '*' ('*' is within one component, '**' across)
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli::cluster) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let (format, printer) = (args.output.format, session.printer);
    let objects = session.objects(None).await?;
    let place = objects.place.clone();
    let mut items = items(objects)?;
    items.retain(|item| fits(&item.package, args.pattern.as_deref()));
    match args.pattern.as_deref().filter(|_| items.is_empty()) {
        Some(pattern) => printer.note(format_args!("no package that {place} shows fits '{pattern}'")),
        None if items.is_empty() => {
            printer.note(format_args!(
                "no SackerPackage and no SackerTag is in {place}; -n and -A look elsewhere"
            ));
        }
        None => {}
    }
    if !session.everywhere {
        return printer.list(format, &items);
    }
    let items: Vec<_> = items.into_iter().map(Everywhere).collect();
    printer.list(format, &items)
}

/// An item for each package of a SackerLedger in a namespace.
fn items(objects: Objects) -> Result<Vec<MirroredItem>> {
    let mut groups: BTreeMap<[String; 3], (Vec<SackerPackage>, Vec<SackerTag>)> = BTreeMap::new();
    for object in objects.packages {
        let key = [namespace(&object), object.spec.package.clone(), object.spec.ledger.clone()];
        groups.entry(key).or_default().0.push(object);
    }
    for object in objects.tags {
        let key = [namespace(&object), object.spec.package.clone(), object.spec.ledger.clone()];
        groups.entry(key).or_default().1.push(object);
    }
    let mut items = Vec::new();
    for ([namespace, package, ledger], (packages, tags)) in groups {
        let name = PackageName::existing(package);
        let group = Objects { place: String::new(), packages, tags };
        items.extend(Package::of(&name, group)?.map(|package| item(namespace, ledger, &package)));
    }
    Ok(items)
}

fn namespace(object: &impl kube::ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

fn item(namespace: String, ledger: String, package: &Package) -> MirroredItem {
    let pointer = |kept: KeptTagItem| Some(Pointer { version: kept.tag.version?, tag: kept.tag.tag });
    MirroredItem {
        namespace,
        ledger,
        package: package.name.clone(),
        latest: package.latest(),
        tags: package.tags().into_iter().filter_map(pointer).collect(),
        state: package.state(),
    }
}
