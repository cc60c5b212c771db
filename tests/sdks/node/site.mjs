// A page in a real browser, for drivers of browser SDKs.
//
// The page is served from another port, so that all its requests to the gateway are cross-origin. Reports {"problem":…} for
// each error on the browser's console.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { say } from './lines.mjs';

// Starts a browser. `bundle` is the SDK below `node_modules`, served as `/sdk.js`; `script` loads it into the page.
export async function opensSite({ executablePath, bundle, script }) {
  const files = {
    '/': ['text/html', `<!doctype html><title>shop</title><link rel="icon" href="data:,">${script}`],
    '/sdk.js': ['text/javascript', readFileSync(new URL(`./node_modules/${bundle}`, import.meta.url))],
  };
  const server = createServer(({ url }, response) => {
    const [type, content] = files[url] ?? ['text/plain', ''];
    response.writeHead(content ? 200 : 404, { 'Content-Type': `${type}; charset=utf-8` }).end(content);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;

  // The browser sets up its own sandbox, but cannot have one as root.
  const browser = await chromium.launch({
    executablePath,
    chromiumSandbox: process.getuid() !== 0,
    args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
  });
  let context;
  let requests = [];

  return {
    origin,
    // Requests of the page to the gateway, including preflights.
    requests: () => requests,
    // Opens the page in a browser without a profile, and records its requests to `gateway`. `prepare` is called with
    // the page first.
    async loadsPage(gateway, prepare) {
      await context?.close();
      context = await browser.newContext();
      const page = await context.newPage();
      page.on('console', (message) => message.type() === 'error' && say({ problem: message.text() }));
      page.on('pageerror', (error) => {
        // The SDK must not cause an uncaught exception; the driver exits, which the test detects.
        console.error(error);
        process.exit(1);
      });
      await page.exposeFunction('say', say);
      await prepare?.(page);
      const network = await context.newCDPSession(page);
      await network.send('Network.enable');
      requests = [];
      network.on('Network.requestWillBeSent', ({ request }) => {
        const url = new URL(request.url);
        if (url.origin === gateway) requests.push(`${request.method} ${url.pathname}${url.search}`);
      });
      await page.goto(origin);
      return page;
    },
    close: () => browser.close(),
  };
}
