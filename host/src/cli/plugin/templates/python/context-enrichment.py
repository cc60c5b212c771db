"""Tells flags the country that a proxy has found.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports
from wit_world.exports.context_enrichment import Attribute

kind = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global kind
        kind = json.loads(config)["kind"]


class ContextEnrichment(exports.ContextEnrichment):
    def enrich(self, request, context):
        countries = request.header("x-country")
        if not countries or kind not in context.kinds():
            return []
        return [Attribute(kind, "country", json.dumps(countries[0].decode()).encode())]
