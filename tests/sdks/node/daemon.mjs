// The vendor's Node server SDK in daemon mode, unmodified, controlled like server.mjs beside it: the same commands `evaluate`,
// `all` and `close`. It reads Redis and nothing else. Arguments: address of the database, prefix, `redis`.
import { createInterface } from 'node:readline';
import * as ld from '@launchdarkly/node-server-sdk';
import { RedisBigSegmentStore, RedisFeatureStore } from '@launchdarkly/node-server-sdk-redis';

const [address, prefix] = process.argv.slice(2);
const say = (fact) => process.stdout.write(JSON.stringify(fact) + '\n');
const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const { hostname: host, port } = new URL(address);
const options = { redisOpts: { host, port: Number(port) }, prefix, cacheTTL: 0 };

const client = ld.init('sdk-unused', {
  featureStore: RedisFeatureStore(options),
  bigSegments: { store: RedisBigSegmentStore(options), contextCacheTime: 0.001 },
  useLdd: true,
  sendEvents: false,
  logger: quiet,
});
await client.waitForInitialization({ timeout: 30 });
say({ ready: true });

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...rest] = line.split(' ');
  const context = (from) => JSON.parse(rest.slice(from).join(' '));
  if (command === 'evaluate') say({ value: await client.variation(rest[0], context(1), 'default') });
  else if (command === 'all') say({ all: (await client.allFlagsState(context(0))).allValues() });
  else if (command === 'close') break;
}
client.close();
process.exit(0);
