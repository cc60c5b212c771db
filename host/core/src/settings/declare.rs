//! Declaration of settings: [`settings!`](crate::settings!) generates a struct, its keys and its reader from one list.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Bounds, Key, Kind, Reader};
use crate::secret::Secret;

/// A format in which a setting of the type `T` is written. Types with one format are formats of themselves.
pub trait Setting<T = Self> {
    /// The kind of the key.
    const KIND: Kind;

    /// Reads the value of a key.
    fn read(reader: &mut Reader<'_>, path: &str) -> T;
}

/// Format of the base URL of a service.
#[derive(Debug)]
pub enum Url {}

/// Format of a number of bytes.
#[derive(Debug)]
pub enum Size {}

/// Format of a file or folder where an empty text means "none" and overrides the default.
#[derive(Debug)]
pub enum PathOrNone {}

macro_rules! formats {
    ($($format:ty as $type:ty: $kind:ident, $read:expr;)*) => {
        $(impl Setting<$type> for $format {
            const KIND: Kind = Kind::$kind;

            fn read(reader: &mut Reader<'_>, path: &str) -> $type {
                $read(reader, path)
            }
        })*
    };
}

formats! {
    String as String: Text, Reader::text;
    Option<String> as Option<String>: Text, Reader::optional_text;
    bool as bool: Bool, Reader::flag;
    u64 as u64: Count, Reader::count;
    usize as usize: Count, |reader: &mut Reader<'_>, path| saturated(reader.count(path));
    Duration as Duration: Duration, Reader::duration;
    Option<Duration> as Option<Duration>: Duration, Reader::optional_duration;
    SocketAddr as SocketAddr: Address, Reader::address;
    Option<SocketAddr> as Option<SocketAddr>: Address, Reader::optional_address;
    Vec<String> as Vec<String>: List, Reader::list;
    Option<Secret> as Option<Secret>: Secret, Reader::secret;
    Secret as Secret: Secret, required_secret;
    PathBuf as PathBuf: Path, |reader: &mut Reader<'_>, path| reader.path(path).unwrap_or_default();
    Option<PathBuf> as Option<PathBuf>: Path, Reader::path;
    PathOrNone as Option<PathBuf>: OptionalPath, Reader::path;
    Url as String: Url, Reader::url;
    Url as Option<String>: Url, Reader::optional_url;
    Size as u64: Size, |reader: &mut Reader<'_>, path| reader.size(path).unwrap_or_default();
    Size as usize: Size, |reader: &mut Reader<'_>, path| saturated(reader.size(path).unwrap_or_default());
}

fn required_secret(reader: &mut Reader<'_>, path: &str) -> Secret {
    let secret = reader.secret(path);
    reader.require(path, secret)
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Declares a group of settings: a struct whose fields are keys of the section `in "…"`. Generates the struct,
/// `KEYS` and `read_keys`.
///
/// A field consists of documentation, which is also the description of the key, a name, a type and, all optional,
/// - `at "name"` before the type: the name of the key in its section, unless it is the name of the field;
/// - `as Format`: the [`Setting`] that reads the type, unless the type is its own;
/// - `= "default"`: the default, as written in the file without quotes;
/// - `, in MIN..=MAX`: the allowed range of a count or a duration, a constant.
///
/// A field `name: Type => Section::read` has the keys of another group and is read by this function. The fields of a
/// block `with { … }` are no keys; `read_keys` takes their values. Fields are read in the order of their declaration.
///
/// ```
/// use std::time::Duration;
/// use yardarm_core::settings::{Reader, Url, Values};
///
/// yardarm_core::settings! {
///     /// Settings of a service.
///     #[derive(Debug)]
///     struct Service in "vendor.service" {
///         /// Address of the service.
///         uri: String as Url = "https://service.example",
///         /// Time between polls. Never unless set.
///         poll_interval: Option<Duration>, in Duration::from_secs(1)..=Duration::from_secs(3600),
///     }
/// }
///
/// let values = Values::default();
/// let service = Service::read_keys(&mut Reader::new(&values, Service::KEYS, &|_| None));
/// assert_eq!((service.uri.as_str(), service.poll_interval), ("https://service.example", None));
/// assert_eq!(Service::KEYS[1].path, "vendor.service.poll_interval");
/// assert_eq!(Service::KEYS[1].about, "Time between polls. Never unless set.");
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident in $section:literal
        $(with { $($(#[$given_meta:meta])* $given_vis:vis $given:ident: $given_type:ty),* $(,)? })?
        {
            $(
                $(#[doc = $about:literal])+
                $field_vis:vis $field:ident $(at $key:literal)?: $type:ty
                $(as $format:ty)? $(= $default:literal)? $(, in $range:expr)? $(=> $group:ident::$read:ident)?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[doc = $about])+ $field_vis $field: $type,)*
            $($($(#[$given_meta])* $given_vis $given: $given_type,)*)?
        }

        impl $name {
            /// The keys of this group, in the order of the reference documentation.
            pub(crate) const KEYS: &'static [$crate::settings::Key] = $crate::keys![$(
                $crate::settings!(@keys
                    [concat!($section, ".", $crate::settings!(@first $($key,)? stringify!($field)))]
                    [concat!($($about),+)] [$type] [$($format)?] [$($default)?] [$($range)?] [$($group)?]
                )
            ),*];

            /// Reads the values of the keys, and adds an error for each invalid one.
            pub(crate) fn read_keys(
                reader: &mut $crate::settings::Reader<'_>
                $($(, $given: $given_type)*)?
            ) -> Self {
                Self {
                    $($field: $crate::settings!(@read
                        reader
                        [concat!($section, ".", $crate::settings!(@first $($key,)? stringify!($field)))]
                        [$type] [$($format)?] [$($group::$read)?]
                    ),)*
                    $($($given,)*)?
                }
            }
        }
    };

    (@first $first:expr $(, $rest:expr)?) => { $first };

    (@keys $path:tt $about:tt $type:tt $format:tt [] [] [$group:ident]) => { $group::KEYS };
    (@keys [$path:expr] [$about:expr] [$type:ty] [] $default:tt $range:tt []) => {
        $crate::settings!(@keys [$path] [$about] [$type] [$type] $default $range [])
    };
    (@keys [$path:expr] [$about:expr] [$type:ty] [$format:ty] [$($default:literal)?] [$($range:expr)?] []) => {
        &[$crate::settings::Key {
            path: $path,
            kind: <$format as $crate::settings::Setting<$type>>::KIND,
            default: concat!($($default)?),
            // Each line of a comment begins with a space.
            about: $about.trim_ascii_start(),
            bounds: $crate::settings!(@bounds $($range)?),
        }]
    };

    (@bounds) => { None };
    (@bounds $range:expr) => { Some($crate::settings::Within($range).bounds()) };

    (@read $reader:ident $path:tt $type:tt $format:tt [$group:ident::$read:ident]) => { $group::$read($reader) };
    (@read $reader:ident $path:tt [$type:ty] [] []) => {
        $crate::settings!(@read $reader $path [$type] [$type] [])
    };
    (@read $reader:ident [$path:expr] [$type:ty] [$format:ty] []) => {
        <$format as $crate::settings::Setting<$type>>::read($reader, $crate::settings::path_in_entry($path))
    };
}

/// Concatenates lists of keys at compile time.
#[macro_export]
macro_rules! keys {
    ($($keys:expr),* $(,)?) => {
        &{
            const PARTS: &[&[$crate::settings::Key]] = &[$($keys),*];
            const KEYS: [$crate::settings::Key; $crate::settings::count_keys(PARTS)] =
                $crate::settings::concat_keys(PARTS);
            KEYS
        }
    };
}

/// Implements [`Setting`] for a format that consists of some texts, each of which stands for a value of a type. A text
/// after the list ends the error about other texts.
#[macro_export]
macro_rules! choices {
    ($format:ty as $type:ty { $($text:literal => $value:expr),+ $(,)? } $($hint:literal)?) => {
        impl $crate::settings::Setting<$type> for $format {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Choice(&[$($text),+]);

            fn read(reader: &mut $crate::settings::Reader<'_>, path: &str) -> $type {
                reader.choice(path, &[$(($text, $value)),+], concat!($($hint)?))
            }
        }
    };
}

/// An allowed range, which [`settings!`](crate::settings!) converts to [`Bounds`].
#[doc(hidden)]
#[derive(Debug)]
pub struct Within<T>(pub RangeInclusive<T>);

impl Within<u64> {
    #[must_use]
    pub const fn bounds(self) -> Bounds {
        Bounds::Count(*self.0.start(), *self.0.end())
    }
}

impl Within<Duration> {
    #[must_use]
    pub const fn bounds(self) -> Bounds {
        Bounds::Duration(*self.0.start(), *self.0.end())
    }
}

/// Returns the path of a key below the entry of a list, or the whole path of a key that is not in a list.
#[doc(hidden)]
#[must_use]
pub fn path_in_entry(path: &'static str) -> &'static str {
    path.split_once("[].").map_or(path, |(_, rest)| rest)
}

#[doc(hidden)]
#[must_use]
pub const fn count_keys(parts: &[&[Key]]) -> usize {
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

#[doc(hidden)]
#[must_use]
pub const fn concat_keys<const COUNT: usize>(parts: &[&[Key]]) -> [Key; COUNT] {
    let mut keys = [Key { path: "", kind: Kind::Text, default: "", about: "", bounds: None }; COUNT];
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            keys[count] = parts[part][index];
            count += 1;
            index += 1;
        }
        part += 1;
    }
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Values;
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Color {
        Red,
        Blue,
    }

    crate::choices! { Color as Color { "red" => Color::Red, "blue" => Color::Blue } "; others are not safe" }

    const SECOND: Duration = Duration::from_secs(1);

    crate::settings! {
        /// Settings of a part.
        #[derive(Debug)]
        struct Part in "part" with {
            /// A list that was read before.
            list: Vec<Entry>,
            rest: u8,
        } {
            /// Address,
            /// on two lines.
            listen: SocketAddr = "1.1.1.1:1",
            /// Number.
            count: usize = "3", in 1..=5,
            /// Subsection.
            inner: Option<Inner> => Inner::read,
            /// Color.
            paint at "color": Color = "blue",
            /// Size.
            size: usize as Size = "1KiB",
            /// Time.
            time: Option<Duration>, in SECOND..=SECOND,
        }
    }

    crate::settings! {
        #[derive(Debug)]
        struct Inner in "part.inner" {
            /// Text.
            text: String,
        }
    }

    crate::settings! {
        #[derive(Debug)]
        struct Entry in "part.list[]" {
            /// Secret.
            key: Option<Secret>,
            /// Texts.
            texts: Vec<String> = "a, b",
        }
    }

    impl Inner {
        fn read(reader: &mut Reader<'_>) -> Option<Self> {
            Some(Self::read_keys(reader)).filter(|it| !it.text.is_empty())
        }
    }

    const KEYS: &[Key] = crate::keys![Part::KEYS, Entry::KEYS];

    fn read(part: &serde_json::Value) -> (Part, Vec<String>) {
        let mut values = Values::default();
        values.add_file(&json!({ "part": part }), KEYS).unwrap();
        let mut reader = Reader::new(&values, KEYS, &|_| None);
        let list = reader.each("part.list", Entry::read_keys);
        let part = Part::read_keys(&mut reader, list, 7);
        (part, reader.into_errors().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_have_the_path_text_default_and_bounds_of_their_fields() {
        let key = |path, kind, default, about, bounds| Key { path, kind, default, about, bounds };
        let second = Bounds::Duration(SECOND, SECOND);
        let expected = [
            key("part.listen", Kind::Address, "1.1.1.1:1", "Address, on two lines.", None),
            key("part.count", Kind::Count, "3", "Number.", Some(Bounds::Count(1, 5))),
            key("part.inner.text", Kind::Text, "", "Text.", None),
            key("part.color", Kind::Choice(&["red", "blue"]), "blue", "Color.", None),
            key("part.size", Kind::Size, "1KiB", "Size.", None),
            key("part.time", Kind::Duration, "", "Time.", Some(second)),
            key("part.list[].key", Kind::Secret, "", "Secret.", None),
            key("part.list[].texts", Kind::List, "a, b", "Texts.", None),
        ];
        assert_eq!(KEYS, expected);
    }

    #[test]
    fn fields_have_the_values_of_their_keys() {
        let (part, errors) = read(&json!({}));
        assert!(errors.is_empty() && part.inner.is_none() && part.time.is_none() && part.list.is_empty(), "{errors:?}");
        assert_eq!((part.listen.port(), part.count, part.paint, part.size, part.rest), (1, 3, Color::Blue, 1 << 10, 7));
        let set = json!({
            "listen": "1.1.1.1:2", "count": 5, "inner": {"text": "x"}, "color": "red", "size": 17, "time": "1s",
            "list": [{"key": "k"}, {"texts": ["c"]}],
        });
        let (part, errors) = read(&set);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!((part.listen.port(), part.count, part.paint, part.size), (2, 5, Color::Red, 17));
        assert_eq!((part.inner.map(|it| it.text).as_deref(), part.time), (Some("x"), Some(SECOND)));
        assert_eq!(part.list[0].key.as_ref().map(Secret::expose), Some("k"));
        assert_eq!((part.list[0].texts.len(), &part.list[1].texts[..]), (2, &["c".to_owned()][..]));
    }

    #[test]
    fn errors_name_the_range_and_the_choices() {
        let (part, errors) = read(&json!({"count": 6, "color": "green", "time": "2s"}));
        assert_eq!(
            errors,
            [
                "`part.count` (file): must be a whole number from 1 to 5, not `6`",
                "`part.color` (file): must be `red` or `blue`; others are not safe",
                "`part.time` (file): must be a time from 1s to 1s, such as `5s`, not `2s`",
            ]
        );
        assert_eq!((part.count, part.paint), (3, Color::Blue), "the defaults");
    }
}
