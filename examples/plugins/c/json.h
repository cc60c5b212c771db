// JSON text that is read in place: values are spans of the text, and nothing is copied but strings with escapes.
//
// It relies on the gateway for validity: bodies of events and configurations are valid JSON in UTF-8. Truncated text and
// wrong brackets are noticed all the same, so no span ever leaves the text.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A part of a text.
typedef struct {
  const uint8_t *at;
  const uint8_t *end;
} span;

// A position between the members of an object, or the elements of an array.
typedef struct {
  span rest;
  uint8_t closing;
  bool is_first;
  // The text is not what it should be; there are no further members.
  bool is_invalid;
} cursor;

// Returns whether a value is an object, an array, or a string.
bool is_object(span value);
bool is_array(span value);
bool is_string(span value);

// Returns a cursor before the first member of an object, or element of an array.
cursor inside(span value);

// Moves to the next member; returns false at the end. The name is a JSON string.
bool next_member(cursor *cursor, span *name, span *value);

// Moves to the next element; returns false at the end.
bool next_element(cursor *cursor, span *value);

// Returns whether a JSON string has this text, however it is escaped.
bool has_text(span string, span text);

// Writes the text of a JSON string, in UTF-8, to memory that has room for the string; returns the length.
size_t decode(span string, uint8_t *to);

// Returns a span of a C string.
span text_of(const char *text);

#endif
