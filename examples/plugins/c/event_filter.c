// An event filter in C: drops events of configured kinds and blanks one attribute of contexts.
//
// Configuration: { "drop_kinds": ["click"], "attribute": "email" }; `attribute` needs the grant `event-bodies`.
//
// The host passes strings and lists in memory from `cabi_realloc`, which the receiver frees; what a function returns is
// freed by the generated code after the call. `return false` with `*err` is the `err` of the interface's `result`.
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "plugin.h"

#define REDACTED "\"[redacted]\""

typedef exports_yardarm_plugin_lifecycle_plugin_error_t error;
typedef exports_yardarm_plugin_event_filter_list_edit_t edits;

static plugin_list_string_t drop_kinds;
static plugin_option_string_t attribute;

// A growing text. Memory that cannot be had ends the instance, as anywhere in a plugin.
typedef struct {
  uint8_t *ptr;
  size_t len;
  size_t capacity;
} buffer;

// An event on its way to the output: what lies before `copied` is there already.
typedef struct {
  const uint8_t *copied;
  buffer output;
  bool is_changed;
} copy;

static void append(buffer *buffer, const void *from, size_t length) {
  if (buffer->len + length > buffer->capacity) {
    buffer->capacity = (buffer->len + length) * 2;
    buffer->ptr = realloc(buffer->ptr, buffer->capacity);
    if (buffer->ptr == NULL) {
      abort();
    }
  }
  memcpy(buffer->ptr + buffer->len, from, length);
  buffer->len += length;
}

static span span_of(plugin_string_t text) {
  span span = {text.ptr, text.ptr + text.len};
  return span;
}

// Sets the error; always returns false.
static bool invalid(error *err, const char *text) {
  err->tag = YARDARM_PLUGIN_TYPES_PLUGIN_ERROR_INVALID_INPUT;
  plugin_string_dup(&err->val.invalid_input, text);
  return false;
}

static plugin_string_t decoded(span string) {
  plugin_string_t text = {malloc((size_t)(string.end - string.at)), 0};
  if (text.ptr == NULL) {
    abort();
  }
  text.len = decode(string, text.ptr);
  return text;
}

static bool read_kinds(span value, error *err) {
  const char *wrong = "`drop_kinds` must be a list of texts";
  if (!is_array(value)) {
    return invalid(err, wrong);
  }
  span kind;
  size_t count = 0;
  for (cursor kinds = inside(value); next_element(&kinds, &kind);) {
    count++;
  }
  plugin_list_string_free(&drop_kinds);
  drop_kinds.ptr = calloc(count, sizeof(plugin_string_t));
  drop_kinds.len = 0;
  for (cursor kinds = inside(value); next_element(&kinds, &kind);) {
    if (!is_string(kind)) {
      return invalid(err, wrong);
    }
    drop_kinds.ptr[drop_kinds.len++] = decoded(kind);
  }
  return true;
}

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, error *err) {
  span name, value, text = span_of(*config);
  if (!is_object(text)) {
    return invalid(err, "the configuration must be an object");
  }
  for (cursor members = inside(text); next_member(&members, &name, &value);) {
    if (has_text(name, text_of("drop_kinds"))) {
      if (!read_kinds(value, err)) {
        return false;
      }
    } else if (has_text(name, text_of("attribute"))) {
      if (!is_string(value)) {
        return invalid(err, "`attribute` must be a text");
      }
      attribute.is_some = true;
      attribute.val = decoded(value);
    } else {
      return invalid(err, "a setting is unknown; there are `drop_kinds` and `attribute`");
    }
  }
  plugin_string_free(config);
  return true;
}

static void redact_value(copy *copy, span value) {
  append(&copy->output, copy->copied, (size_t)(value.at - copy->copied));
  append(&copy->output, REDACTED, strlen(REDACTED));
  copy->copied = value.end;
  copy->is_changed = true;
}

// Redacts a context, or attributes inside `custom` of users of older SDKs; returns false if the text is invalid.
static bool redact_context(copy *copy, span context, bool has_custom) {
  span name, value;
  cursor members = inside(context);
  while (next_member(&members, &name, &value)) {
    if (has_text(name, span_of(attribute.val))) {
      redact_value(copy, value);
    } else if (has_custom && is_object(value) && has_text(name, text_of("custom"))) {
      if (!redact_context(copy, value, false)) {
        return false;
      }
    }
  }
  return !members.is_invalid;
}

// Returns whether an object has `"kind": "multi"`; of several, the last one counts.
static bool is_multi(span context) {
  bool found = false;
  span name, value;
  for (cursor members = inside(context); next_member(&members, &name, &value);) {
    if (has_text(name, text_of("kind"))) {
      found = is_string(value) && has_text(value, text_of("multi"));
    }
  }
  return found;
}

static bool redact_contexts(copy *copy, span context) {
  if (!is_multi(context)) {
    return redact_context(copy, context, true);
  }
  span name, value;
  cursor members = inside(context);
  while (next_member(&members, &name, &value)) {
    if (is_object(value) && !redact_context(copy, value, true)) {
      return false;
    }
  }
  return !members.is_invalid;
}

