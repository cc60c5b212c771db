// Hides results of flags whose keys begin with a prefix from SDKs that do not evaluate themselves.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

static plugin_string_t prefix;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  span value;
  if (!find_setting(config, "hide_prefix", &value, err)) {
    return false;
  }
  prefix = decoded(value);
  plugin_string_free(config);
  return true;
}

bool exports_yardarm_plugin_evaluation_transform_transform(
    exports_yardarm_plugin_evaluation_transform_own_request_t request,
    exports_yardarm_plugin_evaluation_transform_own_context_t context,
    exports_yardarm_plugin_evaluation_transform_own_result_set_t evaluated,
    exports_yardarm_plugin_evaluation_transform_list_edit_t *edits,
    exports_yardarm_plugin_evaluation_transform_plugin_error_t *err) {
  (void)err;
  plugin_list_string_t flags;
  yardarm_plugin_results_method_result_set_flags(yardarm_plugin_results_borrow_result_set(evaluated), &flags);
  edits->ptr = allocate(flags.len * sizeof *edits->ptr);
  edits->len = 0;
  for (uint32_t index = 0; index < flags.len; index++) {
    if (begins_with(flags.ptr[index], prefix)) {
      edits->ptr[edits->len].tag = EXPORTS_YARDARM_PLUGIN_EVALUATION_TRANSFORM_EDIT_DROP;
      edits->ptr[edits->len++].val.drop = index;
    }
  }
  if (edits->len == 0) {
    // The generated code frees a list only if there is something in it.
    free(edits->ptr);
  }
  plugin_list_string_free(&flags);
  yardarm_plugin_results_result_set_drop_own(evaluated);
  yardarm_plugin_context_context_drop_own(context);
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
