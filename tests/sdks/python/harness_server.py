"""Harness' Python server SDK, unmodified, controlled like harness-server.mjs: the same commands and
facts, but no `requests`.
"""
import json
import logging
import os
import sys
import threading

# The SDK prints tracebacks when a stream ends; facts are written to a separate descriptor, so that they cannot be mixed
# up.
facts = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from featureflags.client import CfClient, FeatureFlagType  # noqa: E402
from featureflags.config import Config  # noqa: E402
from featureflags.evaluations.auth_target import Target  # noqa: E402
from featureflags.lru_cache import LRUCache  # noqa: E402

base, key = sys.argv[1:3]
logging.disable(logging.CRITICAL)
lock = threading.Lock()
ready = threading.Event()


def say(fact):
    with lock:
        facts.write(json.dumps(fact) + "\n")
        facts.flush()


class ReportingCache(LRUCache):
    """The SDK reports no changes, but accepts a custom cache."""

    def set(self, key, value):
        super().set(key, value)
        self.report(key)

    def remove(self, keys):
        super().remove(keys)
        for key in keys:
            self.report(key)

    def report(self, key):
        kind, _, identifier = key.partition("/")
        if kind == "flags" and ready.is_set():
            say({"changed": identifier})


def often(config):
    # The constructor raises an error for less than 60 seconds; options, which are applied later, are not checked.
    config.events_sync_interval = 1


client = CfClient(key, often, config=Config(base_url=base, events_url=base, cache=ReportingCache()))
client.wait_for_initialization()
if client.is_initialized():
    ready.set()
    say({"ready": True})
else:
    say({"ready": False, "error": "see the log"})

variations = {
    FeatureFlagType.BOOLEAN: client.bool_variation,
    FeatureFlagType.STRING: client.string_variation,
    FeatureFlagType.INT_OR_FLOAT: client.number_variation,
    FeatureFlagType.JSON: client.json_variation,
}


def evaluate(flag, target):
    variation = variations.get(client.get_flag_type(flag))
    return variation(flag, target, "default") if variation else "default"


for line in sys.stdin:
    command, _, rest = line.strip().partition(" ")
    if command == "evaluate":
        flag, _, target = rest.partition(" ")
        say({"value": evaluate(flag, Target.from_dict(json.loads(target)))})
    elif command == "flush":
        # Metrics are posted every second.
        say({"done": "flush"})
    elif command == "close":
        break
client.close()
facts.flush()
# Without waiting for threads that retry.
os._exit(0)