// Redacts the attribute in all contexts of an event; everything else stays byte for byte. Returns false if the text is
// invalid.
static bool redact_event(copy *copy, span body) {
  if (!is_object(body)) {
    return false;
  }
  copy->copied = body.at;
  span name, value;
  cursor members = inside(body);
  while (next_member(&members, &name, &value)) {
    if (!is_object(value)) {
      continue;
    }
    if (has_text(name, text_of("context"))) {
      if (!redact_contexts(copy, value)) {
        return false;
      }
    } else if (has_text(name, text_of("user")) && !redact_context(copy, value, true)) {
      return false;
    }
  }
  append(&copy->output, copy->copied, (size_t)(body.end - copy->copied));
  return !members.is_invalid;
}

static bool is_dropped(plugin_option_string_t kind) {
  for (size_t index = 0; kind.is_some && index < drop_kinds.len; index++) {
    plugin_string_t dropped = drop_kinds.ptr[index];
    if (dropped.len == kind.val.len && memcmp(dropped.ptr, kind.val.ptr, dropped.len) == 0) {
      return true;
    }
  }
  return false;
}

// Appends the edit of an event, if it has one; returns false with an error for an event that cannot be read.
static bool judge(yardarm_plugin_events_event_t *event, uint32_t index, edits *edits, error *err) {
  exports_yardarm_plugin_event_filter_edit_t *edit = &edits->ptr[edits->len];
  if (is_dropped(event->kind)) {
    edit->tag = EXPORTS_YARDARM_PLUGIN_EVENT_FILTER_EDIT_DROP;
    edit->val.drop = index;
    edits->len++;
    return true;
  }
  if (!attribute.is_some) {
    return true;
  }
  if (!event->body.is_some) {
    // A filter that cannot read an event must not let it pass.
    return invalid(err, "no event bodies: the plugin needs the grant `event-bodies`");
  }
  copy copy = {0};
  bool is_valid = redact_event(&copy, span_of(event->body.val));
  if (!is_valid || !copy.is_changed) {
    free(copy.output.ptr);
    return is_valid || invalid(err, "an event is not a JSON object");
  }
  plugin_list_u8_t *body = malloc(sizeof(plugin_list_u8_t));
  if (body == NULL) {
    abort();
  }
  body->ptr = copy.output.ptr;
  body->len = copy.output.len;
  edit->tag = EXPORTS_YARDARM_PLUGIN_EVENT_FILTER_EDIT_REPLACE;
  edit->val.replace.index = index;
  edit->val.replace.bodies.ptr = body;
  edit->val.replace.bodies.len = 1;
  edits->len++;
  return true;
}

// Writes a log line and a metric about events that are dropped.
static void report(uint64_t dropped) {
  if (dropped == 0) {
    return;
  }
  plugin_string_t name, line;
  plugin_list_tuple2_string_string_t labels = {NULL, 0};
  yardarm_plugin_metrics_metric_error_t refused;
  plugin_string_set(&name, "dropped_total");
  // No call should fail because of a metric.
  yardarm_plugin_metrics_counter_add(&name, dropped, &labels, &refused);
  if (yardarm_plugin_log_enabled(YARDARM_PLUGIN_LOG_LEVEL_DEBUG)) {
    plugin_string_set(&line, "events dropped");
    yardarm_plugin_log_log(YARDARM_PLUGIN_LOG_LEVEL_DEBUG, &line);
  }
}

bool exports_yardarm_plugin_event_filter_filter(exports_yardarm_plugin_event_filter_own_request_t request,
                                                exports_yardarm_plugin_event_filter_own_batch_t batch, edits *edits,
                                                error *err) {
  yardarm_plugin_events_list_event_t events;
  yardarm_plugin_events_method_batch_events(yardarm_plugin_events_borrow_batch(batch), &events);
  edits->ptr = calloc(events.len + 1, sizeof(exports_yardarm_plugin_event_filter_edit_t));
  edits->len = 0;
  if (edits->ptr == NULL) {
    abort();
  }
  bool is_fine = true;
  uint64_t dropped = 0;
  for (uint32_t index = 0; is_fine && index < events.len; index++) {
    is_fine = judge(&events.ptr[index], index, edits, err);
  }
  for (size_t index = 0; index < edits->len; index++) {
    dropped += edits->ptr[index].tag == EXPORTS_YARDARM_PLUGIN_EVENT_FILTER_EDIT_DROP;
  }
  if (!is_fine) {
    exports_yardarm_plugin_event_filter_list_edit_free(edits);
  } else if (edits->len == 0) {
    // The generated code frees a list only if there is something in it.
    free(edits->ptr);
  } else {
    report(dropped);
  }
  yardarm_plugin_events_list_event_free(&events);
  yardarm_plugin_events_batch_drop_own(batch);
  yardarm_plugin_request_request_drop_own(request);
  return is_fine;
}
