//! What replicas make of another policy, and of different ones.

use super::*;

const ONE_SECOND: Duration = Duration::from_secs(1);

/// What the one who ordered is told, and who else has to know.
fn adjust(group: &mut Group, change: PolicyChange) -> (Result<Policy, OrderRefusal>, Vec<Effect>) {
    let mut effects = group.say("a", ContentMessage::Adjust { change, ticket: 3 });
    let answer = effects.iter().position(|effect| matches!(effect, Effect::Ordered { ticket: 3, .. }));
    let Some(Effect::Ordered { by, outcome, .. }) = answer.map(|place| effects.remove(place)) else {
        panic!("no answer among {effects:?}");
    };
    assert_eq!(by, server("a"));
    let adjusted = |done| match done {
        Ordered::Adjusted(policy) => policy,
        Ordered::Moved(_)
        | Ordered::Published(_)
        | Ordered::Held
        | Ordered::Founded
        | Ordered::Intended
        | Ordered::Dismissed => panic!("nobody ordered this"),
    };
    (outcome.map(adjusted), effects)
}

fn backups(count: u8) -> PolicyChange {
    PolicyChange { backups: Some(count), ..PolicyChange::default() }
}

#[test]
fn what_is_not_named_stays_and_a_period_has_bounds() {
    let mut group = Group::running(&["a", "b"]);
    let before = group.replicas[0].1.policy();
    for (period, adjusted) in
        [(ONE_SECOND, ONE_SECOND), (Duration::ZERO, Policy::PERIOD_MIN), (Duration::MAX, Policy::PERIOD_MAX)]
    {
        let change = PolicyChange { period: Some(period), ..PolicyChange::default() };
        let (policy, effects) = adjust(&mut group, change);
        assert_eq!(policy, Ok(Policy { period: adjusted, ..before }));
        assert_eq!(effects, [Effect::PolicyChanged], "no session is concerned");
    }
}

#[test]
fn every_session_has_the_new_number_of_backups_and_the_old_primary() {
    let mut group = Group::running(&["a", "b", "c"]);
    (0..9).for_each(|id| drop(group.start(id)));
    let before: Vec<_> = (0..9).map(|id| (group.session(id).primary, group.session(id).fence)).collect();
    for (wanted, there) in [(2, 2), (0, 0), (1, 1), (200, 2), (1, 1)] {
        let told = group.told;
        let (policy, effects) = adjust(&mut group, backups(wanted));
        assert_eq!(policy.map(|it| it.backups), Ok(wanted));
        assert_eq!(group.told, told, "all replicas do it at their place, without a word");
        for id in 0..9 {
            assert!(effects.contains(&Effect::Assigned(SessionId::new(id))));
            assert_eq!(group.session(id).backups.len(), there);
        }
        let after: Vec<_> = (0..9).map(|id| (group.session(id).primary, group.session(id).fence)).collect();
        assert_eq!(after, before, "who serves goes on, under the fence that it has");
    }
}

#[test]
fn a_newcomer_follows_the_policy_that_was_changed_last_whatever_its_settings() {
    let mut group = Group::running(&["b", "c"]);
    (0..4).for_each(|id| drop(group.start(id)));
    group.say("b", ContentMessage::Adjust { change: backups(2), ticket: 1 });
    let settings = Policy {
        backups: 7,
        period: ONE_SECOND,
        components: Components::Primary,
        uncertain: Uncertain::Skip,
        commit: Some(model::Level::Safe),
        rebuild: Rebuild::Allowed,
    };
    group
        .replicas
        .insert(0, ("a", Database::new(server("a"), settings, [Edition::ONLY].into(), None, LIMITS)));
    group.view(2, &["a", "b", "c"], &["b", "c"]);
    let effects = group.settle();
    assert!(effects.contains(&Effect::PolicyChanged), "of the newcomer, which is told: {effects:?}");
    assert_eq!(group.replicas[0].1.policy(), Policy { backups: 2, ..Policy::default() });
    assert!((0..4).all(|id| group.session(id).backups.len() == 2));
}

#[test]
fn of_two_sides_that_changed_it_the_one_that_did_so_more_often_has_its_way() {
    for (left, right, wins) in [(&[3][..], &[0, 2][..], 2), (&[3, 0], &[2], 0), (&[0], &[], 0)] {
        let (mut one, mut other) = (Group::running(&["a"]), Group::running(&["b"]));
        // Fences of the one are ahead, which counts for nothing.
        (0..3).for_each(|id| drop(one.start(id)));
        for (group, changes) in [(&mut one, left), (&mut other, right)] {
            for count in changes {
                group.say("a", ContentMessage::Adjust { change: backups(*count), ticket: 1 });
            }
        }
        let mut both = Group { replicas: one.replicas, order: Vec::new(), told: 0 };
        both.replicas.extend(other.replicas);
        both.view(5, &["a", "b"], &[]);
        both.settle();
        assert_eq!(both.replicas[0].1.policy().backups, wins);
    }
}

#[test]
fn a_change_in_an_exchange_waits_for_it_and_one_in_a_broken_off_exchange_is_refused() {
    for breaks in [false, true] {
        let mut group = Group::running(&["a", "b"]);
        group.start(1);
        group.replicas.push(("c", database("c")));
        group.view(2, &["a", "b", "c"], &["a", "b"]);
        let shares = core::mem::take(&mut group.order);
        let order = ContentMessage::Adjust { change: backups(2), ticket: 3 };
        assert_eq!(group.say("a", order), [], "it waits");
        let effects = if breaks {
            group.replicas[0].1.on_view(&view(3, &["a", "b"], &["a", "b"]))
        } else {
            group.order = shares;
            group.settle()
        };
        let policy = Policy { backups: 2, ..Policy::default() };
        let outcome = if breaks { Err(OrderRefusal::Unsettled) } else { Ok(Ordered::Adjusted(policy)) };
        assert!(effects.contains(&Effect::Ordered { by: server("a"), ticket: 3, outcome }), "{effects:?}");
        assert_eq!(group.replicas[0].1.policy().backups, if breaks { 1 } else { 2 });
    }
}
