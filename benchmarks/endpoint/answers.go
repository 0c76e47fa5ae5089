package main

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

const (
	// Sentences of an answer. They are a numbered list, so that a stage that asks for a list gets one.
	answerItems = 5
	// Length of the text that all answers are cut from.
	poolWords = 20_000
	// English text has about so many words per token.
	wordsPerToken = 0.75
)

var syllables = []string{
	"ba", "con", "der", "el", "fi", "gan", "hu", "in", "jo", "kel", "lo", "men", "nor", "o", "pre",
	"qua", "ris", "sta", "ti", "un", "ver", "wi", "ex", "ya", "zon",
}

// answers writes completions. Each is cut out of one long text, at a place that the request alone
// decides: answers differ as texts do, cost next to nothing, and are the same in every run.
type answers struct {
	model  string
	tokens int
	text   string
	// Where words begin.
	starts []int
	// Words of one list item.
	words int
}

func newAnswers(model string, tokens int) *answers {
	random := rand.New(rand.NewPCG(7, 7))
	a := &answers{model: model, tokens: tokens}
	a.words = max(1, int(float64(tokens)*wordsPerToken)/answerItems)
	var text strings.Builder
	for range poolWords {
		a.starts = append(a.starts, text.Len())
		for range 1 + random.IntN(3) {
			text.WriteString(syllables[random.IntN(len(syllables))])
		}
		text.WriteByte(' ')
	}
	a.text = text.String()
	return a
}

// content appends the text of the answer to a request with this hash, as it stands in JSON.
func (a *answers) content(out []byte, hash uint64) []byte {
	for item := range answerItems {
		hash = hash*6364136223846793005 + 1442695040888963407
		first := int((hash >> 33) % uint64(len(a.starts)-a.words-1))
		if item > 0 {
			out = append(out, '\\', 'n')
		}
		out = strconv.AppendInt(out, int64(item+1), 10)
		out = append(out, ". "...)
		out = append(out, a.text[a.starts[first]:a.starts[first+a.words]-1]...)
	}
	return out
}

// body returns a whole chat completion, with the damage that fault asks for.
func (a *answers) body(hash uint64, promptTokens int, fault string) []byte {
	out := make([]byte, 0, 4096)
	out = append(out, `{"id":"chatcmpl-`...)
	out = strconv.AppendUint(out, hash, 16)
	out = append(out, `","object":"chat.completion","created":1767225600,"model":"`...)
	out = append(out, a.model...)
	if fault == faultEmpty {
		out = append(out, `","choices":[],`...)
	} else {
		out = append(out, `","choices":[{"index":0,"message":{"role":"assistant","content":`...)
		if fault == faultNull {
			out = append(out, "null"...)
		} else {
			out = append(out, '"')
			out = a.content(out, hash)
			out = append(out, '"')
		}
		out = append(out, `},"logprobs":null,"finish_reason":"stop"}],`...)
	}
	completion := a.tokens
	if fault == faultUsage {
		promptTokens, completion = -promptTokens, 1<<40
	}
	out = append(out, `"usage":{"prompt_tokens":`...)
	out = strconv.AppendInt(out, int64(promptTokens), 10)
	out = append(out, `,"completion_tokens":`...)
	out = strconv.AppendInt(out, int64(completion), 10)
	out = append(out, `,"total_tokens":`...)
	out = strconv.AppendInt(out, int64(promptTokens+completion), 10)
	return append(out, "}}"...)
}
