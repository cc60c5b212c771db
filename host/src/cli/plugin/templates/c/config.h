// The configuration, and what else has to do with texts.
#ifndef CONFIG_H
#define CONFIG_H

#include "json.h"
#include "plugin.h"

// Finds the value of a setting, a part of the configuration. Returns false with an error if it is not there.
bool find_setting(const plugin_string_t *config, const char *name, span *value,
                  yardarm_plugin_types_plugin_error_t *err);

// Sets the error; always returns false.
bool temporary(yardarm_plugin_types_plugin_error_t *err, const char *text);

// Returns the span of a text of the host.
span span_of(plugin_string_t text);

// Returns the text of a JSON string.
plugin_string_t decoded(span string);

// Returns whether a text begins with another one.
bool begins_with(plugin_string_t text, plugin_string_t prefix);

// Returns memory, also for nothing. If there is no more, the instance ends.
void *allocate(size_t size);

#endif
