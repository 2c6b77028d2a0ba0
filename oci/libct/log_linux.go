//go:build linux && cgo

package libct

import (
	"io"
	"log/slog"
	"sync"

	"github.com/sirupsen/logrus"
)

// libcontainer logs through logrus' global logger, to stderr unless told otherwise.
var logrusOnce sync.Once

func redirectLogrus(l *slog.Logger) {
	logrusOnce.Do(func() {
		logrus.SetOutput(io.Discard)
		logrus.AddHook(slogHook{l})
	})
}

type slogHook struct{ l *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h slogHook) Fire(e *logrus.Entry) error {
	// Its warnings are of no use to a user: what matters comes back as an error.
	h.l.Debug("libcontainer", "level", e.Level.String(), "message", e.Message)
	return nil
}
