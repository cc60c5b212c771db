// The vendor's Node server SDK, unmodified, controlled by lines of text: commands on standard input, facts on standard output.
//
// Arguments: base URL, SDK key, and optionally `streaming` or `polling` for FDv2 by that means only, without a fallback to
// FDv1. Commands: `evaluate FLAG CONTEXT-JSON`, `all CONTEXT-JSON`, `state CONTEXT-JSON`, `hash CONTEXT-JSON`,
// `track EVENT CONTEXT-JSON`, `flush`, `close`. Facts, one JSON object per line: {"ready":true},
// {"changed":FLAG}, {"value":…}, {"all":…}, {"state":…} with reasons, {"hash":…} for secure mode, {"done":…}.
import { createInterface } from 'node:readline';
import * as ld from '@launchdarkly/node-server-sdk';

const [base, key, dataSource] = process.argv.slice(2);
const say = (fact) => process.stdout.write(JSON.stringify(fact) + '\n');
const quiet = { error() {}, warn() {}, info() {}, debug() {} };

const ways = {
  streaming: { dataSourceOptionsType: 'streamingOnly', streamInitialReconnectDelay: 1 },
  polling: { dataSourceOptionsType: 'pollingOnly', pollInterval: 1 },
  standard: { dataSourceOptionsType: 'standard' },
};

const client = ld.init(key, {
  ...(dataSource ? { dataSystem: { dataSource: ways[dataSource], fdv1Fallback: null } } : {}),
  baseUri: base,
  streamUri: base,
  eventsUri: base,
  logger: quiet,
  diagnosticRecordingInterval: 900,
  flushInterval: 1,
});
client.on('update', ({ key }) => say({ changed: key }));
client.waitForInitialization({ timeout: 30 }).then(
  () => say({ ready: true }),
  (error) => say({ ready: false, error: String(error) }),
);

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...rest] = line.split(' ');
  const context = () => JSON.parse(rest.slice(['all', 'state', 'hash'].includes(command) ? 0 : 1).join(' '));
  if (command === 'evaluate') say({ value: await client.variation(rest[0], context(), 'default') });
  else if (command === 'all') say({ all: (await client.allFlagsState(context())).allValues() });
  else if (command === 'state') say({ state: await client.allFlagsState(context(), { withReasons: true }) });
  else if (command === 'hash') say({ hash: client.secureModeHash(context()) });
  else if (command === 'track') { client.track(rest[0], context()); say({ done: 'track' }); }
  else if (command === 'flush') { await client.flush(); say({ done: 'flush' }); }
  else if (command === 'close') break;
}
client.close();
process.exit(0);
