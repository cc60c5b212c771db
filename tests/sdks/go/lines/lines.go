// Package lines is the protocol of the drivers: one line in is a command, one line out is a fact, which is a JSON object.
package lines

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"sync"
)

// Fact is what a driver says.
type Fact map[string]any

var lock sync.Mutex

// Say writes a fact. Any goroutine may.
func Say(fact Fact) {
	line, err := json.Marshal(fact)
	if err != nil {
		panic(err)
	}
	lock.Lock()
	defer lock.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

// Obey carries out commands until `close` or the end of input. Each is a function of the rest of its line.
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

// Parse splits a word from the JSON behind it.
func Parse[T any](rest string) (string, T) {
	word, text, _ := strings.Cut(rest, " ")
	return word, Object[T](text)
}

// Object reads JSON.
func Object[T any](text string) T {
	var object T
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		panic(err)
	}
	return object
}
