//! A plugin that runs: the gateway, its fake clouds and SDKs, and the loop that follows its sources.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use yardarm_core::supervisor::blocking;

use super::super::outcome::{ToolError, ToolExit};
use super::RunArgs;
use super::event::RunEvent;
use super::folder::RunFolder;
use super::observer::Observer;
use super::output::Output;
use super::project::Project;
use super::sources::Sources;
use crate::config::{self, Config, Overrides};
use crate::demo::clouds::Clouds;
use crate::demo::traffic::Traffic;
use crate::gateway::Gateway;
use crate::process::{Request, Signals, stop};

/// Time between two changes of a flag.
const CHANGE_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is checked whether a version was loaded or refused.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Checks from one look at the counters to the next.
const CHECKS_PER_COUNT: u32 = 10;

/// Everything that runs.
pub(super) struct Session {
    gateway: Gateway,
    clouds: Clouds,
    traffic: Traffic,
    rate: u32,
    duration: Option<Duration>,
    project: Arc<Project>,
    folder: Arc<RunFolder>,
    output: Output,
    sources: Sources,
    observer: Mutex<Observer>,
    /// Whether the last build has failed.
    is_stale: Mutex<bool>,
}

impl Session {
    /// Starts the gateway with the plugin in its folder.
    ///
    /// # Errors
    /// If the gateway cannot be started, or files cannot be copied.
    pub(super) async fn start(args: &RunArgs, project: Project, output: Output) -> Result<Self, ToolError> {
        let name = project.name();
        let folder = RunFolder::create(&name)
            .map_err(|error| ToolError::general(format!("there is no place for temporary files: {error}")))?;
        let sources = project.sources();
        if let RunEvent::CopyFailed { text } = folder.copy(&project) {
            return Err(ToolError::general(text));
        }
        let clouds = Clouds::start(&args.environment).await;
        let started = async { Gateway::start(config(args, &clouds, &folder)?).await };
        let gateway = Box::pin(started).await.map_err(|error| ToolError::general(format!("{error:#}")))?;
        output.emit(RunEvent::Started {
            plugin: name,
            component: project.component.clone(),
            binding: Some(project.binding.clone()).filter(|binding| binding.exists()),
            sdks: gateway.address().to_string(),
            admin: gateway.admin_address().to_string(),
            watched: project.command.as_ref().map_or(&project.component, |_| &project.folder).clone(),
        });
        Ok(Self {
            traffic: Traffic::new(gateway.address(), args.headers.clone()),
            gateway,
            clouds,
            rate: args.rate,
            duration: args.duration,
            project: Arc::new(project),
            folder: Arc::new(folder),
            output,
            sources,
            observer: Mutex::default(),
            is_stale: Mutex::new(false),
        })
    }

    /// Runs until a signal arrives or the duration is over.
    pub(super) async fn run(mut self, mut signals: Signals) -> ExitCode {
        let mut sources = std::mem::replace(&mut self.sources, Sources::of_files(Vec::new()));
        let is_interrupted = tokio::select! {
            () = self.serve_sdks() => false,
            () = self.clouds.keep_changing(CHANGE_INTERVAL) => false,
            () = self.follow(&mut sources) => false,
            () = self.observe() => false,
            () = self.output.show_log() => false,
            () = self.duration_over() => false,
            () = until_end(&mut signals, &self.gateway) => true,
            error = self.gateway.failure() => {
                self.output.emit(RunEvent::Log {
                    level: "error".to_owned(), message: error.to_string(), hook: None, guest: false,
                });
                false
            }
        };
        self.count();
        let is_fine = self.observer.lock().is_fine() && !*self.is_stale.lock();
        let code = stop(self.gateway, &mut signals).await;
        self.output.finish(RunEvent::Ended { is_fine, loaded: self.observer.lock().loaded() });
        if is_fine || is_interrupted { code } else { ToolExit::Refused.into() }
    }

    /// Sends requests once the plugin of the start is loaded or refused.
    async fn serve_sdks(&self) {
        self.gateway.plugins_loaded().await;
        self.traffic.keep_sending(self.rate).await;
    }

    async fn duration_over(&self) {
        match self.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    }

    /// Builds and copies what has changed, forever.
    async fn follow(&self, sources: &mut Sources) {
        loop {
            sources.changed().await;
            if let Some(build) = self.project.build() {
                self.output.emit(RunEvent::Building { command: build.command().to_owned() });
                let built = build.run().await;
                let is_failed = matches!(built, RunEvent::BuildFailed { .. });
                *self.is_stale.lock() = is_failed;
                self.output.emit(built);
                if is_failed {
                    continue;
                }
            }
            let (folder, project) = (Arc::clone(&self.folder), Arc::clone(&self.project));
            match blocking("plugin copy", move || folder.copy(&project)).await {
                Ok(copied) => self.output.emit(copied),
                Err(error) => self.output.emit(RunEvent::CopyFailed { text: error.to_string() }),
            }
        }
    }

    /// Reports what becomes of the plugin, forever.
    async fn observe(&self) {
        let mut timer = interval(CHECK_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for check in 1.. {
            timer.tick().await;
            if check % CHECKS_PER_COUNT == 0 {
                self.count();
            } else {
                let events = self.observer.lock().changes(&self.gateway.plugin_status());
                events.into_iter().for_each(|event| self.output.emit(event));
            }
            self.output.draw();
        }
    }

    fn count(&self) {
        let status = self.gateway.plugin_status();
        let mut observer = self.observer.lock();
        let events = [observer.changes(&status), observer.counters(&status, self.traffic.responses())].concat();
        events.into_iter().for_each(|event| self.output.emit(event));
    }
}

/// Handles SIGHUP like a gateway: the plugin folder is scanned.
async fn until_end(signals: &mut Signals, gateway: &Gateway) {
    while signals.next().await != Request::End {
        gateway.rescan_plugins();
    }
}

/// Returns the configuration of the gateway. A new version is never on probation, because its author wants to see it run.
fn config(args: &RunArgs, clouds: &Clouds, folder: &RunFolder) -> anyhow::Result<Config> {
    let text = |path: &Path| path.display().to_string();
    let settings = [
        ("YARDARM_SERVER_LISTEN", args.listen.to_string()),
        ("YARDARM_ADMIN_LISTEN", args.admin.to_string()),
        // Few enough for the usual limit of open files.
        ("YARDARM_SERVER_MAX_CONNECTIONS", "200".to_owned()),
        ("YARDARM_SERVER_MAX_STREAMS", "200".to_owned()),
        ("YARDARM_DATA_DIR", text(&folder.data())),
        ("YARDARM_PLUGINS_DIR", text(&folder.plugins())),
        ("YARDARM_PLUGINS_SETTLE_TIME", "0s".to_owned()),
        ("YARDARM_PLUGINS_PROBATION", "0s".to_owned()),
        ("YARDARM_PLUGINS_RECHECK_WINDOW", "1s".to_owned()),
        ("YARDARM_SHUTDOWN_DRAIN", "0s".to_owned()),
        ("YARDARM_SHUTDOWN_TIMEOUT", "2s".to_owned()),
    ];
    let secrets = args.secrets.as_deref().map(|folder| ("YARDARM_PLUGINS_SECRETS_DIR", text(folder)));
    let variables = clouds.settings(&args.environment).into_iter().chain(settings).chain(secrets);
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).collect();
    // A `yardarm.toml` in the working directory is not read.
    Ok(config::load_without_file(&Overrides::of_program(variables))?.config)
}
