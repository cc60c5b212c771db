"""Hides flags whose keys begin with a prefix from all SDKs.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports
from wit_world.exports.payload_transform import Edit_Drop

prefix = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global prefix
        prefix = json.loads(config)["hide_prefix"]


class PayloadTransform(exports.PayloadTransform):
    def transform(self, items):
        return [Edit_Drop(index) for index, item in enumerate(items.changed()) if is_hidden(item)]


def is_hidden(item):
    return item.kind == "flag" and not item.deleted and item.key.startswith(prefix)
