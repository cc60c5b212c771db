// Harness' JavaScript client SDK, unmodified, in a page in a real browser, controlled by lines of text.
//
// Arguments: base URL, API key, path of the browser. Commands: `open TARGET-JSON`, which starts over when repeated,
// `evaluate FLAG`, `all` for every flag that the SDK has reported, `flush` for metrics, `later SECONDS` to advance the clock
// of the page, `requests` for the requests since `open`, `close`. After 30 seconds of the page's clock without an event the
// SDK opens another stream. Facts, one JSON object per line: {"origin":…} of the page, before all others, {"ready":true} or
// {"ready":false,"error":…}, then {"changed":FLAG}, {"stream":"connected"} and similar ones, {"value":…}, {"all":…},
// {"requests":["METHOD /path",…]}, {"done":…}, {"problem":…} (see site.mjs).
import { obey, say } from './lines.mjs';
import { opensSite } from './site.mjs';

const [base, key, executablePath] = process.argv.slice(2);
const site = await opensSite({
  executablePath,
  bundle: '@harnessio/ff-javascript-client-sdk/dist/sdk.client-iife.js',
  script: '<script src="/sdk.js"></script>',
});
let page;

// This function runs in the page. `window.client` is the SDK's own client, `window.flags` the names that it has
// reported.
async function open({ url, key, target }) {
  const { initialize, Event } = HarnessFFSDK;
  const logger = { debug() {}, info() {}, warn() {}, error() {} };
  const client = initialize(key, target, { baseUrl: url, eventUrl: url, logger });
  window.client = client;
  window.flags = new Set();
  client.on(Event.CONNECTED, () => say({ stream: 'connected' }));
  client.on(Event.DISCONNECTED, () => say({ stream: 'disconnected' }));
  try {
    const first = await new Promise((resolve, reject) => {
      client.on(Event.READY, resolve);
      client.on(Event.ERROR_AUTH, reject);
    });
    Object.keys(first).forEach((flag) => flags.add(flag));
  } catch (error) {
    return { ready: false, error: String(error) };
  }
  client.on(Event.CHANGED, ({ flag, deleted }) => {
    if (deleted) flags.delete(flag);
    else flags.add(flag);
    say({ changed: flag });
  });
  return { ready: true };
}

async function passes(seconds) {
  await page.clock.fastForward(1000 * seconds);
  return { done: `${seconds} s` };
}

say({ origin: site.origin });
await obey({
  async open(target) {
    page = await site.loadsPage(base, (page) => page.clock.install());
    return page.evaluate(open, { url: base, key, target: JSON.parse(target) });
  },
  evaluate: (flag) => page.evaluate((flag) => ({ value: client.variation(flag, 'default') }), flag),
  all: () => page.evaluate(() => ({ all: Object.fromEntries([...flags].map((it) => [it, client.variation(it, 'default')])) })),
  // The SDK posts metrics every 60 seconds and no sooner.
  flush: () => passes(61),
  later: (seconds) => passes(Number(seconds)),
  requests: async () => ({ requests: site.requests() }),
});
await site.close();
process.exit(0);
