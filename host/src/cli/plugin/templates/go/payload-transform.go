// Package export_yardarm_plugin_payload_transform hides flags whose keys begin with a prefix from all SDKs.
package export_yardarm_plugin_payload_transform

import (
	"strings"

	items "{{name}}/bindings/yardarm_plugin_items"
	payload "{{name}}/bindings/yardarm_plugin_payload_transform"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Transform returns the edits of flag data.
func Transform(items *items.ItemSet) wit.Result[[]payload.Edit, types.PluginError] {
	defer memory.Collect()
	defer items.Drop()
	var edits []payload.Edit
	for index, item := range items.Changed() {
		if item.Kind == "flag" && !item.Deleted && strings.HasPrefix(item.Key, config.Settings.HidePrefix) {
			edits = append(edits, payload.MakeEditDrop(uint32(index)))
		}
	}
	return wit.Ok[[]payload.Edit, types.PluginError](edits)
}
