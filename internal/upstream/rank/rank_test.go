package rank

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"getUserByID":                          "get user by id",
		"list_pull-requests":                   "list pull requests",
		"HTTP2Server":                          "http2 server",
		"listURLs":                             "list urls",
		"merge PRs":                            "merge pull request",
		"Verspätung, Größe":                    "verspatung grosse",
		"Verspa\u0308tung":                     "verspatung", // as macOS writes names
		"Tiếng Việt, Łódź, Ærø":                "tieng viet lodz aero",
		"\u1112\u1161\u11ab\u1100\u1173\u11af": "한글",
		"查询12306余票信息":                          "查询 12306 余票 票信 信息",
		"票":                                    "票",
		"請求書を作成":                               "請求 求書 書を を作 作成",
		"メール送信":                                "メー ール ル送 送信",
		"मौसम बताओ":                            "मसम बतओ",
		"\x1b[31mred\x07":                      "31mred",
		"broken \xff\xfe utf8":                 "broken utf8",
		"":                                     "",
	} {
		if got := strings.Join(words(text), " "); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	if got := strings.Join(prose("In GitHub, channelID and JavaScript"), " "); got != "in github channel id and javascript" {
		t.Errorf("the words of a description are %q", got)
	}
}

// index is one of a server with these names and descriptions.
func index(tools ...string) *Index {
	x := New()
	var documents []Document
	for i := 0; i < len(tools); i += 2 {
		documents = append(documents, Document{Name: tools[i], Text: tools[i+1]})
	}
	x.Set("s", documents)
	return x
}

func found(x *Index, query string) (names []string) {
	for _, h := range x.Search(query, 100) {
		names = append(names, h.Name)
	}
	return names
}

// TestSearchOneWordOrTwo: how many words it is, is a matter of taste.
func TestSearchOneWordOrTwo(t *testing.T) {
	x := index("getCardsByListId", "", "HassTurnOn", "", "pull_request", "", "send_email", "", "to-do", "", "todo", "", "evaluate", "Run JavaScript",
		"other", "", "another", "", "more", "")
	for query, want := range map[string]string{
		"getcards": "getCardsByListId", "hassturnon": "HassTurnOn", "pullrequest": "pull_request", "PR": "pull_request",
		"e-mail": "send_email", "java script": "evaluate", "javascript": "evaluate", "to-do": "todo",
	} {
		if got := found(x, query); !slices.Contains(got, want) {
			t.Errorf("%q finds %q, and not %s", query, got, want)
		}
	}
}

// TestLongNames: what is kept of a name is bounded, however many words it has.
func TestLongNames(t *testing.T) {
	var name strings.Builder
	for i := range 200 {
		fmt.Fprintf(&name, "w%d_", i)
	}
	x := index(name.String(), "", "other", "")
	if found(x, "w0w1w2") == nil {
		t.Error("its first words are not found")
	}
	if n := len(x.run); n > maxRuns*maxRun {
		t.Errorf("there are %d runs of words", n)
	}
}

// TestSearchIsTheSameEachTime, also where a word is only known by others.
func TestSearchIsTheSameEachTime(t *testing.T) {
	var tools []string
	for i := range 20 {
		tools = append(tools, fmt.Sprintf("fetch_%d", i), "It fetches", fmt.Sprintf("view_thing_%d", i), "Retrieve a thing")
	}
	tools = append(tools, "obtain", "Once", "describe_page", "Show it")
	want := index(tools...).Search("read a website thing", 10)
	for range 50 {
		if got := index(tools...).Search("read a website thing", 10); !slices.Equal(got, want) {
			t.Fatalf("it was %v, and is %v", want, got)
		}
	}
}

// TestSearchIsNotStuffed: a description that says everything many times does not go before what a tool is called.
func TestSearchIsNotStuffed(t *testing.T) {
	everything := "create issue delete repository search web send email "
	x := index("create_issue", "Create an issue in a repository, with a title and a text", "delete_repository", "", "send_email", "",
		"search_web", "", "evil", strings.Repeat(everything, 80), "evil_too", strings.Repeat("issue create ", 200))
	for query, want := range map[string]string{
		"create an issue with a title": "create_issue", "delete the repository": "delete_repository", "send email now": "send_email",
	} {
		if got := found(x, query); len(got) == 0 || got[0] != want {
			t.Errorf("%q finds %q first", query, got)
		}
	}
}

// TestSearchByASentence: what is said besides does not hide what is asked for, wherever in the alphabet it is.
func TestSearchByASentence(t *testing.T) {
	var tools []string
	for i := range 50 {
		tools = append(tools, fmt.Sprintf("other%d", i), "")
	}
	x := index(append(tools, "update_widget", "Update a widget")...)
	query := "after a long conversation between all departments everybody finally agreed that as of Monday somebody must update the widget"
	if got := found(x, query); !slices.Contains(got, "update_widget") {
		t.Errorf("a sentence finds %q", got)
	}
}
