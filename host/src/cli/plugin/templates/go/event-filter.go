// Package export_yardarm_plugin_event_filter drops events of some kinds.
package export_yardarm_plugin_event_filter

import (
	"slices"

	filter "{{name}}/bindings/yardarm_plugin_event_filter"
	events "{{name}}/bindings/yardarm_plugin_events"
	request "{{name}}/bindings/yardarm_plugin_request"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Filter returns the edits of a batch.
func Filter(request *request.Request, batch *events.Batch) wit.Result[[]filter.Edit, types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	defer batch.Drop()
	var edits []filter.Edit
	for index, kind := range batch.Kinds() {
		if kind.IsSome() && slices.Contains(config.Settings.DropKinds, kind.Some()) {
			edits = append(edits, filter.MakeEditDrop(uint32(index)))
		}
	}
	return wit.Ok[[]filter.Edit, types.PluginError](edits)
}
