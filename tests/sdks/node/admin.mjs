// The admin page in a real browser, controlled by lines of text (see lines.mjs).
//
// Arguments: address of the page, nothing, path of the browser. Commands: `look` for the visible content of the page,
// `screenshot PATH`, `close`. More facts: {"problem":…} for each error on the browser's console.
import { chromium } from 'playwright-core';
import { obey, say } from './lines.mjs';

const [url, , executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  chromiumSandbox: process.getuid() !== 0,
  args: ['--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
const problems = [];
page.on('pageerror', (error) => problems.push(String(error)));
page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
await page.goto(url);
say({ open: true });

await obey({
  look: async () => {
    const look = await page.evaluate(() => {
      const table = (id) => [...document.querySelectorAll(`#${id} tr`)].map((row) => [...row.cells].map((cell) => cell.innerText));
      const verdict = document.querySelector('#ready');
      return {
        verdict: verdict.innerText,
        tone: verdict.classList.item(1),
        color: getComputedStyle(verdict).color,
        title: document.title,
        icon: decodeURIComponent(document.querySelector('#icon').href),
        environments: table('environments'),
        plugins: table('plugins'),
        folder: document.querySelector('#folder').innerText,
        changes: [...document.querySelectorAll('#changes li')].map((item) => item.innerText.replace(item.querySelector('time')?.innerText ?? '', '')),
      };
    });
    return { look: { ...look, problems } };
  },
  screenshot: async (path) => ({ done: Boolean(await page.screenshot({ path, fullPage: true })) }),
});
await browser.close();
process.exit(0);
