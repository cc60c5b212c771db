// One of the vendor's browser SDKs, unmodified, in a page in a real browser, driven line by line (see lines.mjs).
//
// Arguments: base URL, environment ID, `legacy` or `current`, path of the browser. The page comes from a port of its own, so
// that everything it asks of the gateway crosses origins; `requests` tells of preflights, too. More facts: {"origin":…} of the
// page, first of all, and {"problem":…} for each error on the browser's console.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { obey, say } from './lines.mjs';

const [base, environment, sdk, executablePath] = process.argv.slice(2);
const [bundle, script] = {
  legacy: ['launchdarkly-js-client-sdk/dist/ldclient.min.js', '<script src="/sdk.js"></script>'],
  current: [
    '@launchdarkly/js-client-sdk/dist/index.js',
    '<script type="module">import * as LDClient from "/sdk.js"; window.LDClient = LDClient;</script>',
  ],
}[sdk];
const files = {
  '/': ['text/html', `<!doctype html><title>shop</title><link rel="icon" href="data:,">${script}`],
  '/sdk.js': ['text/javascript', readFileSync(new URL(`./node_modules/${bundle}`, import.meta.url))],
};
const site = createServer(({ url }, response) => {
  const [type, content] = files[url] ?? ['text/plain', ''];
  response.writeHead(content ? 200 : 404, { 'Content-Type': `${type}; charset=utf-8` }).end(content);
});
await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${site.address().port}`;

// The browser sees to its own sandbox, except that it cannot have one as root.
const browser = await chromium.launch({
  executablePath,
  chromiumSandbox: process.getuid() !== 0,
  args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
});
let context;
let page;
let requests = [];

// Opens the page in a browser that remembers nothing, and notes what it sends to `gateway`.
async function loadsPage(gateway) {
  await context?.close();
  context = await browser.newContext();
  page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && say({ problem: message.text() }));
  page.on('pageerror', (error) => {
    // Nothing that the SDK does may end in an uncaught exception; whoever waits for a fact hears that we are gone.
    console.error(error);
    process.exit(1);
  });
  await page.exposeFunction('say', say);
  const network = await context.newCDPSession(page);
  await network.send('Network.enable');
  requests = [];
  network.on('Network.requestWillBeSent', ({ request }) => {
    const url = new URL(request.url);
    if (url.origin === gateway) requests.push(`${request.method} ${url.pathname}${url.search}`);
  });
  await page.goto(origin);
}

// These run in the page. `window.client` is the SDK's own client.
const opens = {
  async legacy({ url, key, context, options }) {
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url };
    const client = (window.client = LDClient.initialize(key, context, { ...uris, streaming: true, ...options }));
    client.on('error', () => {}); // or it goes to the console
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

say({ origin });
await obey({
  async open(text) {
    const { url = base, key = environment, context, ...options } = JSON.parse(text);
    await loadsPage(url);
    return page.evaluate(opens[sdk], { url, key, context, options });
  },
  evaluate: (flag) => page.evaluate((flag) => ({ value: client.variation(flag, 'default') }), flag),
  detail: (flag) => page.evaluate((flag) => ({ detail: client.variationDetail(flag, 'default') }), flag),
  all: () => page.evaluate(() => ({ all: client.allFlags() })),
  identify: (context) => page.evaluate(async (context) => ({ done: await client.identify(context) }), JSON.parse(context)),
  track: (event) => page.evaluate((event) => ({ done: client.track(event) ?? 'track' }), event),
  flush: () => page.evaluate(async () => ({ done: (await client.flush()) ?? 'flush' })),
  requests: async () => ({ requests }),
});
await browser.close();
process.exit(0);
