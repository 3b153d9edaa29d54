//! Closed sets of words: an enum whose values have one text each, in metrics, logs and the API.

/// Defines such an enum, with each text beside its value. `ALL` has the values in their order.
#[macro_export]
macro_rules! labels {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$of_value:meta])* $value:ident = $text:literal,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$of_value])* $value,)+ }

        impl $name {
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$value),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
    };
}
