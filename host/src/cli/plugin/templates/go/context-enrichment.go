// Package export_yardarm_plugin_context_enrichment tells flags the country that a proxy has found.
package export_yardarm_plugin_context_enrichment

import (
	"encoding/json"
	"slices"

	context "{{name}}/bindings/yardarm_plugin_context"
	enrichment "{{name}}/bindings/yardarm_plugin_context_enrichment"
	request "{{name}}/bindings/yardarm_plugin_request"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Enrich returns the attributes that are set.
func Enrich(request *request.Request, context *context.Context) wit.Result[[]enrichment.Attribute, types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	defer context.Drop()
	var attributes []enrichment.Attribute
	kind := config.Settings.Kind
	countries := request.Header("x-country")
	if len(countries) > 0 && slices.Contains(context.Kinds(), kind) {
		value, err := json.Marshal(string(countries[0]))
		if err != nil {
			return wit.Err[[]enrichment.Attribute](types.MakePluginErrorInternal(err.Error()))
		}
		attributes = append(attributes, enrichment.Attribute{Kind: kind, Name: "country", Value: value})
	}
	return wit.Ok[[]enrichment.Attribute, types.PluginError](attributes)
}
