//! Exports a type as a component.

use std::cell::OnceCell;
use std::marker::PhantomData;

use crate::bindings::host::types;
use crate::bindings::lifecycle;
use crate::{Plugin, PluginError, Result, from_config};

/// Makes a component of a plugin: exports the lifecycle and the named hooks, and nothing else.
///
/// Hooks are `request_auth`, `event_filter`, `payload_transform`, `context_enrichment`, `evaluation_transform`, `background`,
/// `change_listener` and `route_resolver`; the type must implement the trait of each named hook. The component gets a manifest: name, version and description come from the plugin's
/// `Cargo.toml` and can be overridden; `manifest` adds further properties as a JSON object, such as the grants that the
/// plugin wants, the JSON Schema of its configuration, and whether its instances keep state. In this order:
///
/// ```
/// # struct Gate;
/// # impl yardarm_plugin::Plugin for Gate {
/// #     type Config = yardarm_plugin::NoConfig;
/// #     fn new(_: Self::Config) -> yardarm_plugin::Result<Self> { Ok(Self) }
/// # }
/// # impl yardarm_plugin::RequestAuth for Gate {
/// #     fn authenticate(&self, _: &dyn yardarm_plugin::Request) -> yardarm_plugin::Result<yardarm_plugin::Decision> {
/// #         Ok(yardarm_plugin::Decision::Abstain)
/// #     }
/// # }
/// yardarm_plugin::export!(
///     Gate: request_auth;
///     name = "gate",
///     version = "1.2.0",
///     about = "opens at nine",
///     manifest = r#"{"grants": [{"grant": "clock", "why": "to know when it is nine"}]}"#,
/// );
/// ```
///
/// A name may consist of ASCII letters, digits, `-` and `_`; others do not compile. On targets other than WebAssembly
/// only the types are checked.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $($hook:ident),+ $(,)? $(; $($given:ident = $value:expr),+ $(,)?)?) => {
        const _: () = {
            impl $crate::__private::Exported for $plugin {
                const NAME: &'static str = $crate::__given!(name, env!("CARGO_PKG_NAME") $(, $($given = $value),+)?);
                const VERSION: &'static str =
                    $crate::__given!(version, env!("CARGO_PKG_VERSION") $(, $($given = $value),+)?);
                const ABOUT: &'static str =
                    $crate::__given!(about, env!("CARGO_PKG_DESCRIPTION") $(, $($given = $value),+)?);
                const MANIFEST: &'static str = $crate::__given!(manifest, "{}" $(, $($given = $value),+)?);

                fn with_cell<R>(work: impl FnOnce(&std::cell::OnceCell<Self>) -> R) -> R {
                    std::thread_local! {
                        static PLUGIN: std::cell::OnceCell<$plugin> = const { std::cell::OnceCell::new() };
                    }
                    PLUGIN.with(work)
                }
            }

            assert!(
                $crate::__private::is_name(<$plugin as $crate::__private::Exported>::NAME),
                "a plugin's name consists of ASCII letters, digits, `-` and `_`"
            );

            #[allow(dead_code)]
            type Adapter = $crate::__private::Adapter<$plugin>;
            #[cfg(target_family = "wasm")]
            #[allow(unsafe_code)]
            #[used]
            #[unsafe(link_section = "yardarm:manifest")]
            static MANIFEST: [u8; $crate::__private::manifest::length::<$plugin>()] =
                $crate::__private::manifest::bytes::<$plugin, { $crate::__private::manifest::length::<$plugin>() }>();
            #[cfg(target_family = "wasm")]
            $crate::__private::bindings::lifecycle::export_lifecycle!(
                Adapter with_types_in $crate::__private::bindings::lifecycle
            );
            $($crate::__export_hook!($plugin, $hook);)+
        };
    };
}

/// Exports one hook; on targets other than WebAssembly checks that its trait is implemented.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    ($plugin:ty, request_auth) => {
        $crate::__export_hook!($plugin, request_auth, export_request_auth, RequestAuth);
    };
    ($plugin:ty, event_filter) => {
        $crate::__export_hook!($plugin, event_filter, export_event_filter, EventFilter);
    };
    ($plugin:ty, payload_transform) => {
        $crate::__export_hook!($plugin, payload_transform, export_payload_transform, PayloadTransform);
    };
    ($plugin:ty, context_enrichment) => {
        $crate::__export_hook!($plugin, context_enrichment, export_context_enrichment, ContextEnrichment);
    };
    ($plugin:ty, evaluation_transform) => {
        $crate::__export_hook!($plugin, evaluation_transform, export_evaluation_transform, EvaluationTransform);
    };
    ($plugin:ty, background) => {
        $crate::__export_hook!($plugin, background, export_background, Background);
    };
    ($plugin:ty, change_listener) => {
        $crate::__export_hook!($plugin, change_listener, export_change_listener, ChangeListener);
    };
    ($plugin:ty, route_resolver) => {
        $crate::__export_hook!($plugin, route_resolver, export_route_resolver, RouteResolver);
    };
    ($plugin:ty, $module:ident, $export:ident, $hook:ident) => {
        const _: () = {
            const fn implemented<T: $crate::$hook>() {}
            implemented::<$plugin>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Adapter = $crate::__private::Adapter<$plugin>;
            $crate::__private::bindings::$module::$export!(
                Adapter with_types_in $crate::__private::bindings::$module
            );
        };
    };
    ($plugin:ty, $unknown:ident) => {
        compile_error!(concat!(
            "unknown hook `",
            stringify!($unknown),
            "`; hooks are request_auth, event_filter, payload_transform, context_enrichment, evaluation_transform, ",
            "background, change_listener and route_resolver"
        ));
    };
}

