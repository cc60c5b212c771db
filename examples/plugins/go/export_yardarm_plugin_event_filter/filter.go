// Package export_yardarm_plugin_event_filter implements the interface `event-filter`.
package export_yardarm_plugin_event_filter

import (
	"fmt"

	generated "event-filter/bindings/yardarm_plugin_event_filter"
	events "event-filter/bindings/yardarm_plugin_events"
	log "event-filter/bindings/yardarm_plugin_log"
	metrics "event-filter/bindings/yardarm_plugin_metrics"
	request "event-filter/bindings/yardarm_plugin_request"
	types "event-filter/bindings/yardarm_plugin_types"
	"event-filter/filter"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Filter returns the edits of a batch.
func Filter(request *request.Request, batch *events.Batch) wit.Result[[]generated.Edit, types.PluginError] {
	defer request.Drop()
	defer batch.Drop()
	edits := []generated.Edit{}
	dropped := uint64(0)
	for index, event := range batch.Events() {
		filter.CollectGarbage()
		verdict, body, err := filter.Judge(event.Kind.SomeOr(""), event.Kind.IsSome(), event.Body.SomeOr(""))
		switch {
		case err != nil:
			return wit.Err[[]generated.Edit](types.MakePluginErrorInvalidInput(err.Error()))
		case verdict == filter.Drop:
			dropped++
			edits = append(edits, generated.MakeEditDrop(uint32(index)))
		case verdict == filter.Replace:
			replacement := generated.Replacement{Index: uint32(index), Bodies: [][]byte{body}}
			edits = append(edits, generated.MakeEditReplace(replacement))
		}
	}
	if dropped > 0 {
		// No call should fail because of a metric, so the result is not looked at.
		metrics.CounterAdd("dropped_total", dropped, nil)
		if log.Enabled(log.LevelDebug) {
			log.Log(log.LevelDebug, fmt.Sprintf("%d events dropped in %s", dropped, request.Environment()))
		}
	}
	return wit.Ok[[]generated.Edit, types.PluginError](edits)
}
