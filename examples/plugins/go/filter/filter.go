// Package filter decides about events. It knows nothing of WebAssembly, so `go test` can test it.
package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Verdict is what becomes of an event.
type Verdict int

// An event is forwarded as received, dropped, or replaced.
const (
	Keep Verdict = iota
	Drop
	Replace
)

// Members of a JSON object, whose values stay as they were written: numbers keep all their digits.
type object = map[string]json.RawMessage

var (
	redacted  = json.RawMessage(`"[redacted]"`)
	dropKinds []string
	attribute *string
)

// Configure reads { "drop_kinds": ["click"], "attribute": "email" }; `attribute` needs the grant `event-bodies`.
func Configure(text string) error {
	settings := object{}
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		return err
	}
	for name, value := range settings {
		var err error
		switch {
		case name == "drop_kinds" && value[0] == '[':
			// Of pointers, because `null` would leave a text empty.
			var kinds []*string
			err = json.Unmarshal(value, &kinds)
			for _, kind := range kinds {
				if kind == nil {
					return errors.New("`drop_kinds` must be a list of texts")
				}
				dropKinds = append(dropKinds, *kind)
			}
		case name == "attribute" && value[0] == '"':
			err = json.Unmarshal(value, &attribute)
		case name == "drop_kinds" || name == "attribute":
			err = errors.New("must be a list of texts, or a text")
		default:
			return fmt.Errorf("`%s` is unknown; there are `drop_kinds` and `attribute`", name)
		}
		if err != nil {
			return fmt.Errorf("`%s`: %w", name, err)
		}
	}
	return nil
}

// Judge decides about an event and returns its new body if it is replaced. The body is empty without the grant.
func Judge(kind string, hasKind bool, body string) (Verdict, []byte, error) {
	received += perEvent + len(body)
	if hasKind && slices.Contains(dropKinds, kind) {
		return Drop, nil, nil
	}
	if attribute == nil {
		return Keep, nil, nil
	}
	if body == "" {
		// A filter that cannot read an event must not let it pass.
		return Keep, nil, errors.New("no event bodies: the plugin needs the grant `event-bodies`")
	}
	event := object{}
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		return Keep, nil, err
	}
	isChanged := redact(event, "context", redactContexts)
	isChanged = redact(event, "user", redactContext) || isChanged
	if !isChanged {
		return Keep, nil, nil
	}
	return Replace, encode(event), nil
}

// Applies a redaction to a member that is an object; returns whether it has changed something.
func redact(parent object, name string, redaction func(object) bool) bool {
	value := parent[name]
	if len(value) == 0 || value[0] != '{' {
		return false
	}
	child := object{}
	// The text around it was parsed, so this is valid.
	if json.Unmarshal(value, &child) != nil || !redaction(child) {
		return false
	}
	parent[name] = encode(child)
	return true
}

// Redacts a context, or those inside a context of kind `multi`.
func redactContexts(context object) bool {
	var kind string
	if json.Unmarshal(context["kind"], &kind) != nil || kind != "multi" {
		return redactContext(context)
	}
	isChanged := false
	for name := range context {
		isChanged = redact(context, name, redactContext) || isChanged
	}
	return isChanged
}

// Redacts one context; users of older SDKs have attributes in `custom` as well.
func redactContext(context object) bool {
	isChanged := redact(context, "custom", redactAttribute)
	return redactAttribute(context) || isChanged
}

func redactAttribute(attributes object) bool {
	if _, isThere := attributes[*attribute]; !isThere {
		return false
	}
	attributes[*attribute] = redacted
	return true
}

// Returns JSON text without the escapes for HTML that json.Marshal adds.
func encode(value object) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		// Values were parsed before, and names are texts.
		panic(err)
	}
	return bytes.TrimSpace(text.Bytes())
}
