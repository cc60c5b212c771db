#include "config.h"

#include <stdlib.h>
#include <string.h>

bool find_setting(const plugin_string_t *config, const char *name, span *value,
                  yardarm_plugin_types_plugin_error_t *err) {
  span key, text = span_of(*config);
  if (is_object(text)) {
    for (cursor members = inside(text); next_member(&members, &key, value);) {
      if (has_text(key, text_of(name))) {
        return true;
      }
    }
  }
  err->tag = YARDARM_PLUGIN_TYPES_PLUGIN_ERROR_INVALID_INPUT;
  plugin_string_dup(&err->val.invalid_input, "a setting is missing");
  return false;
}

bool temporary(yardarm_plugin_types_plugin_error_t *err, const char *text) {
  err->tag = YARDARM_PLUGIN_TYPES_PLUGIN_ERROR_TEMPORARY;
  plugin_string_dup(&err->val.temporary, text);
  return false;
}

span span_of(plugin_string_t text) {
  span span = {text.ptr, text.ptr + text.len};
  return span;
}

plugin_string_t decoded(span string) {
  plugin_string_t text = {allocate((size_t)(string.end - string.at)), 0};
  text.len = decode(string, text.ptr);
  return text;
}

bool begins_with(plugin_string_t text, plugin_string_t prefix) {
  return text.len >= prefix.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0;
}

void *allocate(size_t size) {
  void *memory = malloc(size + 1);
  if (memory == NULL) {
    abort();
  }
  return memory;
}
