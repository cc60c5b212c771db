"""The vendor's Python server SDK in daemon mode, unmodified, controlled like server.py beside it.

It reads a DynamoDB table and nothing else. Arguments: address of the endpoint, prefix, `dynamodb`, table.
"""
import json
import logging
import os
import sys

import ldclient
from ldclient import Context
from ldclient.config import BigSegmentsConfig, Config
from ldclient.feature_store import CacheConfig
from ldclient.integrations import DynamoDB

address, prefix, _, table = sys.argv[1:5]
logging.disable(logging.CRITICAL)
options = {"endpoint_url": address, "region_name": os.environ["AWS_REGION"]}


def say(fact):
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


store = DynamoDB.new_feature_store(table, prefix=prefix, dynamodb_opts=options, caching=CacheConfig.disabled())
members = DynamoDB.new_big_segment_store(table, prefix=prefix, dynamodb_opts=options)
big_segments = BigSegmentsConfig(store=members, context_cache_time=0.001)
ldclient.set_config(
    Config("sdk-unused", feature_store=store, use_ldd=True, send_events=False, big_segments=big_segments)
)
client = ldclient.get()
say({"ready": client.is_initialized()})

for line in sys.stdin:
    command, _, rest = line.strip().partition(" ")
    if command == "evaluate":
        flag, _, context = rest.partition(" ")
        say({"value": client.variation(flag, Context.from_dict(json.loads(context)), "default")})
    elif command == "all":
        say({"all": client.all_flags_state(Context.from_dict(json.loads(rest))).to_values_map()})
    elif command == "close":
        break
client.close()
