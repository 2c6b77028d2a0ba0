package rank

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// words splits a text into lower-case words without accents; names such as getUserByID, list_pull_requests and
// HTTP2Server too. Where a script has no spaces between words, each two letters in a row are one.
func words(text string) []string { return split(text, true) }

// prose is words for a description: there, GitHub and JavaScript are one word each.
func prose(text string) []string { return split(text, false) }

func split(text string, names bool) []string {
	var list []string
	add := func(part []rune) {
		w := fold(part)
		if long := spelledOut(w); long != nil {
			list = append(list, long...)
		} else {
			list = append(list, w)
		}
	}
	var word []rune // as it is written, without marks
	flush := func() {
		switch {
		case len(word) == 0:
		case dense(word[0]):
			for i := range max(1, len(word)-1) {
				list = append(list, string(word[i:min(i+2, len(word))]))
			}
		case names || !unicode.IsUpper(word[0]):
			for _, part := range humps(word) {
				add(part)
			}
		default:
			add(word)
		}
		word = word[:0]
	}
	for _, r := range norm.NFC.String(text) {
		switch {
		case unicode.IsMark(r): // an accent of its own, or a vowel
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			flush()
		default:
			if len(word) > 0 && dense(r) != dense(word[0]) {
				flush()
			}
			word = append(word, r)
		}
	}
	flush()
	return list
}

// humps splits camelCase: before a capital that follows a small letter, and before the last capital of several, but for
// the plural (URLs).
func humps(word []rune) (parts [][]rune) {
	begin := 0
	for i := 1; i < len(word); i++ {
		if unicode.IsUpper(word[i]) && (!unicode.IsUpper(word[i-1]) ||
			i+1 < len(word) && unicode.IsLower(word[i+1]) && (word[i+1] != 's' || i+2 < len(word))) {
			parts = append(parts, word[begin:i])
			begin = i
		}
	}
	return append(parts, word[begin:])
}

// dense says if a letter's script has no spaces between words, or, as Korean's, joins particles to them.
func dense(r rune) bool {
	return r >= 0x0e00 && (r == 'ー' || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar))
}

// strokes are letters with something that Unicode takes for a part of them, and not for an accent; and ligatures.
var strokes = strings.NewReplacer("æ", "ae", "œ", "oe", "ß", "ss", "đ", "d", "ð", "d", "ħ", "h", "ı", "i", "ł", "l", "ø", "o", "ŧ", "t")

// fold is a word in small letters, without accents.
func fold(word []rune) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(strings.ToLower(string(word))) {
		if !unicode.IsMark(r) {
			b.WriteRune(r)
		}
	}
	return strokes.Replace(b.String())
}
