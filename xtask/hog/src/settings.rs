//! How many children there are, and how fast they grow.

use crate::said::Outcome;

/// The settings, each an environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `HOG_CHILDREN`.
    pub(crate) children: u32,
    /// `HOG_MIB_PER_SECOND`: of the slowest child; each next one is a quarter of
    /// that faster, so that one is ahead.
    pub(crate) mib_per_second: u32,
    /// `HOG_CPU_PERCENT`: how much of a CPU each child burns.
    pub(crate) cpu_percent: u32,
}

impl Settings {
    /// Takes the variables.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Outcome<Self> {
        let number = |name: &str, default: u32, most: u32| match variable(name) {
            None => Ok(default),
            Some(text) => {
                let number = text.parse().ok().filter(|number| (1..=most).contains(number));
                number.ok_or_else(|| format!("{name}={text:?} is no number from 1 to {most}"))
            }
        };
        Ok(Settings {
            children: number("HOG_CHILDREN", 4, 1000)?,
            mib_per_second: number("HOG_MIB_PER_SECOND", 4, 1024)?,
            cpu_percent: number("HOG_CPU_PERCENT", 25, 100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_their_range_and_nothing_else() {
        let read = |name: &str, value: &str| {
            Settings::read(|asked| (asked == name).then(|| value.to_owned()))
        };
        let defaults = Settings { children: 4, mib_per_second: 4, cpu_percent: 25 };
        assert_eq!(read("OTHER", "1").unwrap(), defaults);
        let two = Settings { children: 2, ..defaults };
        assert_eq!(read("HOG_CHILDREN", "2").unwrap(), two);
        for (name, value) in [
            ("HOG_CHILDREN", "0"),
            ("HOG_CHILDREN", "many"),
            ("HOG_MIB_PER_SECOND", "-1"),
            ("HOG_CPU_PERCENT", "101"),
            ("HOG_CPU_PERCENT", ""),
        ] {
            let error = read(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
