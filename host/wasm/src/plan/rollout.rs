//! A plugin in a plan while a new version of it is being rolled out.

use std::sync::Arc;

use crate::call::BindingInstance;
use crate::chain::{ChainLink, Division, PlacedBinding, Shadow, Side};
use crate::plugin::Plugin;
use crate::vocabulary::{Hook, RolloutMode};

/// A plugin that runs, with the version that is being rolled out.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) plugin: &'a Arc<Plugin>,
    pub(crate) newer: Option<&'a Newer>,
}

/// A version that is being rolled out.
pub(crate) struct Newer {
    pub(crate) plugin: Arc<Plugin>,
    part: Part,
}

/// What such a version is called for.
enum Part {
    Canary(Arc<Division>),
    Shadow(Arc<Shadow>),
}

impl Newer {
    /// Creates the part of a version that was staged to be rolled out beside `running`.
    pub(crate) fn new(plugin: Arc<Plugin>, running: &Plugin) -> Self {
        let part = match plugin.rollout.mode {
            RolloutMode::Canary { percent } => {
                let is_shared = |it: &Arc<BindingInstance>| {
                    matches!(it.bind.hook, Hook::PayloadTransform | Hook::EvaluationTransform)
                };
                let is_by_environment = plugin.bindings.iter().chain(&running.bindings).any(is_shared);
                Part::Canary(Arc::new(Division::new(&plugin.name, percent, is_by_environment)))
            }
            RolloutMode::Shadow | RolloutMode::Full => Part::Shadow(Arc::new(Shadow::new(&plugin.bindings))),
        };
        Self { plugin, part }
    }

    /// Returns the shadow, if the version is in shadow.
    pub(crate) fn shadow(&self) -> Option<&Shadow> {
        match &self.part {
            Part::Shadow(shadow) => Some(shadow),
            Part::Canary(_) => None,
        }
    }
}

impl Running<'_> {
    /// Returns the links of the plugin.
    pub(super) fn links(self) -> impl Iterator<Item = ChainLink> {
        let canary = self.newer.filter(|newer| matches!(newer.part, Part::Canary(_)));
        let links = self.plugin.bindings.iter().map(move |binding| self.link(binding, Side::Running));
        let newer = canary.into_iter().flat_map(|newer| &newer.plugin.bindings);
        links.chain(newer.map(move |binding| self.link(binding, Side::New)))
    }

    fn link(self, binding: &Arc<BindingInstance>, side: Side) -> ChainLink {
        let (mut part, mut shadow) = (None, None);
        match self.newer.map(|newer| &newer.part) {
            // A resolver is called before the credential is known.
            Some(Part::Canary(division)) if binding.bind.hook != Hook::RouteResolver => {
                part = Some((Arc::clone(division), side));
            }
            Some(Part::Shadow(it)) => shadow = Some(Arc::clone(it)),
            _ => (),
        }
        ChainLink::Instance(PlacedBinding { binding: Arc::clone(binding), part, shadow })
    }
}
