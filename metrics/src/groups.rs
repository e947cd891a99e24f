//! The tree of groups and checks, grown from the tags of the samples.
//!
//! Nobody announces a group: a path is known once a sample carries it in its `group` tag.
//! Groups and checks keep the order in which they were first seen.

use rustc_hash::FxHashMap;

use crate::{Check, Group};

/// Groups by id; 0 is the root.
#[derive(Debug)]
pub(crate) struct GroupTree {
    groups: Vec<Node>,
    by_path: FxHashMap<String, u32>,
    checks: Vec<Check>,
    checks_by_path: FxHashMap<String, u32>,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    path: String,
    groups: Vec<u32>,
    checks: Vec<u32>,
}

impl Default for GroupTree {
    fn default() -> Self {
        Self {
            groups: vec![Node::default()],
            by_path: FxHashMap::from_iter([(String::new(), 0)]),
            checks: Vec::new(),
            checks_by_path: FxHashMap::default(),
        }
    }
}

impl GroupTree {
    /// The group of a path such as `::outer::inner`, with its parents.
    pub(crate) fn group(&mut self, path: &str) -> u32 {
        if let Some(&known) = self.by_path.get(path) {
            return known;
        }
        let mut parent = 0;
        // A `group` tag that the script made up need not begin with the separator.
        for name in path.strip_prefix("::").unwrap_or(path).split("::") {
            let path = format!("{}::{name}", self.groups[parent as usize].path);
            parent = match self.by_path.get(&path) {
                Some(&known) => known,
                None => {
                    let id = self.groups.len() as u32;
                    let name = name.to_owned();
                    self.groups.push(Node {
                        name,
                        path: path.clone(),
                        ..Node::default()
                    });
                    self.groups[parent as usize].groups.push(id);
                    self.by_path.insert(path, id);
                    id
                }
            };
        }
        parent
    }

    /// The check of that name in that group.
    pub(crate) fn check(&mut self, group: u32, name: &str) -> u32 {
        let node = &mut self.groups[group as usize];
        let path = format!("{}::{name}", node.path);
        if let Some(&known) = self.checks_by_path.get(&path) {
            return known;
        }
        let id = self.checks.len() as u32;
        self.checks.push(Check {
            name: name.to_owned(),
            path: path.clone(),
            passes: 0,
            fails: 0,
        });
        node.checks.push(id);
        self.checks_by_path.insert(path, id);
        id
    }

    /// Adds outcomes to a check.
    pub(crate) fn count(&mut self, check: u32, passes: u64, fails: u64) {
        let check = &mut self.checks[check as usize];
        check.passes += passes;
        check.fails += fails;
    }

    /// The tree as it is now.
    pub(crate) fn snapshot(&self) -> Group {
        self.subtree(0)
    }

    /// All checks, one entry for each name.
    pub(crate) fn merged_checks(&self) -> Vec<Check> {
        let mut merged: Vec<Check> = Vec::new();
        let mut by_name: FxHashMap<&str, usize> = FxHashMap::default();
        for check in &self.checks {
            match by_name.get(&*check.name) {
                Some(&known) => {
                    merged[known].passes += check.passes;
                    merged[known].fails += check.fails;
                }
                None => {
                    by_name.insert(&check.name, merged.len());
                    merged.push(check.clone());
                }
            }
        }
        merged
    }

    fn subtree(&self, id: u32) -> Group {
        let node = &self.groups[id as usize];
        Group {
            name: node.name.clone(),
            path: node.path.clone(),
            groups: node
                .groups
                .iter()
                .map(|&child| self.subtree(child))
                .collect(),
            checks: node
                .checks
                .iter()
                .map(|&check| self.checks[check as usize].clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_order_is_of_first_sight() {
        let mut tree = GroupTree::default();
        let inner = tree.group("::zeta::inner");
        let setup = tree.group("::setup");
        assert_eq!(tree.group(""), 0);
        assert_eq!(tree.group("::zeta::inner"), inner);
        let check = tree.check(inner, "ok");
        tree.count(check, 2, 1);
        assert_eq!(tree.check(inner, "ok"), check);
        assert_ne!(tree.check(setup, "ok"), check);

        let root = tree.snapshot();
        assert_eq!((root.name.as_str(), root.path.as_str()), ("", ""));
        let paths: Vec<&str> = root
            .groups
            .iter()
            .map(|group| group.path.as_str())
            .collect();
        assert_eq!(paths, ["::zeta", "::setup"]);
        assert_eq!(root.groups[1].name, "setup");
        let inner = &root.groups[0].groups[0];
        assert_eq!(
            (inner.name.as_str(), inner.path.as_str()),
            ("inner", "::zeta::inner")
        );
        let expected = Check {
            name: "ok".into(),
            path: "::zeta::inner::ok".into(),
            passes: 2,
            fails: 1,
        };
        assert_eq!(inner.checks, [expected]);
    }

    #[test]
    fn merged_checks_are_one_for_each_name_in_the_order_of_first_sight() {
        let mut tree = GroupTree::default();
        for (group, name, passes, fails) in [
            ("::inner", "same", 1, 2),
            ("", "first", 3, 0),
            ("", "same", 1, 0),
        ] {
            let group = tree.group(group);
            let check = tree.check(group, name);
            tree.count(check, passes, fails);
        }
        let merged = tree.merged_checks();
        let merged: Vec<_> = merged
            .iter()
            .map(|check| (check.path.as_str(), check.passes, check.fails))
            .collect();
        assert_eq!(merged, [("::inner::same", 2, 2), ("::first", 3, 0)]);
    }
}
