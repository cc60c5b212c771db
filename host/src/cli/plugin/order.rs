//! `yardarm plugin order`: in which order plugins are called, by environment and hook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};
use yardarm_wasm::{Compiler, OrderedPlugin, Phase};

use super::gateway::GatewayArgs;
use super::outcome::{Format, Report, ToolError, conclude, finish};
use super::table::columns;

/// Arguments of `plugin order`.
#[derive(Debug, Args)]
#[command(after_help = "No token is needed.\n\nExamples:\n  yardarm plugin order --admin 127.0.0.1:8040\n  \
    yardarm plugin order --dir plugins.d")]
pub(super) struct OrderArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Show the order that the files in this folder would have, without a gateway
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["admin", "config", "token_file"])]
    dir: Option<PathBuf>,
}

/// Plugins by hook, in their order.
type Hooks = BTreeMap<String, Vec<OrderedPlugin>>;

/// The order of all environments.
#[derive(Serialize)]
struct Ordered {
    orders: Vec<EnvironmentOrder>,
}

/// The order of environments in which it is the same.
#[derive(Serialize)]
struct EnvironmentOrder {
    /// As `vendor/name`; `null` for all environments that there may be.
    environments: Option<Vec<String>>,
    hooks: Hooks,
}

/// The part of `/api/plugins` that is used here.
#[derive(Deserialize)]
struct Folder {
    order: Hooks,
}

/// The part of `/api/environments` that is used here.
#[derive(Deserialize)]
struct Environments {
    environments: Vec<Environment>,
}

#[derive(Deserialize)]
struct Environment {
    vendor: String,
    name: String,
}

pub(super) async fn run(args: OrderArgs, format: Format) -> ExitCode {
    match args.dir {
        Some(dir) => finish(format, move || order_in(&dir)).await,
        None => conclude(format, order_of_gateway(&args.gateway).await),
    }
}

fn order_in(dir: &Path) -> Result<Ordered, ToolError> {
    if !dir.is_dir() {
        return Err(ToolError::of_file(dir, "is not a folder"));
    }
    let settings = yardarm_wasm::Settings {
        dir: dir.to_owned(),
        compiler: Compiler::this_program(),
        ..yardarm_wasm::Settings::default()
    };
    let folder = yardarm_wasm::check_folder(&settings).map_err(|error| ToolError::of_file(dir, error))?;
    if let Some(trouble) = folder.trouble {
        return Err(ToolError::of_file(dir, trouble.text));
    }
    let hooks = folder.order.into_iter().filter(|(_, plugins)| !plugins.is_empty());
    let hooks = hooks.map(|(hook, plugins)| (hook.to_owned(), plugins)).collect();
    Ok(Ordered { orders: vec![EnvironmentOrder { environments: None, hooks }] })
}

async fn order_of_gateway(args: &GatewayArgs) -> Result<Ordered, ToolError> {
    let gateway = args.find()?;
    let folder: Folder = gateway.parse(gateway.get("/api/plugins").await?)?;
    let Environments { environments } = gateway.parse(gateway.get("/api/environments").await?)?;
    let mut orders: Vec<EnvironmentOrder> = Vec::new();
    for Environment { vendor, name } in environments {
        let (hooks, label) = (hooks_of(&folder.order, &vendor, &name), format!("{vendor}/{name}"));
        match orders.iter_mut().find(|order| order.hooks == hooks) {
            Some(order) => order.environments.get_or_insert_default().push(label),
            None => orders.push(EnvironmentOrder { environments: Some(vec![label]), hooks }),
        }
    }
    Ok(Ordered { orders })
}

/// Returns the order in one environment.
fn hooks_of(all: &Hooks, vendor: &str, name: &str) -> Hooks {
    let called = |plugins: &[OrderedPlugin]| -> Vec<OrderedPlugin> {
        plugins.iter().filter(|plugin| plugin.is_called_in(vendor, name)).cloned().collect()
    };
    let hooks = all.iter().map(|(hook, plugins)| (hook.clone(), called(plugins)));
    hooks.filter(|(_, plugins)| !plugins.is_empty()).collect()
}

impl Report for Ordered {
    fn text(&self) -> String {
        let orders = self.orders.iter().map(|EnvironmentOrder { environments, hooks }| {
            let title = environments.as_ref().map_or("all environments".to_owned(), |all| all.join(", "));
            if hooks.is_empty() {
                return format!("{title}\n  no plugin is called\n");
            }
            let hooks = hooks.iter().map(|(hook, plugins)| format!("  {hook}\n{}", lines(plugins)));
            format!("{title}\n{}", hooks.collect::<String>())
        });
        let text = orders.collect::<Vec<_>>().join("\n");
        if text.is_empty() { "the gateway serves no environment\n".to_owned() } else { text }
    }
}

fn lines(plugins: &[OrderedPlugin]) -> String {
    let row = |(index, plugin): (usize, &OrderedPlugin)| {
        let phase = match plugin.phase {
            Phase::Early => "early",
            Phase::Normal => "normal",
            Phase::Late => "late",
        };
        let joined = |texts: Vec<String>| texts.join(", ");
        let mut limits =
            vec![format!("environments {}", joined(plugin.environments.iter().map(ToString::to_string).collect()))];
        if !plugin.sdk.is_empty() {
            limits.push(format!("sdk {}", joined(plugin.sdk.iter().map(ToString::to_string).collect())));
        }
        if !plugin.routes.is_empty() {
            limits.push(format!("routes {}", joined(plugin.routes.iter().map(ToString::to_string).collect())));
        }
        if !plugin.running {
            limits.push("missing, and required".to_owned());
        }
        let number = format!("    {}.", index + 1);
        ([number, plugin.name.clone(), phase.to_owned(), plugin.priority.to_string(), limits.join("; ")], Vec::new())
    };
    columns(&plugins.iter().enumerate().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_environment_has_the_plugins_that_are_called_in_it() {
        let plugin = |name: &str, pattern: &str| {
            json!({"name": name, "phase": "late", "priority": -5, "environments": [pattern], "sdk": ["server"],
                "routes": [], "running": name != "gate"})
        };
        let hooks = json!({"request-auth": [plugin("gate", "prod*"), plugin("other", "vendor/*")], "event-filter": []});
        let hooks: Hooks = serde_json::from_value(hooks).unwrap();
        let of = |vendor: &str, name: &str| hooks_of(&hooks, vendor, name);
        assert_eq!(of("vendor", "prod-1")["request-auth"].len(), 2);
        assert_eq!(of("other", "production")["request-auth"][0].name, "gate");
        assert!(of("other", "test").is_empty());
        let orders = vec![EnvironmentOrder { environments: None, hooks: of("other", "production") }];
        let expected = "all environments\n  request-auth\n    1.  gate  late  -5  environments prod*; sdk server; missing, and required\n";
        assert_eq!(Ordered { orders }.text(), expected);
    }
}
