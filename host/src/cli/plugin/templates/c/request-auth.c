// Admits callers that present a token.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

// A JSON string in the configuration, which is never freed.
static span token;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  return find_setting(config, "token", &token, err);
}

static bool has_token(yardarm_plugin_request_borrow_request_t request) {
  plugin_string_t name;
  plugin_list_list_u8_t values;
  plugin_string_set(&name, "x-token");
  yardarm_plugin_request_method_request_header(request, &name, &values);
  bool is_there = false;
  for (size_t index = 0; index < values.len; index++) {
    plugin_list_u8_t value = values.ptr[index];
    span text = {value.ptr, value.ptr + value.len};
    is_there = is_there || has_text(token, text);
  }
  plugin_list_list_u8_free(&values);
  return is_there;
}

bool exports_yardarm_plugin_request_auth_authenticate(exports_yardarm_plugin_request_auth_own_request_t request,
                                                      exports_yardarm_plugin_request_auth_decision_t *decision,
                                                      exports_yardarm_plugin_request_auth_plugin_error_t *err) {
  (void)err;
  memset(decision, 0, sizeof *decision);
  if (has_token(yardarm_plugin_request_borrow_request(request))) {
    decision->tag = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DECISION_ALLOW;
    decision->val.allow.identity.is_some = true;
    plugin_string_dup(&decision->val.allow.identity.val.principal, "visitor");
  } else {
    decision->tag = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DECISION_DENY;
    decision->val.deny.class_ = EXPORTS_YARDARM_PLUGIN_REQUEST_AUTH_DENIAL_CLASS_FORBIDDEN;
  }
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
