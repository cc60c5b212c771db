// Opens the admin page in a real browser and prints its visible content.
//
// Arguments: address of the page, path of the browser, and a path for a screenshot.
import { chromium } from 'playwright-core';

const [url, executablePath, screenshot] = process.argv.slice(2);
const say = (fact) => process.stdout.write(JSON.stringify(fact) + '\n');
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
const problems = [];
page.on('pageerror', (error) => problems.push(String(error)));
page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
await page.goto(url);
await page.waitForFunction(() => document.querySelector('#ready').textContent === 'ready', null, { timeout: 20000 });
await page.waitForFunction(() => document.querySelectorAll('#plugins tr').length > 0 && document.querySelectorAll('#environments tr').length > 0);
// Flags of the demo change every few seconds, and the page shows it.
await page.waitForFunction(() => document.querySelector('#changes').textContent.includes('changed, version'), null, { timeout: 20000 });
if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
const text = (selector) => page.$eval(selector, (node) => node.innerText);
say({
  ready: await text('#ready'),
  environments: await text('#environments'),
  plugins: await text('#plugins'),
  changes: await text('#changes'),
  problems,
});
await browser.close();
