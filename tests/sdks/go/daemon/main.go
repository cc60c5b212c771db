// LaunchDarkly's Go server SDK in daemon mode, unmodified: it reads a database and nothing else. Arguments: address of the
// database, prefix, `redis`, `consul` or `dynamodb`, and for the last one the table. Commands and facts are those of ../server.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/launchdarkly/go-sdk-common/v3/ldcontext"
	"github.com/launchdarkly/go-sdk-common/v3/ldvalue"
	ldconsul "github.com/launchdarkly/go-server-sdk-consul/v3"
	lddynamodb "github.com/launchdarkly/go-server-sdk-dynamodb/v4"
	ldredis "github.com/launchdarkly/go-server-sdk-redis-redigo/v3"
	ld "github.com/launchdarkly/go-server-sdk/v7"
	"github.com/launchdarkly/go-server-sdk/v7/ldcomponents"
	"github.com/launchdarkly/go-server-sdk/v7/subsystems"

	"yardarm/tests/sdks/go/lines"
)

func stores(arguments []string) (
	subsystems.ComponentConfigurer[subsystems.PersistentDataStore],
	subsystems.ComponentConfigurer[subsystems.BigSegmentStore],
) {
	address, prefix := arguments[0], arguments[1]
	switch arguments[2] {
	case "redis":
		return ldredis.DataStore().URL(address).Prefix(prefix), ldredis.BigSegmentStore().URL(address).Prefix(prefix)
	case "consul":
		return ldconsul.DataStore().Address(address).Prefix(prefix), nil
	default:
		// Credentials and region are those of the variables.
		shared, err := config.LoadDefaultConfig(context.Background())
		if err != nil {
			panic(err)
		}
		client := dynamodb.NewFromConfig(shared, func(options *dynamodb.Options) {
			options.EndpointResolver = dynamodb.EndpointResolverFromURL(address)
		})
		table := arguments[3]
		return lddynamodb.DataStore(table).Prefix(prefix).DynamoClient(client),
			lddynamodb.BigSegmentStore(table).Prefix(prefix).DynamoClient(client)
	}
}

func main() {
	data, members := stores(os.Args[1:])
	config := ld.Config{
		DataSource: ldcomponents.ExternalUpdatesOnly(),
		DataStore:  ldcomponents.PersistentDataStore(data).NoCaching(),
		Events:     ldcomponents.NoEvents(),
		Logging:    ldcomponents.NoLogging(),
	}
	if members != nil {
		config.BigSegments = ldcomponents.BigSegments(members).ContextCacheTime(time.Millisecond)
	}
	client, err := ld.MakeCustomClient("sdk-unused", config, 30*time.Second)
	if err != nil {
		lines.Say(lines.Fact{"ready": false, "error": err.Error()})
		os.Exit(1)
	}
	lines.Say(lines.Fact{"ready": client.Initialized()})

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
	})
	client.Close()
}
