"""Hides flags whose keys begin with a prefix from SDKs that do not evaluate themselves.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports
from wit_world.exports.evaluation_transform import Edit_Drop

prefix = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global prefix
        prefix = json.loads(config)["hide_prefix"]


class EvaluationTransform(exports.EvaluationTransform):
    def transform(self, request, context, evaluated):
        return [Edit_Drop(index) for index, flag in enumerate(evaluated.flags()) if flag.startswith(prefix)]
