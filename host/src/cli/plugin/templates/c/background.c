// Admits callers that present a token of a list, which is downloaded now and then: one token per line.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

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

// Makes a value of each line, with the line as its key. A token that is there twice is refused by the host, and what was
// published before stays.
static void read_lines(plugin_list_u8_t list, exports_yardarm_plugin_background_list_value_t *values) {
  size_t lines = 1;
  for (size_t index = 0; index < list.len; index++) {
    lines += list.ptr[index] == '\n';
  }
  values->ptr = allocate(lines * sizeof *values->ptr);
  values->len = 0;
  for (size_t from = 0, at = 0; at <= list.len; at++) {
    if (at < list.len && list.ptr[at] != '\n') {
      continue;
    }
    if (at > from) {
      exports_yardarm_plugin_background_value_t *value = &values->ptr[values->len++];
      value->key.len = at - from;
      value->key.ptr = allocate(value->key.len);
      memcpy(value->key.ptr, list.ptr + from, value->key.len);
      value->value.ptr = NULL;
      value->value.len = 0;
    }
    from = at + 1;
  }
  if (values->len == 0) {
    // The generated code frees a list only if there is something in it.
    free(values->ptr);
  }
}

bool exports_yardarm_plugin_background_refresh(exports_yardarm_plugin_background_option_list_value_t *published,
                                               exports_yardarm_plugin_background_plugin_error_t *err) {
  yardarm_plugin_http_http_request_t request = {.url = url};
  yardarm_plugin_http_http_response_t response;
  yardarm_plugin_http_http_error_t error;
  plugin_string_set(&request.method, "GET");
  if (!yardarm_plugin_http_send(&request, &response, &error)) {
    yardarm_plugin_http_http_error_free(&error);
    return temporary(err, "the list cannot be downloaded");
  }
  bool is_fine = response.status == 200;
  if (is_fine) {
    published->is_some = true;
    read_lines(response.body, &published->val);
  }
  yardarm_plugin_http_http_response_free(&response);
  return is_fine || temporary(err, "the list cannot be downloaded: the status is not 200");
}

static bool has_token(yardarm_plugin_request_borrow_request_t request) {
  plugin_string_t name;
  plugin_list_list_u8_t values;
  plugin_string_set(&name, "x-token");
  yardarm_plugin_request_method_request_header(request, &name, &values);
  bool is_there = false;
  for (size_t index = 0; index < values.len && !is_there; index++) {
    plugin_string_t token = {values.ptr[index].ptr, values.ptr[index].len};
    plugin_list_u8_t published;
    is_there = yardarm_plugin_shared_get(&token, &published);
    if (is_there) {
      plugin_list_u8_free(&published);
    }
  }
  plugin_list_list_u8_free(&values);
  return is_there;
}

bool exports_yardarm_plugin_request_auth_authenticate(exports_yardarm_plugin_request_auth_own_request_t request,
                                                      exports_yardarm_plugin_request_auth_decision_t *decision,
                                                      exports_yardarm_plugin_request_auth_plugin_error_t *err) {
  (void)err;
  memset(decision, 0, sizeof *decision);
  decision->tag = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DECISION_DENY;
  if (yardarm_plugin_shared_version() == 0) {
    // There was no list yet. SDKs come back, which they would not do if they were denied as forbidden.
    decision->val.deny.class_ = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DENIAL_CLASS_UNAVAILABLE;
  } else if (has_token(yardarm_plugin_request_borrow_request(request))) {
    decision->tag = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DECISION_ALLOW;
    decision->val.allow.identity.is_some = true;
    plugin_string_dup(&decision->val.allow.identity.val.principal, "visitor");
  } else {
    decision->val.deny.class_ = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DENIAL_CLASS_FORBIDDEN;
  }
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
