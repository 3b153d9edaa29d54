//! The console, which the kernel writes to as well: the host shows what is marked.

/// Says something to people: the host shows lines that begin so.
pub fn say(text: &str) {
    for line in text.split('\n') {
        println!("herder-guest: {line}");
    }
}

/// What a panic says is shown too.
pub fn say_panics() {
    std::panic::set_hook(Box::new(|panic| say(&format!("  {panic}"))));
}
