//! Nodes into an order in which every value is written before it is read.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::nodes::{FlatNode, label};
use crate::error::{Error, Result};

/// The nodes that `outputs` depend on, sorted; those that stood in order stay so.
///
/// # Errors
/// `INVALID_ARGUMENT` for a value written twice, or naming a node on a cycle.
pub(super) fn sort(nodes: Vec<FlatNode>, outputs: &[&str]) -> Result<Vec<FlatNode>> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.proto.output.iter().filter(|o| !o.is_empty()) {
            if let Some(first) = producers.insert(output, index) {
                let (first, second) = (label(&nodes[first].proto), label(&node.proto));
                return Err(Error::invalid_argument(format!("{first} and {second} both write {output:?}")));
            }
        }
    }
    let sources: Vec<Vec<usize>> =
        nodes.iter().map(|n| n.reads().filter_map(|i| producers.get(i).copied()).collect()).collect();
    let live = live(&sources, outputs.iter().filter_map(|o| producers.get(o).copied()));
    let order = topological(&sources, &live).map_err(|on_cycle| {
        Error::invalid_argument(format!("{} depends on its own output", label(&nodes[on_cycle].proto)))
    })?;
    let mut nodes: Vec<Option<FlatNode>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| nodes[index].take()).collect())
}

fn live(sources: &[Vec<usize>], roots: impl Iterator<Item = usize>) -> Vec<bool> {
    let mut live = vec![false; sources.len()];
    let mut pending: Vec<usize> = roots.collect();
    while let Some(node) = pending.pop() {
        if !std::mem::replace(&mut live[node], true) {
            pending.extend(&sources[node]);
        }
    }
    live
}

/// The live nodes in order, or a node on a cycle.
fn topological(sources: &[Vec<usize>], live: &[bool]) -> Result<Vec<usize>, usize> {
    let mut waiting: Vec<usize> = sources.iter().map(Vec::len).collect();
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); sources.len()];
    for (reader, sources) in sources.iter().enumerate() {
        for source in sources {
            readers[*source].push(reader);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..sources.len()).filter(|i| live[*i] && waiting[*i] == 0).map(Reverse).collect();
    let mut order = Vec::new();
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for reader in &readers[node] {
            waiting[*reader] -= 1;
            if live[*reader] && waiting[*reader] == 0 {
                ready.push(Reverse(*reader));
            }
        }
    }
    match (0..sources.len()).find(|i| live[*i] && waiting[*i] > 0) {
        None => Ok(order),
        Some(mut stuck) => {
            // Some source of a stuck node is stuck too; that many steps back, we are on the cycle.
            for _ in 0..sources.len() {
                stuck = sources[stuck].iter().copied().find(|s| waiting[*s] > 0).unwrap_or(stuck);
            }
            Err(stuck)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::NodeProto;
    use super::*;

    fn node(name: &str, input: &[&str], output: &[&str]) -> FlatNode {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let proto = NodeProto {
            name: name.into(),
            op_type: "Op".into(),
            input: names(input),
            output: names(output),
            ..Default::default()
        };
        FlatNode { proto, opset: 13, graphs: Vec::new() }
    }

    fn names(nodes: &[FlatNode]) -> Vec<&str> {
        nodes.iter().map(|n| n.proto.name.as_str()).collect()
    }

    #[test]
    fn readers_move_behind_writers_and_the_dead_go() {
        let nodes = vec![
            node("c", &["b", "b"], &["c"]),
            node("dead", &["b"], &["unread"]),
            node("a", &["x"], &["a"]),
            node("b", &["a", ""], &["b", ""]),
        ];
        assert_eq!(names(&sort(nodes, &["c"]).expect("no cycle")), ["a", "b", "c"]);
    }

    #[test]
    fn cycles_and_second_writers_are_named() {
        let cycle = vec![node("tail", &["b"], &["c"]), node("p", &["b"], &["a"]), node("q", &["a"], &["b"])];
        let error = sort(cycle, &["c"]).expect_err("p and q need each other");
        assert!(error.message().contains("\"p\"") || error.message().contains("\"q\""), "{error}");
        assert!(sort(vec![node("p", &[], &["a"]), node("q", &[], &["a"])], &["a"]).is_err());
        assert!(sort(vec![node("p", &["a"], &["a"])], &["a"]).is_err());
    }
}
