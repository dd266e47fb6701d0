//! Numbers in sentences.

/// A count and its noun: `1 session`, `2 sessions`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
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
}
