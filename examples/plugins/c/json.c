#include "json.h"

#include <stdlib.h>
#include <string.h>

static bool starts_with(span value, uint8_t first) { return value.at < value.end && *value.at == first; }

bool is_object(span value) { return starts_with(value, '{'); }

bool is_array(span value) { return starts_with(value, '['); }

bool is_string(span value) { return starts_with(value, '"'); }

static bool is_space(uint8_t byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }

static bool ends_word(uint8_t byte) {
  return byte == ',' || byte == ':' || byte == '}' || byte == ']' || is_space(byte);
}

static void skip_space(span *rest) {
  while (rest->at < rest->end && is_space(*rest->at)) {
    rest->at++;
  }
}

static bool take(span *rest, uint8_t byte) {
  skip_space(rest);
  if (!starts_with(*rest, byte)) {
    return false;
  }
  rest->at++;
  return true;
}

// Moves behind a string that begins here; returns false if it does not end.
static bool skip_string(span *rest) {
  for (rest->at++; rest->at < rest->end; rest->at++) {
    if (*rest->at == '"') {
      rest->at++;
      return true;
    }
    if (*rest->at == '\\') {
      rest->at++;
    }
  }
  rest->at = rest->end;
  return false;
}

// Moves behind a value; without recursion, so that deep nesting does not need a deep stack.
static bool take_value(span *rest, span *value) {
  skip_space(rest);
  value->at = rest->at;
  size_t depth = 0;
  do {
    skip_space(rest);
    if (rest->at >= rest->end) {
      return false;
    }
    uint8_t byte = *rest->at;
    if (byte == '"') {
      if (!skip_string(rest)) {
        return false;
      }
    } else if (byte == '{' || byte == '[') {
      depth++;
      rest->at++;
    } else if (byte == '}' || byte == ']') {
      if (depth == 0) {
        return false;
      }
      depth--;
      rest->at++;
    } else if (byte == ',' || byte == ':') {
      if (depth == 0) {
        return false;
      }
      rest->at++;
    } else {
      // A number, `true`, `false` or `null`.
      do {
        rest->at++;
      } while (rest->at < rest->end && !ends_word(*rest->at));
    }
  } while (depth > 0);
  value->end = rest->at;
  return true;
}

cursor inside(span value) {
  cursor cursor = {value, is_object(value) ? '}' : ']', true, value.at >= value.end};
  cursor.rest.at++;
  return cursor;
}

// Moves to where the next member or element begins; returns false at the end.
static bool next(cursor *cursor) {
  if (cursor->is_invalid || take(&cursor->rest, cursor->closing)) {
    return false;
  }
  if (!cursor->is_first && !take(&cursor->rest, ',')) {
    cursor->is_invalid = true;
    return false;
  }
  cursor->is_first = false;
  return true;
}

bool next_element(cursor *cursor, span *value) {
  if (!next(cursor)) {
    return false;
  }
  cursor->is_invalid = !take_value(&cursor->rest, value);
  return !cursor->is_invalid;
}

bool next_member(cursor *cursor, span *name, span *value) {
  if (!next(cursor)) {
    return false;
  }
  cursor->is_invalid = !take_value(&cursor->rest, name) || !is_string(*name) || !take(&cursor->rest, ':') ||
                       !take_value(&cursor->rest, value);
  return !cursor->is_invalid;
}

// Returns the number of four hexadecimal digits, or 0 if there are fewer.
static uint32_t hex(const uint8_t *at, const uint8_t *end) {
  uint32_t number = 0;
  for (int digit = 0; digit < 4; digit++, at++) {
    if (at >= end) {
      return 0;
    }
    uint8_t lower = *at | 0x20;
    number = number << 4 | (uint32_t)(lower >= 'a' ? lower - 'a' + 10 : *at - '0');
  }
  return number;
}

static uint8_t *encode(uint32_t code, uint8_t *to) {
  if (code < 0x80) {
    *to++ = (uint8_t)code;
  } else if (code < 0x800) {
    *to++ = (uint8_t)(0xc0 | code >> 6);
    *to++ = (uint8_t)(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *to++ = (uint8_t)(0xe0 | code >> 12);
    *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    *to++ = (uint8_t)(0x80 | (code & 0x3f));
  } else {
    *to++ = (uint8_t)(0xf0 | code >> 18);
    *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    *to++ = (uint8_t)(0x80 | (code & 0x3f));
  }
  return to;
}

size_t decode(span string, uint8_t *to) {
  static const char escapes[] = "b\bf\fn\nr\rt\t";
  uint8_t *begin = to;
  const uint8_t *at = string.at + 1;
  const uint8_t *end = string.end - 1;
  while (at < end) {
    if (*at != '\\') {
      *to++ = *at++;
      continue;
    }
    at++;
    if (*at == 'u') {
      uint32_t code = hex(at + 1, end);
      at += 5;
      // A pair of surrogates is one character; a lone one becomes the replacement character.
      if (code >= 0xd800 && code < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        uint32_t low = hex(at + 2, end);
        if (low >= 0xdc00 && low < 0xe000) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
          at += 6;
        }
      }
      to = encode(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, to);
      continue;
    }
    const char *escape = strchr(escapes, *at);
    *to++ = escape != NULL && *at >= 'a' ? (uint8_t)escape[1] : *at;
    at++;
  }
  return (size_t)(to - begin);
}

bool has_text(span string, span text) {
  size_t length = (size_t)(string.end - string.at) - 2;
  size_t wanted = (size_t)(text.end - text.at);
  if (memchr(string.at + 1, '\\', length) == NULL) {
    return length == wanted && memcmp(string.at + 1, text.at, length) == 0;
  }
  // No escape is shorter than what it stands for.
  if (wanted > length) {
    return false;
  }
  uint8_t *decoded = malloc(length);
  bool is_same = decoded != NULL && decode(string, decoded) == wanted && memcmp(decoded, text.at, wanted) == 0;
  free(decoded);
  return is_same;
}

span text_of(const char *text) {
  span span = {(const uint8_t *)text, (const uint8_t *)text + strlen(text)};
  return span;
}
