"""The vendor's Python server SDK, unmodified, controlled like server.mjs beside it: the same commands, the same facts.

Arguments: base URL, SDK key, and optionally `standard` or `streaming` for FDv2.
"""
import json
import logging
import sys
import threading

import ldclient
from ldclient import Context, datasystem
from ldclient.config import Config

base, key = sys.argv[1:3]
way = sys.argv[3] if len(sys.argv) > 3 else None
ways = {"standard": datasystem.default, "streaming": datasystem.streaming}
logging.disable(logging.CRITICAL)
lock = threading.Lock()


def say(fact):
    with lock:
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


options = {"datasystem_config": ways[way]().build()} if way else {}
ldclient.set_config(Config(key, base_uri=base, stream_uri=base, events_uri=base, flush_interval=1, **options))
client = ldclient.get()
client.flag_tracker.add_listener(lambda change: say({"changed": change.key}))


def wait():
    import time
    for _ in range(300):
        if client.is_initialized():
            return say({"ready": True})
        time.sleep(0.1)
    say({"ready": False})


threading.Thread(target=wait, daemon=True).start()

for line in sys.stdin:
    command, _, rest = line.strip().partition(" ")
    if command == "evaluate":
        flag, _, context = rest.partition(" ")
        say({"value": client.variation(flag, Context.from_dict(json.loads(context)), "default")})
    elif command == "all":
        say({"all": client.all_flags_state(Context.from_dict(json.loads(rest))).to_values_map()})
    elif command == "track":
        event, _, context = rest.partition(" ")
        client.track(event, Context.from_dict(json.loads(context)))
        say({"done": "track"})
    elif command == "flush":
        client.flush()
        say({"done": "flush"})
    elif command == "close":
        break
client.close()
