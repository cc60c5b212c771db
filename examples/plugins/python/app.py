"""An event filter in Python: drops events of configured kinds and blanks one attribute of contexts.

Configuration: { "drop_kinds": ["click"], "attribute": "email" }; `attribute` needs the grant `event-bodies`.

Raising `Err` with a `PluginError` is the `err` of the interface's `result`; any other exception ends the instance.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.event_filter import Edit_Drop, Edit_Replace, Replacement
from wit_world.imports import log, metrics
from wit_world.imports.log import Level
from wit_world.imports.types import PluginError_InvalidInput

REDACTED = "[redacted]"
drop_kinds = frozenset()
attribute = None


class Lifecycle(exports.Lifecycle):
    def init(self, config):
        global drop_kinds, attribute
        settings = json.loads(config)
        for name, value in settings.items():
            if name == "drop_kinds":
                if not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
                    raise invalid("`drop_kinds` must be a list of texts")
                drop_kinds = frozenset(value)
            elif name == "attribute":
                if not isinstance(value, str):
                    raise invalid("`attribute` must be a text")
                attribute = value
            else:
                raise invalid(f"`{name}` is unknown; there are `drop_kinds` and `attribute`")


class EventFilter(exports.EventFilter):
    def filter(self, request, events):
        # The resources of a call must be dropped before the next one: garbage may be collected at any time.
        with request, events:
            edits = [edit for index, event in enumerate(events.events()) if (edit := judge(index, event))]
            dropped = sum(isinstance(edit, Edit_Drop) for edit in edits)
            if dropped:
                metrics.counter_add("dropped_total", dropped, [])
                if log.enabled(Level.DEBUG):
                    log.log(Level.DEBUG, f"{dropped} events dropped in {request.environment()}")
            return edits


def judge(index, event):
    """Returns the edit of the event at an index; `None` if it is forwarded as received."""
    if event.kind in drop_kinds:
        return Edit_Drop(index)
    if attribute is None:
        return None
    if event.body is None:
        # A filter that cannot read an event must not let it pass.
        raise invalid("no event bodies: the plugin needs the grant `event-bodies`")
    try:
        body = json.loads(event.body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"the event at {index} cannot be read: {error}") from error
    if not redact(body):
        return None
    return Edit_Replace(Replacement(index, [json.dumps(body, separators=(",", ":")).encode()]))


def redact(body):
    """Blanks the attribute in all contexts of an event; returns whether there was one."""
    changed = False
    for context in contexts(body):
        for attributes in (context, context.get("custom")):
            if isinstance(attributes, dict) and attribute in attributes:
                attributes[attribute] = REDACTED
                changed = True
    return changed


def contexts(body):
    """Returns the context, or those inside a context of kind `multi`, and the `user` of older SDKs."""
    context, user = body.get("context"), body.get("user")
    is_multi = isinstance(context, dict) and context.get("kind") == "multi"
    found = [*context.values(), user] if is_multi else [context, user]
    return [it for it in found if isinstance(it, dict)]


def invalid(text):
    return Err(PluginError_InvalidInput(text))
