//! Numbers, names and times, as people read them.

use std::time::{Duration, SystemTime};

/// A count and its noun: `1 session`, `2 sessions`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What there is, as in a sentence: `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// How many digits of each of these ids are shown: so many that no two look alike, and eight at least. Ids of sessions that
/// were opened within a minute begin alike.
pub fn digits_of<'a>(ids: impl IntoIterator<Item = &'a str>) -> usize {
    const DIGITS_MIN: usize = 8;
    let mut ids: Vec<&str> = ids.into_iter().collect();
    ids.sort_unstable();
    let alike = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let longest = ids.windows(2).map(|pair| alike(pair[0], pair[1])).max();
    longest.map_or(DIGITS_MIN, |digits| DIGITS_MIN.max(digits + 1))
}

/// A time, to the millisecond, as RFC 3339 has it.
pub fn time(it: &prost_types::Timestamp) -> String {
    let seconds = Duration::from_secs(it.seconds.try_into().unwrap_or_default());
    let nanos = Duration::from_nanos(it.nanos.try_into().unwrap_or_default());
    let Some(time) = SystemTime::UNIX_EPOCH.checked_add(seconds + nanos) else { return "?".to_owned() };
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "view"), "1 view");
        assert_eq!(counted(0, "view"), "0 views");
        assert_eq!(counted(2, "view"), "2 views");
    }

    #[test]
    fn no_two_ids_look_alike() {
        assert_eq!(digits_of([]), 8);
        assert_eq!(digits_of(["0123456789abcdef"]), 8);
        assert_eq!(digits_of(["0123456789abcdef", "0123456789ffffff", "1"]), 11);
        assert_eq!(digits_of(["02", "01"]), 8);
    }

    #[test]
    fn the_last_of_several_has_an_and() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b"]), "a and b");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}
