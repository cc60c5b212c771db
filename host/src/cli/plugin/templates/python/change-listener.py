"""Posts which flags have changed: the environment and then one item per line.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import http
from wit_world.imports.http import HttpRequest
from wit_world.imports.types import Header, PluginError_Temporary

url = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global url
        url = json.loads(config)["url"]


class ChangeListener(exports.ChangeListener):
    def changed(self, changes):
        lines = [changes.environment, *(f"{item.kind} {item.key}" for item in changes.items)]
        body = "".join(f"{line}\n" for line in lines).encode()
        try:
            response = http.send(HttpRequest("POST", url, [Header("content-type", b"text/plain")], body, timeout_ms=None))
        except Err as error:
            raise temporary(error.value) from None
        if not 200 <= response.status <= 299:
            raise temporary(f"status {response.status}")


def temporary(error):
    """The gateway calls again, with later changes, after a pause."""
    return Err(PluginError_Temporary(f"not posted: {error}"))
