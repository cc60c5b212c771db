// Package export_yardarm_plugin_evaluation_transform hides results of flags whose keys begin with a prefix from SDKs that do
// not evaluate themselves.
package export_yardarm_plugin_evaluation_transform

import (
	"strings"

	context "{{name}}/bindings/yardarm_plugin_context"
	evaluation "{{name}}/bindings/yardarm_plugin_evaluation_transform"
	request "{{name}}/bindings/yardarm_plugin_request"
	results "{{name}}/bindings/yardarm_plugin_results"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Transform returns the edits of results.
func Transform(
	request *request.Request, context *context.Context, evaluated *results.ResultSet,
) wit.Result[[]evaluation.Edit, types.PluginError] {
	defer memory.Collect()
	defer request.Drop()
	defer context.Drop()
	defer evaluated.Drop()
	var edits []evaluation.Edit
	for index, flag := range evaluated.Flags() {
		if strings.HasPrefix(flag, config.Settings.HidePrefix) {
			edits = append(edits, evaluation.MakeEditDrop(uint32(index)))
		}
	}
	return wit.Ok[[]evaluation.Edit, types.PluginError](edits)
}
