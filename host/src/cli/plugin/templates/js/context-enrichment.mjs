// Tells flags the country that a proxy has found.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let kind;

export const lifecycle = {
  init(config) {
    ({ kind } = JSON.parse(config));
  },
};

export const contextEnrichment = {
  enrich(request, context) {
    const [country] = request.header("x-country");
    if (country === undefined || !context.kinds().includes(kind)) {
      return [];
    }
    // The value is JSON; the header is a list of bytes, of which a country code has only ASCII.
    return [{ kind, name: "country", value: bytes(JSON.stringify(String.fromCharCode(...country))) }];
  },
};

function bytes(text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
