//! What the chart shares with other folders is the same there, and its version is that of the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::helm::CHART;

fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
            (name, fs::read_to_string(&path).expect("it can be read"))
        })
        .collect()
}

#[test]
fn copies_in_the_chart_are_up_to_date() {
    let (root, chart) = (Path::new(env!("CARGO_MANIFEST_DIR")), Path::new(CHART).join("files"));
    for (source, copy) in [("crds", "crds"), ("config/policies", "policies")] {
        assert_eq!(files(&root.join(source)), files(&chart.join(copy)), "run: make generate");
    }
    let tenants = fs::read_to_string(root.join("config/rbac/tenants.yaml")).expect("it can be read");
    assert_eq!(files(&chart.join("rbac"))["tenants.yaml"], tenants, "run: make generate");
}

#[test]
fn the_chart_has_the_version_of_the_programs() {
    let text = fs::read_to_string(Path::new(CHART).join("Chart.yaml")).expect("it can be read");
    let chart: Value = serde_saphyr::from_str(&text).expect("YAML");
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}

/// Where an object of the schema says which properties there are, there are no others.
#[test]
fn the_schema_of_the_values_is_closed() {
    let text = fs::read_to_string(Path::new(CHART).join("values.schema.json")).expect("it can be read");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let mut closed = 0;
    walk("values", &schema, &mut closed);
    assert!(closed > 20, "{closed} objects");
}

fn walk(path: &str, schema: &Value, closed: &mut usize) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{path}");
        *closed += 1;
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, closed);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&format!("{path}.*"), &schema[inner], closed);
        }
    }
}
