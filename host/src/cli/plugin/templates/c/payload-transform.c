// Hides flags whose keys begin with a prefix from all SDKs.
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

static bool is_hidden(const yardarm_plugin_items_head_t *item) {
  return item->kind.len == 4 && memcmp(item->kind.ptr, "flag", 4) == 0 && !item->deleted &&
         begins_with(item->key, prefix);
}

bool exports_yardarm_plugin_payload_transform_transform(
    exports_yardarm_plugin_payload_transform_own_item_set_t items,
    exports_yardarm_plugin_payload_transform_list_edit_t *edits,
    exports_yardarm_plugin_payload_transform_plugin_error_t *err) {
  (void)err;
  yardarm_plugin_items_list_head_t changed;
  yardarm_plugin_items_method_item_set_changed(yardarm_plugin_items_borrow_item_set(items), &changed);
  edits->ptr = allocate(changed.len * sizeof *edits->ptr);
  edits->len = 0;
  for (uint32_t index = 0; index < changed.len; index++) {
    if (is_hidden(&changed.ptr[index])) {
      edits->ptr[edits->len].tag = EXPORTS_YARDARM_PLUGIN_PAYLOAD_TRANSFORM_EDIT_DROP;
      edits->ptr[edits->len++].val.drop = index;
    }
  }
  if (edits->len == 0) {
    // The generated code frees a list only if there is something in it.
    free(edits->ptr);
  }
  yardarm_plugin_items_list_head_free(&changed);
  yardarm_plugin_items_item_set_drop_own(items);
  return true;
}
