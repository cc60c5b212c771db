// Posts which flags have changed: the environment and then one item per line.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

typedef exports_yardarm_plugin_change_listener_changes_t changes;

static plugin_string_t url;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  span value;
  if (!find_setting(config, "url", &value, err)) {
    return false;
  }
  url = decoded(value);
  plugin_string_free(config);
  return true;
}

static uint8_t *append(uint8_t *to, plugin_string_t text, char end) {
  memcpy(to, text.ptr, text.len);
  to[text.len] = (uint8_t)end;
  return to + text.len + 1;
}

static plugin_list_u8_t text_of_changes(const changes *changes) {
  size_t length = changes->environment.len + 1;
  for (size_t index = 0; index < changes->items.len; index++) {
    length += changes->items.ptr[index].kind.len + 1 + changes->items.ptr[index].key.len + 1;
  }
  plugin_list_u8_t text = {allocate(length), length};
  uint8_t *end = append(text.ptr, changes->environment, '\n');
  for (size_t index = 0; index < changes->items.len; index++) {
    end = append(end, changes->items.ptr[index].kind, ' ');
    end = append(end, changes->items.ptr[index].key, '\n');
  }
  return text;
}

// Posts a text; returns the status, or 0 if there is no response.
static uint16_t post(plugin_list_u8_t text) {
  yardarm_plugin_http_header_t header;
  yardarm_plugin_http_http_request_t request = {.url = url, .headers = {&header, 1}, .body = {true, text}};
  yardarm_plugin_http_http_response_t response;
  yardarm_plugin_http_http_error_t error;
  plugin_string_set(&header.name, "content-type");
  header.value.ptr = (uint8_t *)"text/plain";
  header.value.len = strlen("text/plain");
  plugin_string_set(&request.method, "POST");
  if (!yardarm_plugin_http_send(&request, &response, &error)) {
    yardarm_plugin_http_http_error_free(&error);
    return 0;
  }
  uint16_t status = response.status;
  yardarm_plugin_http_http_response_free(&response);
  return status;
}

bool exports_yardarm_plugin_change_listener_changed(changes *changes,
                                                    exports_yardarm_plugin_change_listener_plugin_error_t *err) {
  plugin_list_u8_t text = text_of_changes(changes);
  uint16_t status = post(text);
  free(text.ptr);
  exports_yardarm_plugin_change_listener_changes_free(changes);
  // After an error the gateway calls again, with later changes, after a pause.
  return (status >= 200 && status <= 299) || temporary(err, "the changes were not accepted");
}
