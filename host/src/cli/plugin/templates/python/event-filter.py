"""Drops events of some kinds.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports
from wit_world.exports.event_filter import Edit_Drop

drop_kinds = set()


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global drop_kinds
        drop_kinds = set(json.loads(config)["drop_kinds"])


class EventFilter(exports.EventFilter):
    def filter(self, request, events):
        return [Edit_Drop(index) for index, kind in enumerate(events.kinds()) if kind in drop_kinds]
