// Package export_yardarm_plugin_change_listener posts which flags have changed.
package export_yardarm_plugin_change_listener

import (
	"fmt"
	"strings"

	listener "{{name}}/bindings/yardarm_plugin_change_listener"
	http "{{name}}/bindings/yardarm_plugin_http"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

var contentType = types.Header{Name: "content-type", Value: []byte("text/plain")}

// Changed posts the environment and then one item per line.
func Changed(changes listener.Changes) wit.Result[wit.Unit, types.PluginError] {
	defer memory.Collect()
	var text strings.Builder
	fmt.Fprintln(&text, changes.Environment)
	for _, item := range changes.Items {
		fmt.Fprintln(&text, item.Kind, item.Key)
	}
	response := http.Send(http.HttpRequest{
		Method:    "POST",
		Url:       config.Settings.Url,
		Headers:   []types.Header{contentType},
		Body:      wit.Some([]byte(text.String())),
		TimeoutMs: wit.None[uint32](),
	})
	if response.IsErr() {
		return temporary(fmt.Sprintf("error %d", response.Err().Tag()))
	}
	if status := response.Ok().Status; status < 200 || status > 299 {
		return temporary(fmt.Sprintf("status %d", status))
	}
	return wit.Ok[wit.Unit, types.PluginError](wit.Unit{})
}

// Returns an error. The gateway calls again, with later changes, after a pause.
func temporary(reason string) wit.Result[wit.Unit, types.PluginError] {
	return wit.Err[wit.Unit](types.MakePluginErrorTemporary("not posted: " + reason))
}
