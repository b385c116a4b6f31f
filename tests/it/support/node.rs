//! A real node: containerd and kubelet of the test bed, and the scheduler, beside a [`Cluster`]. It needs root.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use super::cluster::Cluster;
use super::process::{Folder, shell};
use super::testbed::{self, Server};
use super::unique;

/// What `make image` writes.
const IMAGE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../image/sacker-init.tar");

/// The same of the operator and the command line.
const SACKER_IMAGE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../image/sacker.tar");

/// The image of an application: busybox.
pub(crate) const APPLICATION: &str = "sacker-pause:testbed";

/// Removes the cgroups of a node when standard input closes. What was in them may be ending at that moment.
const REMOVE_CGROUPS: &str = r#"
cat >/dev/null
for attempt in $(seq 100); do
  left=
  for root in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
    [ ! -d "$root" ] || find "$root" -depth -type d -exec rmdir {} + 2>/dev/null
    [ ! -d "$root" ] || left=$root
  done
  [ -n "$left" ] || exit 0
  sleep 0.1
done
"#;

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    // Ended in this order.
    server: Server,
    _cgroups: Cgroups,
    _scheduler: Server,
    folder: Folder,
}

#[derive(Debug)]
struct Cgroups(Child);

impl Drop for Cgroups {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A control plane with one node.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) node: Node,
    pub(crate) cluster: Cluster,
}

impl Site {
    /// The one that all tests of this process share. Nothing where a part is missing, which was said then.
    pub(crate) fn shared() -> Option<&'static Self> {
        static CELL: OnceLock<Option<Site>> = OnceLock::new();
        let site = CELL.get_or_init(|| {
            if !Node::can_be() {
                return None;
            }
            let cluster = Cluster::start()?;
            Some(Self { node: Node::start(&cluster), cluster })
        });
        site.as_ref()
    }

    /// One of the caller's own, without the CustomResourceDefinitions and with the image of the operator: what a chart installs
    /// is there once per cluster. Nothing where a part is missing, which was said then.
    pub(crate) fn own() -> Option<Self> {
        if !Node::can_be() {
            return None;
        }
        if !std::path::Path::new(SACKER_IMAGE).exists() {
            testbed::skip("the image of sacker is missing; build it with: make image");
            return None;
        }
        let cluster = Cluster::start()?;
        let node = Node::start(&cluster);
        node.import(SACKER_IMAGE, "sacker.tar");
        Some(Self { node, cluster })
    }
}

impl Node {
    /// Whether this machine can have one; says loudly what it lacks.
    fn can_be() -> bool {
        let components = ["containerd", "runc", "kubernetes"].map(testbed::is_there);
        let lacks = if !components.into_iter().all(|there| there) {
            return false;
        } else if !std::path::Path::new(IMAGE).exists() {
            "the image of sacker-init is missing; build it with: make image"
        } else if !may_unshare() {
            "a node needs root, and namespaces"
        } else {
            return true;
        };
        testbed::skip(lacks);
        false
    }

    fn start(cluster: &Cluster) -> Self {
        let name = unique("sacker-node");
        let remover = shell(REMOVE_CGROUPS).arg(&name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let cgroups = Cgroups(remover.expect("sh starts"));
        let folder = Folder::new("node");
        let scheduler = Server::start("kube-scheduler", cluster.folder(), 1, &[], &[]);
        let place = cluster.folder().to_str().expect("test folders are UTF-8");
        let server = Server::start("node", folder.path(), 2, &[], &[place, &name]);
        testbed::announce("kubelet", &server);
        let node = Self { server, _cgroups: cgroups, _scheduler: scheduler, folder };
        node.import(IMAGE, "sacker-init.tar");
        let object = format!("node/{name}");
        for condition in ["create", "condition=Ready"] {
            let condition = format!("--for={condition}");
            cluster.kubectl(&["wait", &condition, &object, "--timeout=60s"]).success();
        }
        node
    }

    fn import(&self, image: &str, name: &str) {
        std::fs::copy(image, self.folder.path().join(name)).expect("the image can be copied");
        let file = format!("/run/node/{name}");
        self.containerd(&["images", "import", "--local", "--snapshotter", "native", &file]);
    }

    /// Runs `ctr` on what the kubelet has; what it printed.
    fn containerd(&self, arguments: &[&str]) -> String {
        let output = self.enter(&[&["/run/bin/containerd/ctr", "-n", "k8s.io"], arguments].concat());
        String::from_utf8(output).expect("UTF-8")
    }

    /// Runs a program as root on the node, with its processes and files; what it printed. Fails the test with its
    /// complaint.
    pub(crate) fn enter(&self, command: &[&str]) -> Vec<u8> {
        let output = self.try_enter(command);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {complaint}");
        output.stdout
    }

    fn try_enter(&self, command: &[&str]) -> Output {
        // The server's process waits for unshare, and that for the node's first process.
        let first = child_of(&child_of(&self.server.process().pid().to_string()));
        Command::new("nsenter")
            .args(["--target", &first, "--mount", "--pid", "--"])
            .args(command)
            .output()
            .expect("nsenter runs")
    }

    /// The process id, as the node counts, of a container's first process; `id` is as a pod's status has it. Nothing if
    /// it does not run.
    pub(crate) fn process(&self, id: &str) -> Option<u32> {
        let id = id.strip_prefix("containerd://")?;
        let tasks = self.containerd(&["tasks", "list"]);
        tasks.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (name, pid, state) = (words.next()?, words.next()?, words.next()?);
            (name == id && state == "RUNNING").then(|| pid.parse().ok())?
        })
    }

    /// A file of `/proc/<pid>`; nothing once the process is gone.
    pub(crate) fn proc(&self, pid: u32, file: &str) -> Option<String> {
        let output = self.try_enter(&["cat", &format!("/proc/{pid}/{file}")]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asserts that the kernel grants a running process what the level `restricted` leaves: user 65532 and no capability, nothing
    /// gained by executing, a filter of system calls, a root that cannot be written.
    pub(crate) fn is_confined(&self, process: u32) {
        let status = self.proc(process, "status").expect("it runs");
        for line in [
            "Uid:\t65532\t65532\t65532\t65532",
            "Gid:\t65532\t65532\t65532\t65532",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "no '{line}' in {status}");
        }
        let mounts = self.proc(process, "mountinfo").expect("it runs");
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
        assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");
    }

    /// Where a container's files are for [`Node::enter`].
    pub(crate) fn path(pid: u32, file: &str) -> String {
        PathBuf::from(format!("/proc/{pid}/root")).join(file.trim_start_matches('/')).display().to_string()
    }

    /// The end of what containerd and kubelet wrote, for messages.
    pub(crate) fn log(&self) -> String {
        self.server.process().log()
    }
}

fn child_of(pid: &str) -> String {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("the node runs");
    children.split_whitespace().next().expect("the node runs").to_owned()
}

/// Whether this process may do what a node needs.
fn may_unshare() -> bool {
    let tried = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}
