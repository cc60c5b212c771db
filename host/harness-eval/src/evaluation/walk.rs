//! Decides nodes of a graph after the nodes that they need, without recursion, so that chains may be of any length.

use std::collections::HashMap;

/// A graph whose nodes can be decided.
pub(super) trait Graph {
    /// Returns the nodes that must be decided before `node`; `None` if `node` is decided.
    fn needs(&mut self, node: usize) -> Option<Vec<usize>>;

    /// Decides nodes, each given with its needs. All other needs have been decided; several nodes are passed together only if
    /// they need each other.
    fn decide(&mut self, nodes: &[(usize, Vec<usize>)]);
}

#[derive(Clone, Copy)]
struct Mark {
    /// Position in the order of discovery.
    order: usize,
    /// The smallest order that can be reached.
    lowest: usize,
    is_open: bool,
}

/// A node whose needs are being visited.
struct Step {
    node: usize,
    needs: Vec<usize>,
    next: usize,
}

/// Decides `start`, and before it the nodes that it needs, each once. This is Tarjan's algorithm for strongly connected
/// components with an explicit stack; it takes time in proportion to nodes and needs.
pub(super) fn decide_in_order(graph: &mut impl Graph, start: usize) {
    let mut marks: HashMap<usize, Mark> = HashMap::new();
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut discovered = Some(start);
    loop {
        if let Some(node) = discovered.take()
            && let Some(needs) = graph.needs(node)
        {
            let order = marks.len();
            marks.insert(node, Mark { order, lowest: order, is_open: true });
            steps.push(Step { node, needs, next: 0 });
        }
        let Some(step) = steps.last_mut() else { return };
        if let Some(need) = step.needs.get(step.next).copied() {
            step.next += 1;
            match marks.get(&need).copied() {
                None => discovered = Some(need),
                Some(mark) if mark.is_open => lower(&mut marks, step.node, mark.order),
                Some(_) => (),
            }
            continue;
        }
        let Some(Step { node, needs, .. }) = steps.pop() else { return };
        // A node comes after the nodes that it discovered, so its component is at the end.
        open.push((node, needs));
        let Some(mark) = marks.get(&node).copied() else { continue };
        if let Some(above) = steps.last() {
            lower(&mut marks, above.node, mark.lowest);
        }
        if mark.lowest == mark.order {
            let is_inside = |it: &(usize, Vec<usize>)| marks.get(&it.0).is_some_and(|it| it.order >= mark.order);
            let first = open.iter().rposition(|it| !is_inside(it)).map_or(0, |it| it + 1);
            let component = open.split_off(first);
            for (node, _) in &component {
                if let Some(mark) = marks.get_mut(node) {
                    mark.is_open = false;
                }
            }
            graph.decide(&component);
        }
    }
}

fn lower(marks: &mut HashMap<usize, Mark>, node: usize, order: usize) {
    if let Some(mark) = marks.get_mut(&node) {
        mark.lowest = mark.lowest.min(order);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    struct Recorded {
        needs: Vec<Vec<usize>>,
        decided: Vec<BTreeSet<usize>>,
    }

    impl Graph for Recorded {
        fn needs(&mut self, node: usize) -> Option<Vec<usize>> {
            Some(self.needs[node].clone())
        }

        fn decide(&mut self, nodes: &[(usize, Vec<usize>)]) {
            self.decided.push(nodes.iter().map(|it| it.0).collect());
        }
    }

    fn reachable(needs: &[Vec<usize>], from: usize) -> BTreeSet<usize> {
        let (mut seen, mut todo) = (BTreeSet::new(), needs[from].clone());
        while let Some(node) = todo.pop() {
            if seen.insert(node) {
                todo.extend(&needs[node]);
            }
        }
        seen
    }

    proptest! {
        #[test]
        fn needs_come_first_and_cycles_together(
            needs in (1_usize..9).prop_flat_map(|count| proptest::collection::vec(proptest::collection::vec(0..count, 0..4), count)),
        ) {
            let mut graph = Recorded { needs: needs.clone(), decided: Vec::new() };
            decide_in_order(&mut graph, 0);
            let mut all = reachable(&needs, 0);
            all.insert(0);
            let flat: Vec<usize> = graph.decided.iter().flatten().copied().collect();
            prop_assert_eq!(flat.len(), all.len(), "each once");
            prop_assert_eq!(flat.iter().copied().collect::<BTreeSet<_>>(), all);
            let mut before: BTreeSet<usize> = BTreeSet::new();
            for component in &graph.decided {
                for node in component {
                    let others = reachable(&needs, *node);
                    for other in &others {
                        prop_assert!(before.contains(other) || component.contains(other));
                    }
                    for mate in component {
                        prop_assert!(mate == node || others.contains(mate));
                    }
                }
                before.extend(component.iter().copied());
            }
        }
    }

    #[test]
    fn a_chain_may_be_of_any_length() {
        let count = 300_000;
        let mut graph = Recorded { needs: (1..count).map(|it| vec![it]).collect(), decided: Vec::new() };
        graph.needs.push(vec![]);
        decide_in_order(&mut graph, 0);
        assert_eq!(graph.decided.len(), count);
        graph.decided.clear();
        graph.needs[count - 1].push(0);
        decide_in_order(&mut graph, 0);
        assert_eq!(graph.decided.len(), 1, "one cycle");
    }
}
