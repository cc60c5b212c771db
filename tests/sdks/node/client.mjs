// The vendor's Node client SDK, unmodified, controlled by lines of text (see lines.mjs). Arguments: base URL,
// environment ID.
import { subscribe } from 'node:diagnostics_channel';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ld from 'launchdarkly-node-client-sdk';
import { obey, say } from './lines.mjs';

const [base, environment] = process.argv.slice(2);
const quiet = { error() {}, warn() {}, info() {}, debug() {} };
// The SDK stores data in a folder.
const memory = mkdtempSync(join(tmpdir(), 'node-client-'));
let client;
let requests = [];
subscribe('http.client.request.start', ({ request }) => requests.push(`${request.method} ${request.path}`));

await obey({
  async open(options) {
    const { url = base, key = environment, context, ...rest } = JSON.parse(options);
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url };
    await client?.close();
    requests = [];
    client = ld.initialize(key, context, { ...uris, streaming: true, logger: quiet, localStoragePath: memory, ...rest });
    client.on('error', () => {}); // otherwise it is written to the console
    try {
      await client.waitForInitialization(30);
    } catch (error) {
      return { ready: false, error: String(error) };
    }
    client.on('change', (changes) => Object.keys(changes).forEach((changed) => say({ changed })));
    return { ready: true };
  },
  evaluate: async (flag) => ({ value: client.variation(flag, 'default') }),
  detail: async (flag) => ({ detail: client.variationDetail(flag, 'default') }),
  all: async () => ({ all: client.allFlags() }),
  identify: async (context) => ({ done: await client.identify(JSON.parse(context)) }),
  track: async (event) => ({ done: client.track(event) ?? 'track' }),
  flush: async () => ({ done: (await client.flush()) ?? 'flush' }),
  requests: async () => ({ requests }),
});
await client?.close();
rmSync(memory, { recursive: true, force: true });
process.exit(0);
