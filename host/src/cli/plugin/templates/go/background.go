// Package export_yardarm_plugin_background downloads a list of tokens: one token per line.
package export_yardarm_plugin_background

import (
	"fmt"
	"strings"

	background "{{name}}/bindings/yardarm_plugin_background"
	http "{{name}}/bindings/yardarm_plugin_http"
	types "{{name}}/bindings/yardarm_plugin_types"
	"{{name}}/config"
	"{{name}}/memory"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

type published = wit.Option[[]background.Value]

// Refresh returns what is published: the tokens, as keys.
func Refresh() wit.Result[published, types.PluginError] {
	defer memory.Collect()
	response := http.Send(http.HttpRequest{
		Method:    "GET",
		Url:       config.Settings.Url,
		Body:      wit.None[[]uint8](),
		TimeoutMs: wit.None[uint32](),
	})
	if response.IsErr() {
		return temporary(fmt.Sprintf("error %d", response.Err().Tag()))
	}
	if status := response.Ok().Status; status != 200 {
		return temporary(fmt.Sprintf("status %d", status))
	}
	values := []background.Value{}
	isThere := map[string]bool{"": true}
	for token := range strings.SplitSeq(string(response.Ok().Body), "\n") {
		if !isThere[token] {
			isThere[token] = true
			values = append(values, background.Value{Key: token})
		}
	}
	return wit.Ok[published, types.PluginError](wit.Some(values))
}

// Returns an error. What was published stays, and the gateway calls again soon.
func temporary(reason string) wit.Result[published, types.PluginError] {
	return wit.Err[published](types.MakePluginErrorTemporary("the list cannot be downloaded: " + reason))
}
