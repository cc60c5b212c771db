"""Admits callers that present a token.

Raising `Err` of `componentize_py_types` with a `PluginError` of `wit_world.imports.types` is the `err` of the interface; any
other exception ends the instance.
"""

import json

from wit_world import exports
from wit_world.exports.request_auth import Admission, Decision_Allow, Decision_Deny, Denial, DenialClass
from wit_world.imports.types import Identity

token = b""


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global token
        token = json.loads(config)["token"].encode()


class RequestAuth(exports.RequestAuth):
    def authenticate(self, request):
        if token in request.header("x-token"):
            return Decision_Allow(Admission(identity=Identity("visitor", []), response_headers=[]))
        denial = Denial(DenialClass.FORBIDDEN, reason=None, retry_after=None, response_headers=[])
        return Decision_Deny(denial)
