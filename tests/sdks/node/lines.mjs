// The protocol of the drivers of client-side SDKs: one line in is a command, one line out is a fact.
//
// Commands: `open OPTIONS-JSON`, `evaluate FLAG`, `detail FLAG`, `all`, `identify CONTEXT-JSON`, `track EVENT`, `flush`,
// `requests` for what was sent to the gateway since `open`, `close`. Facts, one JSON object a line: {"ready":true} or
// {"ready":false,"error":…}, {"changed":FLAG}, {"value":…}, {"detail":…}, {"all":…}, {"requests":["METHOD /path",…]},
// {"done":…}.
// `open` may come again and begins anew. Its options are `context`, those of the SDK by the names that most SDKs have for
// them, and `url` and `key` in place of the arguments of the driver.
import { createInterface } from 'node:readline';

export const say = (fact) => process.stdout.write(JSON.stringify(fact) + '\n');

// Carries out commands until `close` or the end of input. Each is a function of the rest of its line.
export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [command] = line.split(' ', 1);
    if (command === 'close') return;
    say(await commands[command](line.slice(command.length + 1)));
  }
}
