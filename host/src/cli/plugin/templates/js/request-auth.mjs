// Admits callers that present a token.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let token;

export const lifecycle = {
  init(config) {
    ({ token } = JSON.parse(config));
  },
};

export const requestAuth = {
  authenticate(request) {
    if (request.header("x-token").some((value) => text(value) === token)) {
      return { tag: "allow", val: { identity: { principal: "visitor", tags: [] }, responseHeaders: [] } };
    }
    return { tag: "deny", val: { class: "forbidden", responseHeaders: [] } };
  },
};

// Converts the bytes of a header; QuickJS has no TextDecoder.
function text(bytes) {
  return String.fromCharCode(...bytes);
}
