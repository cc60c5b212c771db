// Posts which flags have changed: the environment and then one item per line.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

import { send } from "yardarm:plugin/http@0.1.0";

let url;

export const lifecycle = {
  init(config) {
    ({ url } = JSON.parse(config));
  },
};

export const changeListener = {
  changed(changes) {
    const lines = [changes.environment, ...changes.items.map((item) => `${item.kind} ${item.key}`)];
    const headers = [{ name: "content-type", value: bytes("text/plain") }];
    let response;
    try {
      response = send({ method: "POST", url, headers, body: bytes(lines.map((line) => `${line}\n`).join("")) });
    } catch (error) {
      throw { tag: "temporary", val: `not posted: ${JSON.stringify(error.payload ?? error)}` };
    }
    if (response.status < 200 || response.status > 299) {
      // The gateway calls again, with later changes, after a pause.
      throw { tag: "temporary", val: `not accepted: status ${response.status}` };
    }
  },
};

// Converts to UTF-8; QuickJS has no TextEncoder.
function bytes(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (character) => character.charCodeAt(0));
}
