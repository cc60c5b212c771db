"""Admits callers that present a token of a list, which is downloaded now and then: one token per line.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.background import Value
from wit_world.exports.request_auth import Admission, Decision_Allow, Decision_Deny, Denial, DenialClass
from wit_world.imports import http, shared
from wit_world.imports.http import HttpRequest
from wit_world.imports.types import Identity, PluginError_Temporary

url = ""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global url
        url = json.loads(config)["url"]


class Background(exports.Background):
    def refresh(self):
        try:
            response = http.send(HttpRequest("GET", url, [], body=None, timeout_ms=None))
        except Err as error:
            raise temporary(error.value) from None
        if response.status != 200:
            raise temporary(f"status {response.status}")
        tokens = set(response.body.decode(errors="replace").splitlines())
        return [Value(token, b"") for token in sorted(tokens) if token]


class RequestAuth(exports.RequestAuth):
    def authenticate(self, request):
        if shared.version() == 0:
            # There was no list yet. SDKs come back, which they would not do if they were denied as forbidden.
            return denied(DenialClass.UNAVAILABLE)
        if any(shared.get(token.decode(errors="replace")) is not None for token in request.header("x-token")):
            return Decision_Allow(Admission(identity=Identity("visitor", []), response_headers=[]))
        return denied(DenialClass.FORBIDDEN)


def denied(denial_class):
    return Decision_Deny(Denial(denial_class, reason=None, retry_after=None, response_headers=[]))


def temporary(error):
    return Err(PluginError_Temporary(f"the list cannot be downloaded: {error}"))
