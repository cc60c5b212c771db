// Harness' Go server SDK, unmodified, controlled like ../../node/harness-server.mjs: the same commands, the same facts,
// but no `requests`.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"time"
	"unsafe"

	"github.com/harness/ff-golang-server-sdk/cache"
	harness "github.com/harness/ff-golang-server-sdk/client"
	"github.com/harness/ff-golang-server-sdk/evaluation"
	"github.com/harness/ff-golang-server-sdk/logger"
	"github.com/harness/ff-golang-server-sdk/rest"
	"github.com/harness/ff-golang-server-sdk/stream"
	"github.com/harness/ff-golang-server-sdk/types"

	"yardarm/tests/sdks/go/lines"
)

const patience = 30 * time.Second

// telling reports the events that the SDK has processed.
type telling struct{}

func (telling) Pub(_ context.Context, event stream.Event) error {
	// A stream that ends is also reported here, without an event.
	if event.SSEEvent == nil {
		return nil
	}
	var message stream.Message
	if err := json.Unmarshal(event.SSEEvent.Data, &message); err != nil {
		return err
	}
	lines.Say(lines.Fact{"changed": message.Identifier})
	return nil
}

// gate blocks all requests of the default client until it opens.
type gate struct {
	opened chan struct{}
	inside http.RoundTripper
}

func (g gate) RoundTrip(request *http.Request) (*http.Response, error) {
	<-g.opened
	return g.inside.RoundTrip(request)
}

// impatient checks more often than every two seconds whether the SDK is ready.
type impatient struct{}

func (impatient) Sleep(time.Duration) { time.Sleep(10 * time.Millisecond) }

// postOften shortens the time between two posts of metrics, for which there is no option: the SDK posts every minute,
// and when it closes it loses what has not been posted.
func postOften(client *harness.CfClient) {
	service := reflect.ValueOf(client).Elem().FieldByName("analyticsService").Elem()
	interval := service.FieldByName("timeout")
	*(*time.Duration)(unsafe.Pointer(interval.UnsafeAddr())) = time.Second
}

func isReady(client *harness.CfClient) (bool, error) {
	for deadline := time.Now().Add(patience); ; {
		is, err := client.IsInitialized()
		if is || time.Now().After(deadline) {
			return is, err
		}
	}
}

func main() {
	base, key := os.Args[1], os.Args[2]
	// Otherwise it keeps flags in the home folder.
	os.Setenv("DISABLE_LOCAL_CACHE", "true")
	quiet := logger.NewNoOpLogger()
	flags, err := cache.NewLruCache(1000, quiet)
	if err != nil {
		panic(err)
	}
	// The interval of metrics begins when the SDK has authenticated, which it does with the default client.
	authentication := gate{make(chan struct{}), http.DefaultTransport}
	http.DefaultTransport = authentication
	client, err := harness.NewCfClient(key,
		harness.WithURL(base), harness.WithEventsURL(base), harness.WithLogger(quiet), harness.WithCache(flags),
		harness.WithEventStreamListener(telling{}), harness.WithSleeper(impatient{}))
	if err != nil {
		panic(err)
	}
	postOften(client)
	close(authentication.opened)
	if is, err := isReady(client); !is {
		lines.Say(lines.Fact{"ready": false, "error": err.Error()})
		os.Exit(1)
	}
	lines.Say(lines.Fact{"ready": true})

	// The SDK requires the caller to know the kind.
	evaluate := func(identifier string, target *evaluation.Target) (any, error) {
		flag, isKnown := flags.Get("flag/" + identifier)
		if !isKnown {
			return client.StringVariation(identifier, target, "default")
		}
		switch flag.(rest.FeatureConfig).Kind {
		case rest.FeatureConfigKindBoolean:
			return client.BoolVariation(identifier, target, false)
		case rest.FeatureConfigKindInt:
			return client.NumberVariation(identifier, target, 0)
		case rest.FeatureConfigKindJson:
			return client.JSONVariation(identifier, target, types.JSON{})
		default:
			return client.StringVariation(identifier, target, "default")
		}
	}
	lines.Obey(map[string]func(string) lines.Fact{
		"evaluate": func(rest string) lines.Fact {
			flag, target := lines.Parse[evaluation.Target](rest)
			value, err := evaluate(flag, &target)
			if err != nil {
				value = "default"
			}
			return lines.Fact{"value": value}
		},
		"flush": func(string) lines.Fact {
			// Metrics are posted every second.
			return lines.Fact{"done": "flush"}
		},
	})
	client.Close()
}
