// Hides flags whose keys begin with a prefix from all SDKs.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let prefix;

export const lifecycle = {
  init(config) {
    prefix = JSON.parse(config).hide_prefix;
  },
};

export const payloadTransform = {
  transform(items) {
    const edits = [];
    items.changed().forEach((item, index) => {
      if (item.kind === "flag" && !item.deleted && item.key.startsWith(prefix)) {
        edits.push({ tag: "drop", val: index });
      }
    });
    return edits;
  },
};
