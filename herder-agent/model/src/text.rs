//! Figures and names as sentences for people have them.

/// Bytes in the largest unit that gives at least one, rounded down to tenths.
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// A process name without what could mislead a terminal or a reader.
pub fn clean(comm: &str) -> String {
    comm.chars()
        .take(16)
        .map(|c| if c.is_alphanumeric() || "-_./:+@".contains(c) { c } else { '?' })
        .collect()
}

/// What an error message shows of a text: an annotation may have 256 KiB.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
