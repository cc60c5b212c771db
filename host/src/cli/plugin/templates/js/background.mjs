// Admits callers that present a token of a list, which is downloaded now and then: one token per line.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

import { send } from "yardarm:plugin/http@0.1.0";
import { get, version } from "yardarm:plugin/shared@0.1.0";

let url;

export const lifecycle = {
  init(config) {
    ({ url } = JSON.parse(config));
  },
};

export const background = {
  refresh() {
    const tokens = new Set(text(download().body).split("\n").filter((line) => line !== ""));
    return [...tokens].map((key) => ({ key, value: new Uint8Array() }));
  },
};

export const requestAuth = {
  authenticate(request) {
    if (Number(version()) === 0) {
      // There was no list yet. SDKs come back, which they would not do if they were denied as forbidden.
      return { tag: "deny", val: { class: "unavailable", responseHeaders: [] } };
    }
    if (request.header("x-token").some((token) => get(text(token)) !== null)) {
      return { tag: "allow", val: { identity: { principal: "visitor", tags: [] }, responseHeaders: [] } };
    }
    return { tag: "deny", val: { class: "forbidden", responseHeaders: [] } };
  },
};

function download() {
  let response;
  try {
    response = send({ method: "GET", url, headers: [] });
  } catch (error) {
    throw { tag: "temporary", val: `the list cannot be downloaded: ${JSON.stringify(error.payload ?? error)}` };
  }
  if (response.status !== 200) {
    throw { tag: "temporary", val: `the list cannot be downloaded: status ${response.status}` };
  }
  return response;
}

// Converts bytes, of which tokens have only ASCII; QuickJS has no TextDecoder.
function text(bytes) {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}
