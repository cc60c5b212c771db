// Decodes event streams with `eventsource-parser`, for a comparison. Each line of input is one stream: its pieces in
// hexadecimal digits, separated by commas. Each line of output contains its items: `m:TYPE:DATA:ID` for a message, in
// hexadecimal digits, `r:MILLISECONDS` for a reconnection time, `c` for a comment.
import { createInterface } from 'node:readline';
import { createParser } from 'eventsource-parser';

const hex = (text) => Buffer.from(text, 'utf8').toString('hex');

for await (const line of createInterface({ input: process.stdin })) {
  const yields = [];
  let last = '';
  const parser = createParser({
    onId: (id) => (last = id),
    onEvent: ({ event, data }) => yields.push(`m:${hex(event ?? 'message')}:${hex(data)}:${hex(last)}`),
    onRetry: (time) => yields.push(`r:${time < 2 ** 53 ? time : 'large'}`),
    onComment: () => yields.push('c'),
  });
  // The parser strips the byte order mark itself.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (const piece of line.split(',')) parser.feed(decoder.decode(Buffer.from(piece, 'hex'), { stream: true }));
  console.log(yields.join(' '));
}
