// Hides flags whose keys begin with a prefix from SDKs that do not evaluate themselves.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let prefix;

export const lifecycle = {
  init(config) {
    prefix = JSON.parse(config).hide_prefix;
  },
};

export const evaluationTransform = {
  transform(request, context, evaluated) {
    const edits = [];
    evaluated.flags().forEach((flag, index) => {
      if (flag.startsWith(prefix)) {
        edits.push({ tag: "drop", val: index });
      }
    });
    return edits;
  },
};
