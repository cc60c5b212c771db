// The protocol of the drivers of client-side SDKs: one line of input is a command, one line of output is a fact.
//
// Commands: `open OPTIONS-JSON`, `evaluate FLAG`, `detail FLAG`, `all`, `identify CONTEXT-JSON`, `track EVENT`, `flush`,
// `requests` for the requests to the gateway since `open`, `close`. Facts, one JSON object per line: {"ready":true} or
// {"ready":false,"error":…}, {"changed":FLAG}, {"value":…}, {"detail":…}, {"all":…}, {"requests":["METHOD /path",…]},
// {"done":…}.
// `open` starts over when repeated. Its options are `context`, options of the SDK by the names that most SDKs use, and `url`
// and `key` in place of the arguments of the driver.
import { createInterface } from 'node:readline';

export const say = (fact) => process.stdout.write(JSON.stringify(fact) + '\n');

// Runs commands until `close` or the end of input. Each is a function of the rest of its line.
export async function obey(commands) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [command] = line.split(' ', 1);
    if (command === 'close') return;
    say(await commands[command](line.slice(command.length + 1)));
  }
}
