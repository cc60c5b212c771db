// One of the vendor's browser SDKs, unmodified, in a page in a real browser, controlled by lines of text (see
// lines.mjs).
//
// Arguments: base URL, environment ID, `legacy` or `current`, path of the browser. Additional facts: {"origin":…} of the
// page, before all others, and {"problem":…} (see site.mjs).
import { obey, say } from './lines.mjs';
import { opensSite } from './site.mjs';

const [base, environment, sdk, executablePath] = process.argv.slice(2);
const [bundle, script] = {
  legacy: ['launchdarkly-js-client-sdk/dist/ldclient.min.js', '<script src="/sdk.js"></script>'],
  current: [
    '@launchdarkly/js-client-sdk/dist/index.js',
    '<script type="module">import * as LDClient from "/sdk.js"; window.LDClient = LDClient;</script>',
  ],
}[sdk];
const site = await opensSite({ executablePath, bundle, script });
let page;

// These functions run in the page. `window.client` is the SDK's own client.
const opens = {
  async legacy({ url, key, context, options }) {
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url };
    const client = (window.client = LDClient.initialize(key, context, { ...uris, streaming: true, ...options }));
    client.on('error', () => {}); // otherwise it is written to the console
    try {
      await client.waitForInitialization(30);
    } catch (error) {
      return { ready: false, error: String(error) };
    }
    client.on('change', (changes) => Object.keys(changes).forEach((changed) => say({ changed })));
    return { ready: true };
  },
  async current({ url, key, context, options: { hash, evaluationReasons: withReasons, ...options } }) {
    const uris = { baseUri: url, streamUri: url, eventsUri: url };
    const client = LDClient.createClient(key, context, { ...uris, streaming: true, withReasons, ...options });
    window.client = client;
    const { status, error } = await client.start({ timeout: 30, identifyOptions: { hash } });
    if (status !== 'complete') return { ready: false, error: `${status}: ${error}` };
    client.on('change', (context, flags) => flags.forEach((changed) => say({ changed })));
    return { ready: true };
  },
};

say({ origin: site.origin });
await obey({
  async open(text) {
    const { url = base, key = environment, context, ...options } = JSON.parse(text);
    page = await site.loadsPage(url);
    return page.evaluate(opens[sdk], { url, key, context, options });
  },
  evaluate: (flag) => page.evaluate((flag) => ({ value: client.variation(flag, 'default') }), flag),
  detail: (flag) => page.evaluate((flag) => ({ detail: client.variationDetail(flag, 'default') }), flag),
  all: () => page.evaluate(() => ({ all: client.allFlags() })),
  identify: (context) => page.evaluate(async (context) => ({ done: await client.identify(context) }), JSON.parse(context)),
  track: (event) => page.evaluate((event) => ({ done: client.track(event) ?? 'track' }), event),
  flush: () => page.evaluate(async () => ({ done: (await client.flush()) ?? 'flush' })),
  requests: async () => ({ requests: site.requests() }),
});
await site.close();
process.exit(0);
