// Drops events of some kinds.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let dropKinds = new Set();

export const lifecycle = {
  init(config) {
    dropKinds = new Set(JSON.parse(config).drop_kinds);
  },
};

export const eventFilter = {
  filter(request, events) {
    const edits = [];
    events.kinds().forEach((kind, index) => {
      if (dropKinds.has(kind)) {
        edits.push({ tag: "drop", val: index });
      }
    });
    return edits;
  },
};
