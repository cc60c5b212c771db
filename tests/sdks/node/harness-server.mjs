// Harness' Node server SDK, unmodified, controlled by lines of text: commands on standard input, facts on standard output.
//
// Arguments: base URL, API key. Commands: `evaluate FLAG TARGET-JSON` for flags of any kind, `flush` for metrics,
// `requests` for the requests since the start, `close`, which sends metrics, too. Facts, one JSON object per line:
// {"ready":true} or {"ready":false,"error":…}, then {"changed":FLAG}, {"value":…}, {"requests":["METHOD /path",…]},
// {"done":…}.
import { subscribe } from 'node:diagnostics_channel';
import { mock } from 'node:test';
import { Client, Event } from '@harnessio/ff-nodejs-server-sdk';
import { obey, say } from './lines.mjs';

const [base, key] = process.argv.slice(2);
const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
const requests = [];
subscribe('http.client.request.start', ({ request }) => requests.push(`${request.method} ${request.path}`));

// The SDK posts metrics every 60 seconds and no sooner, with its only interval; `flush` advances that time for
// intervals.
const METRICS_INTERVAL = 60_000;
mock.timers.enable({ apis: ['setInterval'] });

const client = new Client(key, { baseUrl: base, eventsUrl: base, logger: quiet });
let isReady = false;
client.on(Event.CHANGED, (changed) => isReady && say({ changed }));
client.waitForInitialization().then(
  () => {
    isReady = true;
    say({ ready: true });
  },
  (error) => say({ ready: false, error: String(error) }),
);

// The SDK must be called with the right kind; with a wrong one it returns the default and counts nothing.
async function evaluate(flag, target) {
  const none = Symbol('default');
  for (const ask of ['boolVariation', 'stringVariation', 'numberVariation', 'jsonVariation']) {
    const value = await client[ask](flag, target, none);
    if (value !== none) return value;
  }
  return 'default';
}

await obey({
  async evaluate(text) {
    const [flag] = text.split(' ', 1);
    return { value: await evaluate(flag, JSON.parse(text.slice(flag.length + 1))) };
  },
  async flush() {
    mock.timers.tick(METRICS_INTERVAL);
    return { done: 'flush' };
  },
  requests: async () => ({ requests }),
});
client.close();
// The program ends when the last metrics are posted, or cannot be.
setTimeout(() => process.exit(0), 5000).unref();
