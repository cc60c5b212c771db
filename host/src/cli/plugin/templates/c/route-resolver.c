// Chooses the environment of the tenant that a proxy names.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

static plugin_string_t prefix;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  span value;
  if (!find_setting(config, "prefix", &value, err)) {
    return false;
  }
  prefix = decoded(value);
  plugin_string_free(config);
  return true;
}

bool exports_yardarm_plugin_route_resolver_resolve(exports_yardarm_plugin_route_resolver_own_request_t request,
                                                   plugin_option_string_t *environment,
                                                   exports_yardarm_plugin_route_resolver_plugin_error_t *err) {
  (void)err;
  plugin_string_t name;
  plugin_list_list_u8_t values;
  plugin_string_set(&name, "x-tenant");
  yardarm_plugin_request_method_request_header(yardarm_plugin_request_borrow_request(request), &name, &values);
  environment->is_some = values.len > 0;
  if (environment->is_some) {
    environment->val.len = prefix.len + values.ptr[0].len;
    environment->val.ptr = allocate(environment->val.len);
    memcpy(environment->val.ptr, prefix.ptr, prefix.len);
    memcpy(environment->val.ptr + prefix.len, values.ptr[0].ptr, values.ptr[0].len);
  }
  plugin_list_list_u8_free(&values);
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
