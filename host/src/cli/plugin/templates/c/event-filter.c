// Drops events of some kinds.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

// A JSON array in the configuration, which is never freed.
static span drop_kinds;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  return find_setting(config, "drop_kinds", &drop_kinds, err);
}

static bool is_dropped(plugin_option_string_t kind) {
  span dropped;
  for (cursor kinds = inside(drop_kinds); kind.is_some && next_element(&kinds, &dropped);) {
    if (has_text(dropped, span_of(kind.val))) {
      return true;
    }
  }
  return false;
}

bool exports_yardarm_plugin_event_filter_filter(exports_yardarm_plugin_event_filter_own_request_t request,
                                                exports_yardarm_plugin_event_filter_own_batch_t events,
                                                exports_yardarm_plugin_event_filter_list_edit_t *edits,
                                                exports_yardarm_plugin_event_filter_plugin_error_t *err) {
  (void)err;
  plugin_list_option_string_t kinds;
  yardarm_plugin_events_method_batch_kinds(yardarm_plugin_events_borrow_batch(events), &kinds);
  edits->ptr = allocate(kinds.len * sizeof *edits->ptr);
  edits->len = 0;
  for (uint32_t index = 0; index < kinds.len; index++) {
    if (is_dropped(kinds.ptr[index])) {
      edits->ptr[edits->len].tag = EXPORTS_YARDARM_PLUGIN_EVENT_FILTER_EDIT_DROP;
      edits->ptr[edits->len++].val.drop = index;
    }
  }
  if (edits->len == 0) {
    // The generated code frees a list only if there is something in it.
    free(edits->ptr);
  }
  plugin_list_option_string_free(&kinds);
  yardarm_plugin_events_batch_drop_own(events);
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