/// Expands to the value given for a property of the plugin, or else its default.
#[doc(hidden)]
#[macro_export]
macro_rules! __given {
    ($wanted:ident, $default:expr) => { $default };
    (name, $default:expr, name = $value:expr $(, $($rest:tt)*)?) => { $value };
    (version, $default:expr, version = $value:expr $(, $($rest:tt)*)?) => { $value };
    (about, $default:expr, about = $value:expr $(, $($rest:tt)*)?) => { $value };
    (manifest, $default:expr, manifest = $value:expr $(, $($rest:tt)*)?) => { $value };
    ($wanted:ident, $default:expr, $other:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__given!($wanted, $default $(, $($rest)*)?)
    };
}

/// A plugin with a name and a place for its single value.
pub trait Exported: Plugin {
    /// Name of the plugin.
    const NAME: &'static str;
    /// Its version, for display.
    const VERSION: &'static str;
    /// One-line description.
    const ABOUT: &'static str;
    /// Further properties of the manifest, a JSON object.
    const MANIFEST: &'static str;

    /// Calls `work` with the place of the value, which is empty before `init`.
    fn with_cell<R>(work: impl FnOnce(&OnceCell<Self>) -> R) -> R;
}

/// Implements the generated interface for a plugin.
pub struct Adapter<P>(PhantomData<P>);

/// Returns whether a text is a valid plugin name.
#[must_use]
pub const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_alphanumeric() || bytes[at] == b'-' || bytes[at] == b'_') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

/// Calls the plugin of this instance.
pub(crate) fn call_plugin<P: Exported, T>(call: impl FnOnce(&P) -> Result<T>) -> Result<T, types::PluginError> {
    P::with_cell(|cell| {
        let plugin = cell.get().ok_or_else(|| PluginError::internal("called before `init`"))?;
        call(plugin)
    })
    .map_err(types::PluginError::from)
}

impl<P: Exported> lifecycle::Guest for Adapter<P> {
    fn init(config: String) -> Result<(), types::PluginError> {
        let plugin = from_config::<P>(&config)?;
        P::with_cell(|cell| cell.set(plugin)).map_err(|_| PluginError::internal("`init` was called twice").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::lifecycle::Guest;
    use crate::bindings::{event_filter, request_auth};
    use crate::{Decision, Event, EventFilter, Request, RequestAuth, Verdict};

    #[derive(serde::Deserialize)]
    struct Config {
        who: String,
    }

    struct Both(String);

    impl Plugin for Both {
        type Config = Config;

        fn new(config: Config) -> Result<Self> {
            Ok(Self(config.who))
        }
    }

    impl RequestAuth for Both {
        fn authenticate(&self, _: &dyn Request) -> Result<Decision> {
            Ok(Decision::allow(&self.0).tag("a", 1))
        }
    }

    impl EventFilter for Both {
        fn filter(&self, _: &dyn Request, _: &Event) -> Result<Verdict> {
            Ok(Verdict::Drop)
        }
    }

    crate::export!(Both: request_auth, event_filter; about = "answers \"twice\"", manifest = r#"{"state": "none"}"#);

    #[test]
    fn an_instance_is_initialized_once_and_then_called() {
        let call = || call_plugin(|plugin: &Both| plugin.authenticate(&crate::testing::TestRequest::default()));
        assert!(matches!(call(), Err(types::PluginError::Internal(_))), "not initialised yet");
        let refused = Adapter::<Both>::init(r#"{"who": 1}"#.to_owned());
        assert!(matches!(refused, Err(types::PluginError::InvalidInput(_))));
        Adapter::<Both>::init(r#"{"who": "me"}"#.to_owned()).unwrap();
        assert_eq!(call().unwrap(), Decision::allow("me").tag("a", 1));
        assert!(matches!(Adapter::<Both>::init(r#"{"who": "you"}"#.to_owned()), Err(types::PluginError::Internal(_))));
        let _: fn(_) -> _ = <Adapter<Both> as request_auth::Guest>::authenticate;
        let _: fn(_, _) -> _ = <Adapter<Both> as event_filter::Guest>::filter;
    }

    #[test]
    fn the_manifest_has_the_properties_of_the_crate_unless_given() {
        const LENGTH: usize = crate::manifest::length::<Both>();
        let manifest: serde_json::Value =
            serde_json::from_slice(&crate::manifest::bytes::<Both, LENGTH>()).expect("JSON");
        assert_eq!(manifest["name"], "yardarm-plugin");
        assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest["about"], "answers \"twice\"");
        assert_eq!(manifest["state"], "none");
        assert_eq!(manifest["sdk"]["language"], "rust");
        assert!(is_name("a-b_C9") && !is_name("") && !is_name("a b") && !is_name("ä"));
    }
}
