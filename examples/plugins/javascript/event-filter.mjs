// An event filter in JavaScript: drops events of configured kinds and blanks one attribute of contexts.
//
// Configuration: { "drop_kinds": ["click"], "attribute": "email" }; `attribute` needs the grant `event-bodies`.
//
// It runs in QuickJS, which has neither Node's modules nor TextEncoder. Throwing { tag, val } is the `err` of the
// interface's `result`; the tag is one of invalid-input, temporary and internal.

import { enabled, log } from "yardarm:plugin/log@0.1.0";
import { counterAdd } from "yardarm:plugin/metrics@0.1.0";

const REDACTED = "[redacted]";
let dropKinds = new Set();
let attribute;

export const lifecycle = {
  init(text) {
    const config = JSON.parse(text);
    for (const key of Object.keys(config)) {
      if (key !== "drop_kinds" && key !== "attribute") {
        throw invalid(`\`${key}\` is unknown; there are \`drop_kinds\` and \`attribute\``);
      }
    }
    const kinds = config.drop_kinds ?? [];
    if (!Array.isArray(kinds) || !kinds.every((kind) => typeof kind === "string")) {
      throw invalid("`drop_kinds` must be a list of texts");
    }
    if (config.attribute !== undefined && typeof config.attribute !== "string") {
      throw invalid("`attribute` must be a text");
    }
    dropKinds = new Set(kinds);
    attribute = config.attribute;
  },
};

export const eventFilter = {
  filter(request, batch) {
    const edits = batch.events().map(judge).filter((edit) => edit !== undefined);
    const dropped = edits.filter((edit) => edit.tag === "drop").length;
    if (dropped > 0) {
      counterAdd("dropped_total", dropped, []);
      if (enabled("debug")) {
        log("debug", `${dropped} of ${batch.len()} events dropped in ${request.environment()}`);
      }
    }
    return edits;
  },
};

// Returns the edit of the event at an index; nothing if it is forwarded as received.
function judge(event, index) {
  if (dropKinds.has(event.kind)) {
    return { tag: "drop", val: index };
  }
  if (attribute === undefined) {
    return undefined;
  }
  if (event.body === undefined || event.body === null) {
    // A filter that cannot read an event must not let it pass.
    throw invalid("no event bodies: the plugin needs the grant `event-bodies`");
  }
  // Only changed events are serialized again, because JSON.stringify writes 1.0 as 1.
  const body = JSON.parse(event.body);
  return redact(body) ? { tag: "replace", val: { index, bodies: [utf8(JSON.stringify(body))] } } : undefined;
}

// Blanks the attribute in all contexts of an event; returns whether there was one.
function redact(body) {
  let changed = false;
  for (const context of contexts(body)) {
    for (const attributes of [context, context.custom]) {
      if (isObject(attributes) && Object.hasOwn(attributes, attribute)) {
        attributes[attribute] = REDACTED;
        changed = true;
      }
    }
  }
  return changed;
}

// Returns the context, or those inside a context of kind `multi`, and the `user` of older SDKs.
function contexts(body) {
  const { context, user } = body;
  const found = isObject(context) && context.kind === "multi" ? Object.values(context) : [context];
  return [...found, user].filter(isObject);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(text) {
  return { tag: "invalid-input", val: text };
}

// Encodes a text as UTF-8, like TextEncoder.
function utf8(text) {
  const bytes = [];
  for (const character of text) {
    const code = character.codePointAt(0);
    if (code < 0x80) {
      bytes.push(code);
    } else if (code < 0x800) {
      bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    } else {
      bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 0x3f), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    }
  }
  return new Uint8Array(bytes);
}
