// LaunchDarkly's Go server SDK, unmodified, controlled like ../../node/server.mjs: the same commands, the same facts.
// It supports `streaming` and `standard` for FDv2, without a fallback to FDv1.
package main

import (
	"os"
	"time"

	"github.com/launchdarkly/go-sdk-common/v3/ldcontext"
	"github.com/launchdarkly/go-sdk-common/v3/ldvalue"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"

	"yardarm/tests/sdks/go/lines"
)

func main() {
	base, key := os.Args[1], os.Args[2]
	config := ld.Config{
		ServiceEndpoints: ldcomponents.RelayProxyEndpoints(base),
		Events:           ldcomponents.SendEvents().FlushInterval(time.Second),
		Logging:          ldcomponents.NoLogging(),
	}
	if len(os.Args) > 3 {
		ways := ldcomponents.DataSystem().WithRelayProxyEndpoints(base)
		way := map[string]func() *ldcomponents.DataSystemConfigurationBuilder{
			"streaming": ways.Streaming, "standard": ways.Default,
		}
		config.DataSystem = way[os.Args[3]]().FDv1CompatibleSynchronizer(nil)
	}
	client, err := ld.MakeCustomClient(key, config, 30*time.Second)
	if err != nil {
		lines.Say(lines.Fact{"ready": false, "error": err.Error()})
		os.Exit(1)
	}
	changes := client.GetFlagTracker().AddFlagChangeListener()
	go func() {
		for change := range changes {
			lines.Say(lines.Fact{"changed": change.Key})
		}
	}()
	lines.Say(lines.Fact{"ready": true})

	lines.Obey(map[string]func(string) lines.Fact{
		"evaluate": func(rest string) lines.Fact {
			flag, context := lines.Parse[ldcontext.Context](rest)
			// The error explains why the result is the default.
			value, _ := client.JSONVariation(flag, context, ldvalue.String("default"))
			return lines.Fact{"value": value}
		},
		"all": func(rest string) lines.Fact {
			return lines.Fact{"all": client.AllFlagsState(lines.Object[ldcontext.Context](rest)).ToValuesMap()}
		},
		"track": func(rest string) lines.Fact {
			event, context := lines.Parse[ldcontext.Context](rest)
			if err := client.TrackEvent(event, context); err != nil {
				panic(err)
			}
			return lines.Fact{"done": "track"}
		},
		"flush": func(string) lines.Fact {
			client.Flush()
			return lines.Fact{"done": "flush"}
		},
	})
	client.Close()
}
