//! Times and sizes for people.

use std::time::SystemTime;

/// How long ago a time (RFC 3339) was; the time itself if it cannot be read.
pub fn ago(time: &str, now: SystemTime) -> String {
    let (Ok(then), Ok(now)) = (time.parse::<jiff::Timestamp>(), jiff::Timestamp::try_from(now))
    else {
        return time.to_owned();
    };
    // The clock of the node may be ahead of this one.
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds}s ago"),
        120..7200 => format!("{}m ago", seconds / 60),
        7200..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Bytes in the unit that leaves few digits: a table has no room for the tenths that an Event has.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{}KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{}MiB", bytes >> 20),
        _ => format!("{}GiB", bytes >> 30),
    }
}
