"""Chooses the environment of the tenant that a proxy names.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports

prefix = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global prefix
        prefix = json.loads(config)["prefix"]


class RouteResolver(exports.RouteResolver):
    def resolve(self, request):
        tenants = request.header("x-tenant")
        return prefix + tenants[0].decode(errors="replace") if tenants else None
