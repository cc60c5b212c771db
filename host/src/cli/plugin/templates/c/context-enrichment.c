// Tells flags the country that a proxy has found.
//
// The host passes strings and lists in memory that this plugin frees; what it returns is freed by the generated code after
// the call. `return false` with `*err` is the `err` of the interface.
#include <stdlib.h>
#include <string.h>

#include "config.h"

static plugin_string_t kind;

bool exports_yardarm_plugin_lifecycle_init(plugin_string_t *config, exports_yardarm_plugin_lifecycle_plugin_error_t *err) {
  span value;
  if (!find_setting(config, "kind", &value, err)) {
    return false;
  }
  kind = decoded(value);
  plugin_string_free(config);
  return true;
}

static bool has_kind(yardarm_plugin_context_borrow_context_t context) {
  plugin_list_string_t kinds;
  yardarm_plugin_context_method_context_kinds(context, &kinds);
  bool is_there = false;
  for (size_t index = 0; index < kinds.len; index++) {
    is_there = is_there || (kinds.ptr[index].len == kind.len && begins_with(kinds.ptr[index], kind));
  }
  plugin_list_string_free(&kinds);
  return is_there;
}

static bool is_country(plugin_list_u8_t value) {
  return value.len == 2 && value.ptr[0] >= 'A' && value.ptr[0] <= 'Z' && value.ptr[1] >= 'A' && value.ptr[1] <= 'Z';
}

static plugin_string_t copy(const void *text, size_t length) {
  plugin_string_t copy = {allocate(length), length};
  memcpy(copy.ptr, text, length);
  return copy;
}

static void set_country(exports_yardarm_plugin_context_enrichment_attribute_t *attribute, plugin_list_u8_t country) {
  attribute->kind = copy(kind.ptr, kind.len);
  plugin_string_dup(&attribute->name, "country");
  // The value is JSON; a country needs no escapes.
  attribute->value.ptr = allocate(4);
  attribute->value.len = 4;
  memcpy(attribute->value.ptr, "\"  \"", 4);
  memcpy(attribute->value.ptr + 1, country.ptr, 2);
}

bool exports_yardarm_plugin_context_enrichment_enrich(
    exports_yardarm_plugin_context_enrichment_own_request_t request,
    exports_yardarm_plugin_context_enrichment_own_context_t context,
    exports_yardarm_plugin_context_enrichment_list_attribute_t *attributes,
    exports_yardarm_plugin_context_enrichment_plugin_error_t *err) {
  (void)err;
  plugin_string_t name;
  plugin_list_list_u8_t values;
  plugin_string_set(&name, "x-country");
  yardarm_plugin_request_method_request_header(yardarm_plugin_request_borrow_request(request), &name, &values);
  attributes->len = 0;
  if (values.len > 0 && is_country(values.ptr[0]) && has_kind(yardarm_plugin_context_borrow_context(context))) {
    attributes->ptr = allocate(sizeof *attributes->ptr);
    attributes->len = 1;
    set_country(attributes->ptr, values.ptr[0]);
  }
  plugin_list_list_u8_free(&values);
  yardarm_plugin_context_context_drop_own(context);
  yardarm_plugin_request_request_drop_own(request);
  return true;
}
