//! The operator.
fn main() {
    for (n, c) in sacker::controller::crd_files().unwrap() {
        std::fs::write(format!("crds/{n}"), c).unwrap();
    }
}
