//! Whether several sequences have one order in common: the union of "comes right before" over all of them must have
//! no cycle.

use std::collections::BTreeMap;

/// A step of a disagreement: sequence `sequence` has `earlier` before `later`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step<T> {
    pub sequence: usize,
    pub earlier: T,
    pub later: T,
}

/// An edge into an item: where it comes from, and which sequence says so.
type Before = (usize, usize);

/// A cycle of steps that no order satisfies, if there is one. A repetition in place is not looked at.
pub(crate) fn disagreement<T: Ord + Copy>(sequences: &[&[T]]) -> Option<Vec<Step<T>>> {
    if sequences.len() < 2 {
        return None;
    }
    let mut places: BTreeMap<T, usize> = BTreeMap::new();
    let mut items: Vec<T> = Vec::new();
    let mut before: Vec<Vec<Before>> = Vec::new();
    for (sequence, line) in sequences.iter().enumerate() {
        let mut previous = None;
        for item in *line {
            let place = *places.entry(*item).or_insert_with(|| {
                items.push(*item);
                before.push(Vec::new());
                items.len() - 1
            });
            if let Some(previous) = previous.filter(|previous| *previous != place) {
                before[place].push((previous, sequence));
            }
            previous = Some(place);
        }
    }
    let stuck = without_a_start(&before);
    let start = stuck.iter().position(|stuck| *stuck)?;
    Some(cycle(&items, &before, &stuck, start))
}

/// Takes away what nothing comes before, again and again; marks what is left: it lies on a cycle or after one.
fn without_a_start(before: &[Vec<Before>]) -> Vec<bool> {
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    for (item, edges) in before.iter().enumerate() {
        for (earlier, _) in edges {
            after[*earlier].push(item);
        }
    }
    let mut free: Vec<usize> = (0..before.len()).filter(|item| waits[*item] == 0).collect();
    while let Some(item) = free.pop() {
        for later in &after[item] {
            waits[*later] -= 1;
            if waits[*later] == 0 {
                free.push(*later);
            }
        }
    }
    waits.iter().map(|waits| *waits > 0).collect()
}

/// Walks backwards among stuck items until one repeats, and tells that round trip forwards, with the steps that one
/// sequence makes in a row told as one.
fn cycle<T: Copy>(items: &[T], before: &[Vec<Before>], stuck: &[bool], start: usize) -> Vec<Step<T>> {
    let mut walk: Vec<(usize, Before)> = Vec::new();
    let mut item = start;
    while !walk.iter().any(|(seen, _)| *seen == item) {
        // Only items that wait for a stuck item are stuck, so the walk never ends by itself.
        let Some(edge) = before[item].iter().find(|(earlier, _)| stuck[*earlier]) else { break };
        walk.push((item, *edge));
        item = edge.0;
    }
    let mut steps: Vec<Step<T>> = Vec::new();
    for (later, (earlier, sequence)) in walk.into_iter().skip_while(|(seen, _)| *seen != item) {
        match steps.last_mut() {
            Some(step) if step.sequence == sequence => step.earlier = items[earlier],
            _ => steps.push(Step { sequence, earlier: items[earlier], later: items[later] }),
        }
    }
    // The walk may have begun in the middle of what one sequence says.
    if steps.len() > 1 && steps[0].sequence == steps[steps.len() - 1].sequence {
        let last = steps.remove(steps.len() - 1);
        steps[0].later = last.later;
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[&str]) -> Option<Vec<(usize, char, char)>> {
        let lines: Vec<Vec<char>> = sequences.iter().map(|line| line.chars().collect()).collect();
        let lines: Vec<&[char]> = lines.iter().map(Vec::as_slice).collect();
        let steps = disagreement(&lines)?;
        Some(steps.iter().map(|step| (step.sequence, step.earlier, step.later)).collect())
    }

    #[test]
    fn sequences_with_a_common_order_agree() {
        for agreeing in
            [&["abc", "abc"][..], &["ac", "bc", "ab"], &["", "a"], &["abd", "acd"], &["aab", "ab"]]
        {
            assert_eq!(check(agreeing), None, "{agreeing:?}");
        }
    }

    #[test]
    fn an_inversion_is_told_as_two_steps() {
        assert_eq!(check(&["xaybz", "ba"]), Some(vec![(0, 'a', 'b'), (1, 'b', 'a')]));
    }

    #[test]
    fn a_cycle_over_three_sequences_is_found() {
        let mut steps = check(&["ab", "bc", "ca"]).unwrap();
        steps.sort_unstable();
        assert_eq!(steps, [(0, 'a', 'b'), (1, 'b', 'c'), (2, 'c', 'a')]);
    }
}
