// Package lines is the protocol of the drivers: one line of input is a command, one line of output is a fact, which is
// a JSON object.
package lines

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"sync"
)

// Fact is one line of a driver's output.
type Fact map[string]any

var lock sync.Mutex

// Say writes a fact. It may be called from any goroutine.
func Say(fact Fact) {
	line, err := json.Marshal(fact)
	if err != nil {
		panic(err)
	}
	lock.Lock()
	defer lock.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// Obey runs commands until `close` or the end of input. Each is a function of the rest of its line.
func Obey(commands map[string]func(rest string) Fact) {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		command, rest, _ := strings.Cut(input.Text(), " ")
		if command == "close" {
			return
		}
		Say(commands[command](rest))
	}
}

// Parse splits a word from the JSON after it.
func Parse[T any](rest string) (string, T) {
	word, text, _ := strings.Cut(rest, " ")
	return word, Object[T](text)
}

// Object parses JSON.
func Object[T any](text string) T {
	var object T
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		panic(err)
	}
	return object
}
