//! What the process's control group says of itself, of either version.

use std::fs;

/// The contents of a file of the process's group for a controller (`cpu`, `memory`), from wherever
/// it may be: the group itself first, then, as far as the system shows them, those above it.
pub(crate) fn read(controller: &str, file: &str) -> Vec<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders: Vec<String> = groups
        .lines()
        .filter_map(|line| folders(line, controller))
        .flatten()
        .collect();
    // In a container the path may be the host's, while the mount shows the container's as its root.
    folders.push("/sys/fs/cgroup".to_owned());
    folders.push(format!("/sys/fs/cgroup/{controller}"));
    folders
        .iter()
        .filter_map(|folder| fs::read_to_string(format!("{folder}/{file}")).ok())
        .collect()
}

/// Where the group that a line of `/proc/self/cgroup` names may be, and the groups above it.
fn folders(line: &str, controller: &str) -> Option<Vec<String>> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let roots = if controllers.is_empty() {
        vec!["/sys/fs/cgroup".to_owned()]
    } else {
        let its = controllers.split(',').any(|name| name == controller);
        if !its {
            return None;
        }
        vec![
            format!("/sys/fs/cgroup/{controller}"),
            format!("/sys/fs/cgroup/{controllers}"),
        ]
    };
    let mut all = Vec::new();
    let mut path = path.trim_end_matches('/');
    loop {
        all.extend(roots.iter().map(|root| format!("{root}{path}")));
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_both_versions_are_found() {
        let found = |line| folders(line, "cpu");
        let paths = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(found("0::/"), paths(&["/sys/fs/cgroup"]));
        assert_eq!(
            found("0::/a/b"),
            paths(&["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"])
        );
        assert_eq!(
            found("4:cpu,cpuacct:/d"),
            paths(&[
                "/sys/fs/cgroup/cpu/d",
                "/sys/fs/cgroup/cpu,cpuacct/d",
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/cpu,cpuacct"
            ])
        );
        assert_eq!(found("5:memory:/d"), None);
        assert_eq!(found("nonsense"), None);
    }
}
